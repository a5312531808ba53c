"""The report of a built model: what it gets right, how sure it may be, what it costs, and where it fails."""

import json
from pathlib import Path

import msgspec
import numpy as np
from msgspec import Struct
from msgspec.structs import replace

from newsdesk.build.data import splits, views
from newsdesk.build.data.rows import Row
from newsdesk.build.evaluation import against as comparing
from newsdesk.build.evaluation import metrics, neighbours, plots
from newsdesk.build.evaluation.against import Comparison
from newsdesk.build.evaluation.attack import Attack
from newsdesk.build.evaluation.examine import Examiner, Replies
from newsdesk.build.evaluation.figures import (
    ByQuality,
    CascadeFigures,
    ClassifierScores,
    ErrorRow,
    OperatingPoint,
    PairTest,
    SlicePoint,
    StrangerPoint,
    VariantLine,
    Variants,
    WindowCounts,
)
from newsdesk.build.evaluation.markdown import cell, table
from newsdesk.server.contract import QUALITIES
from newsdesk.server.runtime.text import clean

SLICE_ROWS = 2000
"""Test rows that each view of them is read of, drawn by their content."""
ERRORS = 20
"""The most confident errors that are shown."""


class ModelReport(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The figures of a report. A part that nothing was examined for is left out of report.json."""

    model: str
    target: str
    labels: list[str]
    machine: str
    rows: int
    test: CascadeFigures
    windows: WindowCounts
    precisions: dict[str, Variants]
    """By member."""
    errors: list[ErrorRow]
    """The most confident ones at the quality "balanced", the surest first."""
    slices: dict[str, ByQuality[SlicePoint]]
    close_neighbours: int | None = None
    """Test rows with a close neighbour among the training rows."""
    without_close_neighbours: dict[str, float] | None = None
    """Accuracy on the other test rows, by quality."""
    strangers: dict[str, ByQuality[StrangerPoint]] | None = None
    """By the kind of text."""
    against: Comparison | None = None
    """The model against an older one."""


def evaluate(
    examiner: Examiner,
    test: list[Row],
    training: list[Row],
    outside: dict[str, list[Row]],
    strangers: dict[str, list[Row]],
    seed: int,
    machine: str,
    old: Examiner | None = None,
) -> ModelReport:
    """Return the report's figures on the test rows.

    Any of `training`, `outside` and `strangers` may be empty, and then its figures are left out.

    Args:
        examiner: of the model
        test: rows
        training: rows that are looked through for close neighbours of the test rows, and tell the attack which words
            speak for a label
        outside: rows of other sources with the same labels, by name
        strangers: texts that no label fits, by name
        seed: of draws
        machine: stands in the report
        old: another model: both are compared on the test rows

    Raises:
        RecipeError: the two models' labels differ.
    """
    if old:
        comparing.check(examiner, old)
    replies = examiner.ask(test, "test rows")
    close = neighbours.close([row.text for row in test], [row.text for row in training]) if training else None
    asked = {views.WHOLE: replies} | {
        name: examiner.ask(rows, name)
        for name, rows in slices(test, training, outside, len(examiner.manifest.labels), seed).items()
    }
    return ModelReport(
        model=examiner.manifest.name,
        target=examiner.target,
        labels=examiner.manifest.labels,
        machine=machine,
        rows=len(test),
        test=examiner.measure(replies, seed),
        windows=WindowCounts(rows_in_several=int((replies.windows > 1).sum()), most=int(replies.windows.max())),
        precisions=_precisions(examiner),
        errors=_errors(examiner, replies, test),
        slices={name: examiner.points(of, seed) for name, of in asked.items()},
        close_neighbours=None if close is None else int(close.sum()),
        without_close_neighbours=None if close is None else examiner.accuracies(replies, ~close),
        strangers=_strangers(examiner, asked, strangers) if strangers else None,
        against=comparing.compare(examiner, old, replies, test, seed) if old else None,
    )


def slices(
    test: list[Row], training: list[Row], outside: dict[str, list[Row]], labels: int, seed: int
) -> dict[str, list[Row]]:
    """Return the test rows in every view but whole, under the attack, and the rows of other sources.

    Args:
        test: rows
        training: rows whose words the attack knows; where there are none, nothing is attacked
        outside: rows of other sources, by name
        labels: how many labels there are
        seed: of draws
    """
    some = splits.draw(test, SLICE_ROWS, seed)
    by_name = {name: views.slices(some, {name: 1.0}, seed) for name in views.VIEWS if name != views.WHOLE}
    by_name[views.JOINED] = views.joined(test, len(some) // 10, seed)
    if training:
        attack = Attack.of(training, labels)
        by_name["attack"] = [Row(clean(attack(row, seed)), row.label) for row in some]
    return {name: rows for name, rows in (by_name | outside).items() if rows}


def _strangers(
    examiner: Examiner, asked: dict[str, Replies], strangers: dict[str, list[Row]]
) -> dict[str, ByQuality[StrangerPoint]]:
    """Return how well doubt tells each kind of stranger from the rows that have a label, by AUROC."""
    report = {}
    for name, rows in strangers.items():
        replies = examiner.ask(rows, name)
        points = {}
        for quality in QUALITIES:
            doubts = examiner.doubts(replies, quality)
            points[quality] = StrangerPoint(
                marked=examiner.marked(replies, quality),
                auroc={known: metrics.auroc(examiner.doubts(of, quality), doubts) for known, of in asked.items()},
            )
        report[name] = ByQuality(rows=len(rows), **points)
    return report


def without_texts(figures: ModelReport) -> ModelReport:
    """Return the figures with errors named by the number of their row alone: for those who may not have the rows."""
    return replace(
        figures,
        errors=[replace(error, text="") for error in figures.errors],
        against=comparing.without_texts(figures.against) if figures.against else None,
    )


def write(figures: ModelReport, folder: Path) -> Path:
    """Write report.json, report.md and the plots to `folder`; return the Markdown's path."""
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(msgspec.to_builtins(figures), indent=1, ensure_ascii=False)
    (folder / "report.json").write_text(text, encoding="utf-8")
    drawn = plots.draw(figures.test, figures.labels, folder)
    path = folder / "report.md"
    path.write_text(render(figures, drawn), encoding="utf-8")
    return path


def render(figures: ModelReport, images: list[str]) -> str:
    """Return the report as Markdown; every figure in it comes from `figures`."""
    test, labels = figures.test, figures.labels
    opening = (
        f"# {figures.model}: report\n\n{figures.rows:,} test rows, `{figures.target}`, on "
        f"{figures.machine}. Intervals are 95 % bootstrap intervals over rows. ECE: 15 bins; in brackets what as "
        "many rows show where every probability is true, on average and in 95 of 100 cases."
    )
    differences = _differences(test.mcnemar)
    precisions = _precision_table(figures.precisions)
    sections = [
        opening,
        f"## Operating points\n\n{_points(test.points)}",
        *([comparing.render(figures.against)] if figures.against else []),
        f"## Members alone\n\n{_alone(test.members)}",
        f"## Labels, balanced\n\n{_labels(test.points['balanced'], labels)}",
        f"## Differences\n\nRows on which one alone is right, and McNemar's exact p.\n\n{differences}",
        f"## Slices\n\n{_slice_table(figures)}",
        *([f"## Texts that no label fits\n\n{_stranger_table(figures.strangers)}"] if figures.strangers else []),
        f"## Precisions\n\nOf the validation rows, against the float graph.\n\n{precisions}",
        "## Plots\n\n" + "\n".join(f"![{name.removesuffix('.png')}]({name})" for name in images),
        f"## The most confident errors, balanced\n\n{_error_table(figures.errors)}",
    ]
    return "\n\n".join(sections) + "\n"


def _points(points: dict[str, OperatingPoint]) -> str:
    heads = [
        "point",
        "accuracy",
        "95 %",
        "macro F1",
        "log-loss",
        "Brier",
        "ECE (by chance)",
        "ms a text",
        "answered by",
    ]
    rows = [
        [
            quality,
            *_measured(point),
            f"{1e3 * point.seconds_per_text:.2f}",
            ", ".join(f"{name} {share:.1%}" for name, share in point.answered_by.items() if share),
        ]
        for quality, point in points.items()
    ]
    return table(heads, rows)


def _alone(members: dict[str, ClassifierScores]) -> str:
    heads = ["member", "accuracy", "95 %", "macro F1", "log-loss", "Brier", "ECE (by chance)"]
    return table(heads, [[name, *_measured(measured)] for name, measured in members.items()])


def _measured(measured: ClassifierScores) -> list[str]:
    low, high = measured.accuracy_interval
    mean, most = measured.calibration_by_chance
    return [
        f"{measured.accuracy:.2%}",
        f"{low:.2%} to {high:.2%}",
        f"{measured.macro_f1:.4f}",
        f"{measured.log_loss:.4f}",
        f"{measured.brier:.4f}",
        f"{measured.calibration_error:.2%} ({mean:.2%}, up to {most:.2%})",
    ]


def _labels(measured: ClassifierScores, labels: list[str]) -> str:
    heads = ["label", "rows", "precision", "recall", *(f"answered {label}" for label in labels)]
    rows = [
        [label, f"{of.rows:,}", f"{of.precision:.2%}", f"{of.recall:.2%}", *map(str, counts)]
        for label, of, counts in zip(labels, measured.per_label, measured.confusion, strict=True)
    ]
    return table(heads, rows)


def _differences(compared: list[PairTest]) -> str:
    rows = [
        [pair.first, pair.second, f"{pair.only_first}", f"{pair.only_second}", f"{pair.p:.3g}"] for pair in compared
    ]
    return table(["first", "second", "only the first", "only the second", "p"], rows)


def _slice_table(figures: ModelReport) -> str:
    note = ""
    if figures.without_close_neighbours is not None:
        apart = ", ".join(f"{quality} {value:.2%}" for quality, value in figures.without_close_neighbours.items())
        note = (
            f"{figures.close_neighbours:,} test rows have a close neighbour among the training rows (Jaccard of "
            f"word trigrams ≥ {neighbours.SIMILARITY}). Without them: {apart}.\n\n"
        )
    rows = [
        [name, f"{of.rows:,}", *(_point(of.at(quality)) for quality in QUALITIES)]
        for name, of in figures.slices.items()
    ]
    return f"{note}Accuracy, its 95 % interval, and the calibration error.\n\n" + table(
        ["slice", "rows", *QUALITIES], rows
    )


def _point(point: SlicePoint) -> str:
    low, high = point.accuracy_interval
    return f"{point.accuracy:.2%} ({low:.1%} to {high:.1%}), {point.calibration_error:.1%}"


def _stranger_table(strangers: dict[str, ByQuality[StrangerPoint]]) -> str:
    rows = []
    for name, of in strangers.items():
        for known in of.best.auroc:
            values = [f"{of.at(quality).auroc[known]:.3f}" for quality in QUALITIES]
            rows.append([name, f"{of.rows:,}", known, *values])
    shares = "; ".join(
        f"{name}: " + ", ".join(f"{quality} {of.at(quality).marked:.1%}" for quality in QUALITIES)
        for name, of in strangers.items()
        if of.best.marked is not None
    )
    opening = "AUROC of the doubt by which answers are marked, strangers against each slice.\n\n"
    return (
        opening
        + table(["strangers", "rows", "against", *QUALITIES], rows)
        + (f"\n\nMarked as unsure: {shares}." if shares else "")
    )


def _precision_table(precisions: dict[str, Variants]) -> str:
    lines = {member: msgspec.convert(variants, dict[str, VariantLine]) for member, variants in precisions.items()}
    rows = [
        [member, variant, f"{of.accuracy:.2%}", f"{of.agreement:.2%}", f"{of.mib}"]
        for member, variants in lines.items()
        for variant, of in variants.items()
        if not of.error
    ]
    return table(["member", "precision", "accuracy", "same label as float", "MiB"], rows)


def _error_table(errors: list[ErrorRow]) -> str:
    rows = [
        [f"{error.row}", error.label, f"{error.answered} ({error.probability:.1%})", cell(error.text)]
        for error in errors
    ]
    return table(["row", "label", "answered", "text"], rows)


def _errors(examiner: Examiner, replies: Replies, rows: list[Row]) -> list[ErrorRow]:
    probabilities = examiner.replay(replies, "balanced").probabilities
    named, labels = probabilities.argmax(-1), examiner.manifest.labels
    wrong = np.flatnonzero(named != replies.labels)
    first = wrong[np.argsort(-probabilities.max(-1)[wrong], kind="stable")][:ERRORS]
    return [
        ErrorRow(
            row=int(i) + 1,
            label=labels[rows[i].label],
            answered=labels[named[i]],
            probability=float(probabilities[i].max()),
            text=rows[i].text,
        )
        for i in first
    ]


def _precisions(examiner: Examiner) -> dict[str, Variants]:
    """Return what the build measured of every member's variants, from the manifest."""
    return {
        name: member_figures["variants"]
        for name, member_figures in examiner.manifest.figures.get("members", {}).items()
    }
