"""A model against an older one, on the same rows: is it better, and which texts get another label?"""

import hashlib
from typing import Any

import numpy as np

from newsdesk.build.data.rows import Row
from newsdesk.build.errors import RecipeError
from newsdesk.build.evaluation import metrics, significance
from newsdesk.build.evaluation.examine import Examiner, Heard
from newsdesk.build.evaluation.markdown import cell, table
from newsdesk.server.contract import QUALITIES

CHANGES = {
    "right_to_wrong": "right before, wrong now",
    "wrong_to_right": "wrong before, right now",
    "wrong_to_other": "wrong before, wrong otherwise now",
}
SHOWN = 20
"""Texts of each kind of change that the page lists; report.json has them all."""


def check(new: Examiner, old: Examiner) -> None:
    """Raise RecipeError, with the labels that only one of them has, unless both models say the same labels."""
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


def compare(new: Examiner, old: Examiner, heard: Heard, rows: list[Row], seed: int) -> dict[str, Any]:
    """Return both models' figures on the rows at every quality, and the rows whose label changes.

    `heard` is what the new model's members said of the rows. The models have the same labels, in any order.
    """
    before = old.hear(rows, "test rows, the old model")
    places = [old.manifest.labels.index(label) for label in new.manifest.labels]
    points = {}
    for quality in QUALITIES:
        ours = new.replay(heard, quality).probabilities
        theirs = old.replay(before, quality).probabilities[:, places]
        points[quality] = _point(ours, theirs, heard.labels, rows, new.manifest.labels, seed)
    return {"model": old.manifest.name, "target": old.target, "rows": len(rows), "points": points}


def _point(
    ours: np.ndarray, theirs: np.ndarray, truth: np.ndarray, rows: list[Row], labels: list[str], seed: int
) -> dict[str, Any]:
    sides = {"new": ours, "old": theirs}
    of_labels = {side: metrics.per_label(of_side, truth) for side, of_side in sides.items()}
    return {
        **{side: _accuracy(of_side, truth, seed) for side, of_side in sides.items()},
        "mcnemar": significance.mcnemar(ours, theirs, truth),
        "per_label": [
            {"label": label, "rows": of_new["rows"], "new": of_new["recall"], "old": of_old["recall"]}
            for label, of_new, of_old in zip(labels, of_labels["new"], of_labels["old"], strict=True)
        ],
        "changed": _changed(ours, theirs, truth, rows, labels),
    }


def _accuracy(probabilities: np.ndarray, truth: np.ndarray, seed: int) -> dict[str, Any]:
    low, high = significance.interval(metrics.accuracy, probabilities, truth, seed=seed)
    return {"accuracy": metrics.accuracy(probabilities, truth), "accuracy_interval": [low, high]}


def _changed(
    ours: np.ndarray, theirs: np.ndarray, truth: np.ndarray, rows: list[Row], labels: list[str]
) -> dict[str, list[dict[str, Any]]]:
    """Return the rows whose label changes by the kind of the change, those first of which the new model is surest."""
    now, then = ours.argmax(-1), theirs.argmax(-1)
    kinds = {
        "right_to_wrong": (then == truth) & (now != truth),
        "wrong_to_right": (then != truth) & (now == truth),
        "wrong_to_other": (then != truth) & (now != truth) & (now != then),
    }
    changed: dict[str, list[dict[str, Any]]] = {}
    for kind, among in kinds.items():
        places = np.flatnonzero(among)
        places = places[np.argsort(-ours.max(-1)[places], kind="stable")]
        changed[kind] = [
            {
                "row": int(i) + 1,
                "id": hashlib.sha256(rows[i].text.encode(errors="surrogatepass")).hexdigest()[:16],
                "label": labels[truth[i]],
                "old": labels[then[i]],
                "new": labels[now[i]],
                "probability": float(ours[i].max()),
                "text": rows[i].text,
            }
            for i in places
        ]
    return changed


def without_texts(compared: dict[str, Any]) -> dict[str, Any]:
    """Return the comparison with rows named by number and id alone."""
    points = {}
    for quality, point in compared["points"].items():
        changed = {
            kind: [{name: value for name, value in row.items() if name != "text"} for row in rows]
            for kind, rows in point["changed"].items()
        }
        points[quality] = {**point, "changed": changed}
    return {**compared, "points": points}


def summary(compared: dict[str, Any]) -> list[str]:
    """Return a line a quality: both accuracies, McNemar's p, and how many texts change."""
    return [
        f"{quality}: {point['old']['accuracy']:.2%} before, {point['new']['accuracy']:.2%} now, "
        f"p {point['mcnemar']['p']:.3g}; "
        + ", ".join(f"{len(rows)} {CHANGES[kind]}" for kind, rows in point["changed"].items())
        for quality, point in compared["points"].items()
    ]


def render(compared: dict[str, Any]) -> str:
    """Return the section of the report."""
    heads = ["point", "old", "95 %", "new", "95 %", "only the new is right", "only the old", "p"]
    rows = []
    for quality, point in compared["points"].items():
        test = point["mcnemar"]
        sides = [text for side in ("old", "new") for text in _measured(point[side])]
        rows.append([quality, *sides, f"{test['only_first']}", f"{test['only_second']}", f"{test['p']:.3g}"])
    parts = [
        f"## Against the old model\n\n`{compared['model']}`, `{compared['target']}`, on the same "
        f"{compared['rows']:,} test rows. p is McNemar's, exact.",
        table(heads, rows),
        f"Of each label's rows, how many are answered right:\n\n{_label_table(compared['points'])}",
    ]
    for quality, point in compared["points"].items():
        parts += [_changes(quality, kind, changed) for kind, changed in point["changed"].items() if changed]
    return "\n\n".join(parts)


def _measured(side: dict[str, Any]) -> list[str]:
    low, high = side["accuracy_interval"]
    return [f"{side['accuracy']:.2%}", f"{low:.2%} to {high:.2%}"]


def _label_table(points: dict[str, Any]) -> str:
    heads = ["label", "rows", *(f"{quality}, {side}" for quality in points for side in ("old", "new"))]
    first, *_ = points.values()
    rows = []
    for place, of_label in enumerate(first["per_label"]):
        recalls = [f"{point['per_label'][place][side]:.2%}" for point in points.values() for side in ("old", "new")]
        rows.append([cell(of_label["label"]), f"{of_label['rows']:,}", *recalls])
    return table(heads, rows)


def _changes(quality: str, kind: str, changed: list[dict[str, Any]]) -> str:
    cut = f", the {SHOWN} surest" if len(changed) > SHOWN else ""
    rows = [
        [
            f"{row['row']}",
            f"`{row['id']}`",
            cell(row["label"]),
            cell(row["old"]),
            f"{cell(row['new'])} ({row['probability']:.1%})",
            cell(row.get("text", "")),
        ]
        for row in changed[:SHOWN]
    ]
    heads = ["row", "id", "label", "old", "new", "text"]
    return f"### {quality}: {len(changed):,} {CHANGES[kind]}{cut}\n\n{table(heads, rows)}"
