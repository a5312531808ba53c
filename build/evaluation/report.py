"""The report of a built model: what it gets right, how sure it may be, what it costs, and where it fails."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from newsdesk.build.data.cleaning import Row
from newsdesk.build.evaluation import neighbours, perturb, plots
from newsdesk.build.evaluation.examine import Examiner, Heard
from newsdesk.server.runtime.text import clean

ERRORS = 20
"""The most confident errors that are shown."""


def evaluate(
    examiner: Examiner,
    test: list[Row],
    training: list[Row],
    outside: list[Row],
    seed: int,
    machine: str,
) -> dict[str, Any]:
    """Return the report's figures on the test rows.

    `training` rows are looked through for close neighbours of the test rows; `outside` are rows of another source with
    the same labels. Either may be empty, and then its figures are left out.
    """
    heard = examiner.hear(test, "test rows")
    figures: dict[str, Any] = {
        "model": examiner.manifest.name,
        "target": examiner.manifest.target,
        "labels": examiner.manifest.labels,
        "machine": machine,
        "rows": len(test),
        "test": examiner.measure(heard, seed),
        "windows": {"rows_in_several": int((heard.windows > 1).sum()), "most": int(heard.windows.max())},
        "precisions": _precisions(examiner),
        "errors": _errors(examiner, heard, test),
    }
    robust = {"as they are": examiner.accuracies(heard)}
    if training:
        apart = ~neighbours.close([row.text for row in test], [row.text for row in training])
        figures["close_neighbours"] = int((~apart).sum())
        robust["without close neighbours of training rows"] = examiner.accuracies(heard, apart)
    for name, change in perturb.variants(seed).items():
        changed = [Row(clean(change(row.text)) or row.text, row.label) for row in test]
        robust[name] = examiner.accuracies(examiner.hear(changed, name))
    if outside:
        found = examiner.hear(outside, "outside rows")
        robust[f"another source, {len(outside):,} rows"] = examiner.accuracies(found)
        figures["outside"] = examiner.measure(found, seed)
    figures["robustness"] = robust
    return figures


def without_texts(figures: dict[str, Any]) -> dict[str, Any]:
    """Return the figures with errors named by the number of their row alone: for those who may not have the rows."""
    errors = [{name: value for name, value in one.items() if name != "text"} for one in figures["errors"]]
    return {**figures, "errors": errors}


def write(figures: dict[str, Any], folder: Path) -> Path:
    """Write report.json, report.md and the plots to `folder`; return the Markdown's path."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "report.json").write_text(json.dumps(figures, indent=1, ensure_ascii=False), encoding="utf-8")
    drawn = plots.draw(figures, figures["labels"], folder)
    path = folder / "report.md"
    path.write_text(render(figures, drawn), encoding="utf-8")
    return path


def render(figures: dict[str, Any], images: list[str]) -> str:
    """Return the report as Markdown; every figure in it comes from `figures`."""
    test, labels = figures["test"], figures["labels"]
    opening = (
        f"# {figures['model']}: report\n\n{figures['rows']:,} test rows, `{figures['target']}`, on "
        f"{figures['machine']}. Intervals are 95 % bootstrap intervals over rows. ECE: 15 bins; in brackets what as "
        "many rows show where every probability is true, on average and in 95 of 100 cases."
    )
    differences = _differences(test["mcnemar"])
    precisions = _precision_table(figures["precisions"])
    sections = [
        opening,
        f"## Operating points\n\n{_points(test['points'])}",
        f"## Members alone\n\n{_alone(test['members'])}",
        f"## Labels, balanced\n\n{_labels(test['points']['balanced'], labels)}",
        f"## Differences\n\nRows on which one alone is right, and McNemar's exact p.\n\n{differences}",
        f"## Robustness\n\n{_robustness(figures)}",
        f"## Precisions\n\nOf the validation rows, against the float graph.\n\n{precisions}",
        "## Plots\n\n" + "\n".join(f"![{name.removesuffix('.png')}]({name})" for name in images),
        f"## The most confident errors, balanced\n\n{_error_table(figures['errors'])}",
    ]
    return "\n\n".join(sections) + "\n"


