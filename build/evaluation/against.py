"""A model against an older one, on the same rows: is it better, and which texts get another label?"""

import hashlib

import numpy as np
from msgspec import Struct
from msgspec.structs import replace

from newsdesk.build.data.rows import Row
from newsdesk.build.errors import RecipeError
from newsdesk.build.evaluation import metrics, significance
from newsdesk.build.evaluation.examine import Examiner, Replies
from newsdesk.build.evaluation.figures import Interval
from newsdesk.build.evaluation.markdown import cell, table
from newsdesk.build.evaluation.significance import McNemar
from newsdesk.server.contract import QUALITIES
from newsdesk.server.runtime.arrays import Array

CHANGES = {
    "right_to_wrong": "right before, wrong now",
    "wrong_to_right": "wrong before, right now",
    "wrong_to_other": "wrong before, wrong otherwise now",
}
SHOWN = 20
"""Texts of each kind of change that the page lists; report.json has them all."""


class ModelAccuracy(Struct, frozen=True, kw_only=True):
    """A model's accuracy on the rows."""

    accuracy: float
    accuracy_interval: Interval


class LabelRecall(Struct, frozen=True, kw_only=True):
    """The share of a label's rows that each model answers right."""

    label: str
    rows: int
    new: float
    old: float


class ChangedRow(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A row whose label changes."""

    row: int
    """Its number, from 1."""
    id: str
    """16 hexadecimal digits of the text's SHA-256."""
    label: str
    """The row's own; `old` and `new` are what the models answer."""
    old: str
    new: str
    probability: float
    """The new model's, of its answer."""
    text: str = ""
    """Left out for those who may not have the rows."""


Changed = dict[str, list[ChangedRow]]
"""The rows whose label changes by the kind of the change, a key of CHANGES; those first that the new model is surest
of."""


class ComparedPoint(Struct, frozen=True, kw_only=True):
    """Both models at one quality. In the test the new model is the first."""

    new: ModelAccuracy
    old: ModelAccuracy
    mcnemar: McNemar
    per_label: list[LabelRecall]
    changed: Changed


class Comparison(Struct, frozen=True, kw_only=True):
    """A model against an old one, whose name and target these are."""

    model: str
    target: str
    rows: int
    points: dict[str, ComparedPoint]
    """By quality."""


def check(new: Examiner, old: Examiner) -> None:
    """Check that both models say the same labels.

    Raises:
        RecipeError: the labels that only one of them has.
    """
    ours, theirs = new.manifest.labels, old.manifest.labels
    only_new = [label for label in ours if label not in theirs]
    only_old = [label for label in theirs if label not in ours]
    if only_new or only_old:
        parts = [
            f"only the {which} has {', '.join(labels)}"
            for which, labels in (("new", only_new), ("old", only_old))
            if labels
        ]
        raise RecipeError(
            f"the models have different labels: {'; '.join(parts)}. Compare models of the same labels: rename them in "
            "the data (data.train.labels), and build anew."
        )


def compare(new: Examiner, old: Examiner, replies: Replies, rows: list[Row], seed: int) -> Comparison:
    """Return both models' figures on the rows at every quality, and the rows whose label changes.

    `replies` is what the new model's members said of the rows. The models have the same labels, in any order.
    """
    before = old.ask(rows, "test rows, the old model")
    places = [old.manifest.labels.index(label) for label in new.manifest.labels]
    points: dict[str, ComparedPoint] = {}
    for quality in QUALITIES:
        ours = new.replay(replies, quality).probabilities
        theirs = old.replay(before, quality).probabilities[:, places]
        points[quality] = _point(ours, theirs, replies.labels, rows, new.manifest.labels, seed)
    return Comparison(model=old.manifest.name, target=old.target, rows=len(rows), points=points)


def _point(ours: Array, theirs: Array, truth: Array, rows: list[Row], labels: list[str], seed: int) -> ComparedPoint:
    scores = zip(labels, metrics.per_label(ours, truth), metrics.per_label(theirs, truth), strict=True)
    return ComparedPoint(
        new=_accuracy(ours, truth, seed),
        old=_accuracy(theirs, truth, seed),
        mcnemar=significance.mcnemar(ours, theirs, truth),
        per_label=[
            LabelRecall(label=label, rows=of_new.rows, new=of_new.recall, old=of_old.recall)
            for label, of_new, of_old in scores
        ],
        changed=_changed(ours, theirs, truth, rows, labels),
    )


def _accuracy(probabilities: Array, truth: Array, seed: int) -> ModelAccuracy:
    return ModelAccuracy(
        accuracy=metrics.accuracy(probabilities, truth),
        accuracy_interval=significance.interval(metrics.accuracy, probabilities, truth, seed=seed),
    )


def _changed(ours: Array, theirs: Array, truth: Array, rows: list[Row], labels: list[str]) -> Changed:
    now, then = ours.argmax(-1), theirs.argmax(-1)
    kinds = {
        "right_to_wrong": (then == truth) & (now != truth),
        "wrong_to_right": (then != truth) & (now == truth),
        "wrong_to_other": (then != truth) & (now != truth) & (now != then),
    }
    changed: Changed = {}
    for kind, among in kinds.items():
        places = np.flatnonzero(among)
        places = places[np.argsort(-ours.max(-1)[places], kind="stable")]
        changed[kind] = [
            ChangedRow(
                row=int(i) + 1,
                id=hashlib.sha256(rows[i].text.encode(errors="surrogatepass")).hexdigest()[:16],
                label=labels[truth[i]],
                old=labels[then[i]],
                new=labels[now[i]],
                probability=float(ours[i].max()),
                text=rows[i].text,
            )
            for i in places
        ]
    return changed


def without_texts(compared: Comparison) -> Comparison:
    """Return the comparison with rows named by number and id alone."""
    points = {}
    for quality, point in compared.points.items():
        changed = {kind: [replace(row, text="") for row in rows] for kind, rows in point.changed.items()}
        points[quality] = replace(point, changed=changed)
    return replace(compared, points=points)


def summary(compared: Comparison) -> list[str]:
    """Return a line a quality: both accuracies, McNemar's p, and how many texts change."""
    return [
        f"{quality}: {point.old.accuracy:.2%} before, {point.new.accuracy:.2%} now, p {point.mcnemar.p:.3g}; "
        + ", ".join(f"{len(rows)} {CHANGES[kind]}" for kind, rows in point.changed.items())
        for quality, point in compared.points.items()
    ]


def render(compared: Comparison) -> str:
    """Return the section of the report."""
    heads = ["point", "old", "95 %", "new", "95 %", "only the new is right", "only the old", "p"]
    rows = []
    for quality, point in compared.points.items():
        test = point.mcnemar
        sides = *_measured(point.old), *_measured(point.new)
        rows.append([quality, *sides, f"{test.only_first}", f"{test.only_second}", f"{test.p:.3g}"])
    parts = [
        f"## Against the old model\n\n`{compared.model}`, `{compared.target}`, on the same "
        f"{compared.rows:,} test rows. p is McNemar's, exact.",
        table(heads, rows),
        f"Of each label's rows, how many are answered right:\n\n{_label_table(compared.points)}",
    ]
    for quality, point in compared.points.items():
        parts += [_changes(quality, kind, changed) for kind, changed in point.changed.items() if changed]
    return "\n\n".join(parts)


def _measured(side: ModelAccuracy) -> list[str]:
    low, high = side.accuracy_interval
    return [f"{side.accuracy:.2%}", f"{low:.2%} to {high:.2%}"]


def _label_table(points: dict[str, ComparedPoint]) -> str:
    heads = ["label", "rows", *(f"{quality}, {side}" for quality in points for side in ("old", "new"))]
    rows = []
    for of_label in zip(*(point.per_label for point in points.values()), strict=True):
        recalls = [f"{recall:.2%}" for at_point in of_label for recall in (at_point.old, at_point.new)]
        rows.append([cell(of_label[0].label), f"{of_label[0].rows:,}", *recalls])
    return table(heads, rows)


def _changes(quality: str, kind: str, changed: list[ChangedRow]) -> str:
    cut = f", the {SHOWN} surest" if len(changed) > SHOWN else ""
    rows = [
        [
            f"{row.row}",
            f"`{row.id}`",
            cell(row.label),
            cell(row.old),
            f"{cell(row.new)} ({row.probability:.1%})",
            cell(row.text),
        ]
        for row in changed[:SHOWN]
    ]
    heads = ["row", "id", "label", "old", "new", "text"]
    return f"### {quality}: {len(changed):,} {CHANGES[kind]}{cut}\n\n{table(heads, rows)}"
