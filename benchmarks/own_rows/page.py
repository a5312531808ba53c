"""The page of results: a table of accuracies, how the goals are kept, and a table of the other figures."""

from collections import defaultdict
from typing import Any

import numpy as np

from newsdesk.server.runtime import processor

LINEAR = "tfidf_lr", "tfidf_svm", "tfidf_nb"
NAMES = {
    "tfidf_lr": "TF-IDF + LR",
    "tfidf_svm": "TF-IDF + SVM",
    "tfidf_nb": "TF-IDF + NB",
    "frozen_lr": "frozen MiniLM + LR",
    "newsdesk": "newsdesk",
    "newsdesk_encoder": "newsdesk, MiniLM",
    "setfit": "SetFit",
}
ALLOWED = 0.005
"""Accuracy that newsdesk with an encoder may be behind the best column."""

Means = dict[tuple[str, int], dict[str, dict[str, Any]]]


def line(found: dict[str, Any]) -> str:
    """Return a row of results for a person."""
    rows = f"{found['rows']} a label" if found["rows"] else "all rows"
    return (
        f"{found['set']}, {rows}, draw {found['draw']}, {NAMES[found['column']]}: {found['accuracy']:.1%}, macro F1 "
        f"{found['macro_f1']:.1%}, {found['fit_seconds']} s, {found['answers_per_second']:,.0f} answers/s"
    )


def render(results: list[dict[str, Any]]) -> str:
    """Return the page of all results."""
    means = _means(results)
    columns = [column for column in NAMES if any(column in of for of in means.values())]
    tests = sorted({found["test_rows"] for found in results})
    parts = [
        "# Rows of your own",
        "Printed by `python -m benchmarks.own_rows`, see its help. Accuracy in per cent, the mean of the draws "
        f"(macro F1); at most {tests[-1]:,} test rows of a set. On {processor.describe()}; the machine did other work "
        "meanwhile, which seconds and answers a second tell of. Figures of one row are of the same draws.",
        _table(["set, rows a label", "rows", "draws", *(NAMES[c] for c in columns)], _accuracies(means, columns)),
        "## The goals",
        "\n".join(_goals(means)),
        "## Calibration, time and speed",
        "Expected calibration error in points / seconds of the fit / answers a second. A support vector machine has no "
        "probabilities.",
        _table(["set, rows a label", *(NAMES[c] for c in columns)], _costs(means, columns)),
    ]
    return "\n\n".join(parts) + "\n"


def _means(results: list[dict[str, Any]]) -> Means:
    parted: dict[tuple[str, int], dict[str, list[dict[str, Any]]]] = defaultdict(lambda: defaultdict(list))
    for found in results:
        parted[found["set"], found["rows"]][found["column"]].append(found)
    figures = "accuracy", "macro_f1", "calibration_error", "fit_seconds", "answers_per_second", "training_rows"
    means: Means = {}
    for key in sorted(parted, key=lambda key: (key[0], key[1] or 1 << 40)):
        of_columns = parted[key]
        shared = set.intersection(*({one["draw"] for one in found} for found in of_columns.values()))
        kept = {c: [one for one in found if one["draw"] in shared] for c, found in of_columns.items()}
        if shared:
            means[key] = {
                c: {
                    "draws": len(found),
                    **{
                        name: None if found[0][name] is None else float(np.mean([one[name] for one in found]))
                        for name in figures
                    },
                }
                for c, found in kept.items()
            }
    return means


def _accuracies(means: Means, columns: list[str]) -> list[list[str]]:
    lines = []
    for key, of_columns in means.items():
        best = max(of["accuracy"] for of in of_columns.values())
        some = next(iter(of_columns.values()))
        cells = []
        for column in columns:
            of = of_columns.get(column)
            shown = f"{of['accuracy']:.1%} ({of['macro_f1']:.1%})".replace("%", "") if of else ""
            cells.append(f"**{shown}**" if of and of["accuracy"] == best else shown)
        lines.append([_key(key), f"{some['training_rows']:,.0f}", str(some["draws"]), *cells])
    return lines


def _goals(means: Means) -> list[str]:
    """Return a line for each goal: how often it is kept, and where it is not."""
    below, behind, judged = [], [], [0, 0]
    for key, of in means.items():
        linear = [of[c]["accuracy"] for c in LINEAR if c in of]
        if linear and "newsdesk" in of:
            judged[0] += 1
            lost = max(linear) - of["newsdesk"]["accuracy"]
            below += [f"{_key(key)} by {100 * lost:.1f}"] if lost > 1e-9 else []
        if "newsdesk_encoder" in of:
            judged[1] += 1
            lost = max(one["accuracy"] for one in of.values()) - of["newsdesk_encoder"]["accuracy"]
            behind += [f"{_key(key)} by {100 * lost:.1f}"] if lost > ALLOWED + 1e-9 else []
    return [
        f"- newsdesk without an encoder is at least as right as the best linear column in {judged[0] - len(below)} of "
        f"{judged[0]} cases{'; points behind: ' + ', '.join(below) if below else ''}.",
        f"- newsdesk with an encoder is at most {100 * ALLOWED:g} points behind the best of all columns in "
        f"{judged[1] - len(behind)} of {judged[1]} cases{'; points behind: ' + ', '.join(behind) if behind else ''}.",
    ]


def _costs(means: Means, columns: list[str]) -> list[list[str]]:
    lines = []
    for key, of_columns in means.items():
        cells = []
        for column in columns:
            of = of_columns.get(column)
            if not of:
                cells.append("")
                continue
            error = "–" if of["calibration_error"] is None else f"{100 * of['calibration_error']:.1f}"
            cells.append(f"{error} / {of['fit_seconds']:.1f} / {of['answers_per_second']:,.0f}")
        lines.append([_key(key), *cells])
    return lines


def _key(key: tuple[str, int]) -> str:
    return f"{key[0]}, {key[1] or 'all'}"


def _table(heads: list[str], rows: list[list[str]]) -> str:
    marks = ["---", *["---:"] * (len(heads) - 1)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [heads, marks, *rows])