def _points(points: dict[str, Any]) -> str:
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
            *_measured(found),
            f"{1e3 * found['seconds_per_text']:.2f}",
            ", ".join(f"{name} {share:.1%}" for name, share in found["answered_by"].items() if share),
        ]
        for quality, found in points.items()
    ]
    return table(heads, rows)


def _alone(members: dict[str, Any]) -> str:
    heads = ["member", "accuracy", "95 %", "macro F1", "log-loss", "Brier", "ECE (by chance)"]
    return table(heads, [[name, *_measured(found)] for name, found in members.items()])


def _measured(found: dict[str, Any]) -> list[str]:
    low, high = found["accuracy_interval"]
    mean, most = found["calibration_by_chance"]
    return [
        f"{found['accuracy']:.2%}",
        f"{low:.2%} to {high:.2%}",
        f"{found['macro_f1']:.4f}",
        f"{found['log_loss']:.4f}",
        f"{found['brier']:.4f}",
        f"{found['calibration_error']:.2%} ({mean:.2%}, up to {most:.2%})",
    ]


def _labels(found: dict[str, Any], labels: list[str]) -> str:
    heads = ["label", "rows", "precision", "recall", *(f"answered {label}" for label in labels)]
    rows = [
        [label, f"{of['rows']:,}", f"{of['precision']:.2%}", f"{of['recall']:.2%}", *map(str, counts)]
        for label, of, counts in zip(labels, found["per_label"], found["confusion"], strict=True)
    ]
    return table(heads, rows)


def _differences(compared: list[dict[str, Any]]) -> str:
    rows = [
        [pair["first"], pair["second"], f"{pair['only_first']}", f"{pair['only_second']}", f"{pair['p']:.3g}"]
        for pair in compared
    ]
    return table(["first", "second", "only the first", "only the second", "p"], rows)


def _robustness(figures: dict[str, Any]) -> str:
    found = figures["robustness"]
    qualities = [*next(iter(found.values()))]
    rows = [[name, *(f"{of[quality]:.2%}" for quality in qualities)] for name, of in found.items()]
    note = (
        f"{figures['close_neighbours']:,} test rows have a close neighbour among the training rows (Jaccard of word "
        f"trigrams ≥ {neighbours.SIMILARITY}).\n\n"
        if "close_neighbours" in figures
        else ""
    )
    return note + table(["rows", *qualities], rows)


def _precision_table(precisions: dict[str, Any]) -> str:
    rows = [
        [member, variant, f"{of['accuracy']:.2%}", f"{of['agreement']:.2%}", f"{of['mib']}"]
        for member, variants in precisions.items()
        for variant, of in variants.items()
        if "error" not in of
    ]
    return table(["member", "precision", "accuracy", "same label as float", "MiB"], rows)


def _error_table(errors: list[dict[str, Any]]) -> str:
    rows = [
        [
            f"{one['row']}",
            one["label"],
            f"{one['answered']} ({one['probability']:.1%})",
            one.get("text", "").replace("|", "\\|"),
        ]
        for one in errors
    ]
    return table(["row", "label", "answered", "text"], rows)


def _errors(examiner: Examiner, heard: Heard, rows: list[Row]) -> list[dict[str, Any]]:
    probabilities = examiner.replay(heard, "balanced").probabilities
    named, labels = probabilities.argmax(-1), examiner.manifest.labels
    wrong = np.flatnonzero(named != heard.labels)
    first = wrong[np.argsort(-probabilities.max(-1)[wrong], kind="stable")][:ERRORS]
    return [
        {
            "row": int(i) + 1,
            "label": labels[rows[i].label],
            "answered": labels[named[i]],
            "probability": float(probabilities[i].max()),
            "text": rows[i].text,
        }
        for i in first
    ]


def _precisions(examiner: Examiner) -> dict[str, Any]:
    """Return what the build measured of every member's variants, from the manifest."""
    return {name: found["variants"] for name, found in examiner.manifest.figures.get("members", {}).items()}


def table(heads: list[str], rows: list[list[str]]) -> str:
    """Return a Markdown table."""
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [heads, ["---"] * len(heads), *rows])
