"""The page of results: a table of accuracies, how the goals are kept, and a table of the other figures."""

from collections import defaultdict

import numpy as np

from benchmarks.own_rows import sections
from benchmarks.own_rows.results import Line
from benchmarks.own_rows.sections import table as _table

SETFIT = "setfit"
BESIDE_SETFIT = "frozen_lr", "newsdesk_encoder", SETFIT
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

DECIDED = (
    "How newsdesk pools an encoder (`pooling`), holds its layer back (`frozen.costs`), tunes it (`contrastive`) and "
    "weighs members of few rows (`ensemble.even_rows`) was decided on none of these rows: on other draws of 16 rows a "
    "label of six or seven sets, judged by 300 more training rows of each. First draws that are reported showed where "
    "tuning lost (r8, sms_spam, customer_reviews); what mends it was chosen on others. The frozen MiniLM's states have "
    "length 1, as sentence-transformers gives them; of longer ones the same layer is right in 87.9 % on banking77, 16, "
    "and less often on most others. Uneven labels with an encoder were measured before encoders were tuned, with costs "
    "from 0.1 on and `even_rows` of 1."
)
"""The rows that chose the method."""
MACHINES = (
    "The cells of newsdesk with MiniLM, and of the frozen one at ag_news, 128, were measured on an AMD EPYC with VNNI "
    "and bf16, the others on one with neither. Both machines did other work meanwhile, which seconds and answers a "
    "second tell of."
)
"""The processors, which each cell does not name: to be changed with the cells."""
SETFIT_FITS = (
    "SetFit 1.2.0 on the same MiniLM, on one core. By default it takes an epoch over all pairs of rows, whose number "
    "grows with the square of the rows. Where that is too long, it took fewer batches of 16 pairs, drawn at random, "
    "half of them of one label (its `max_steps`). All columns are of the draws that SetFit was measured with."
)

Means = dict[tuple[str, int], dict[str, Line]]


def line(cell: Line) -> str:
    """Return a row of results for a person."""
    rows = f"{cell['rows']} a label" if cell["rows"] else "all rows"
    return (
        f"{cell['set']}, {rows}, draw {cell['draw']}, {NAMES[cell['column']]}: {cell['accuracy']:.1%}, macro F1 "
        f"{cell['macro_f1']:.1%}"
        + (f", {cell['fit_seconds']} s, {cell['answers_per_second']:,.0f} answers/s" if cell["fit_seconds"] else "")
    )


def render(results: list[Line], uneven: list[Line], flipped: list[Line]) -> str:
    """Return the page of all results: of cells, of uneven labels and of flipped ones."""
    means, beside_setfit = _means([line for line in results if line["column"] != SETFIT]), _beside_setfit(results)
    columns = [column for column in NAMES if any(column in of for of in means.values())]
    tests = max(line["test_rows"] for line in results)
    parts = [
        "# Rows of your own",
        "Printed by `python -m benchmarks.own_rows`, see its help. Accuracy in per cent, the mean of the draws "
        f"(macro F1); at most {tests:,} test rows of a set. {MACHINES} Figures of one line are of the same draws. "
        f"{DECIDED}",
        _table(["set, rows a label", "rows", "draws", *(NAMES[c] for c in columns)], _accuracies(means, columns)),
        "## The goals",
        "\n".join(_goals(means, beside_setfit)),
        *_setfit(beside_setfit, results),
        "## Calibration, time and speed",
        "Expected calibration error in points / seconds of the fit / answers a second. A support vector machine has no "
        "probabilities.",
        _table(["set, rows a label", *(NAMES[c] for c in columns)], _costs(means, columns)),
        *_outside(means, columns),
        *sections.imbalance(uneven),
        *sections.wrong_labels(flipped),
        "## Not measured",
        _missing(results),
    ]
    return "\n\n".join(parts) + "\n"


def _beside_setfit(results: list[Line]) -> Means:
    """Return means of the draws that SetFit was measured with, which are fewer, for it takes long."""
    kept = [line for line in results if line["column"] in BESIDE_SETFIT]
    return {key: of for key, of in _means(kept).items() if {SETFIT, "newsdesk_encoder"} <= {*of}}


def _means(results: list[Line]) -> Means:
    parted: dict[tuple[str, int], dict[str, list[Line]]] = defaultdict(lambda: defaultdict(list))
    for line in results:
        parted[line["set"], line["rows"]][line["column"]].append(line)
    figures = (
        "accuracy",
        "macro_f1",
        "calibration_error",
        "fit_seconds",
        "answers_per_second",
        "training_rows",
        "outside_auroc",
    )
    means: Means = {}
    for key in sorted(parted, key=lambda key: (key[0], key[1] or 1 << 40)):
        of_columns = parted[key]
        shared = set.intersection(*({line["draw"] for line in lines} for lines in of_columns.values()))
        kept = {c: [line for line in lines if line["draw"] in shared] for c, lines in of_columns.items()}
        if shared:
            means[key] = {
                column: {"draws": len(lines), **{figure: _mean(lines, figure) for figure in figures}}
                for column, lines in kept.items()
            }
    return means


def _mean(lines: list[Line], figure: str) -> float | None:
    """Return the mean of a figure; None where a line is without it."""
    values = [line[figure] for line in lines]
    return None if None in values else float(np.mean(values))


def _accuracies(means: Means, columns: list[str]) -> list[list[str]]:
    lines = []
    for key, of_columns in means.items():
        best = max(of["accuracy"] for of in of_columns.values())
        some = next(iter(of_columns.values()))
        cells = [_accuracy(of_columns.get(column), best) for column in columns]
        lines.append([_key(key), f"{some['training_rows']:,.0f}", str(some["draws"]), *cells])
    return lines


def _accuracy(of: Line | None, best: float) -> str:
    """Return accuracy and macro F1 in per cent, bold where it is the best; empty where there is none."""
    shown = f"{of['accuracy']:.1%} ({of['macro_f1']:.1%})".replace("%", "") if of else ""
    return f"**{shown}**" if of and of["accuracy"] == best else shown


def _goals(means: Means, beside_setfit: Means) -> list[str]:
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
            lost = max(
                best["accuracy"] - columns["newsdesk_encoder"]["accuracy"]
                for columns in (of, beside_setfit.get(key, of))
                for best in columns.values()
            )
            behind += [f"{_key(key)} by {100 * lost:.1f}"] if lost > ALLOWED + 1e-9 else []
    ahead = sum(of["newsdesk_encoder"]["accuracy"] > of[SETFIT]["accuracy"] for of in beside_setfit.values())
    return [
        f"- newsdesk without an encoder is at least as right as the best linear column in {judged[0] - len(below)} of "
        f"{judged[0]} cases{'; points behind: ' + ', '.join(below) if below else ''}.",
        f"- newsdesk with an encoder is at most {100 * ALLOWED:g} points behind the best of all columns in "
        f"{judged[1] - len(behind)} of {judged[1]} cases{'; points behind: ' + ', '.join(behind) if behind else ''}.",
        f"- newsdesk with an encoder is ahead of SetFit in {ahead} of {len(beside_setfit)} cases.",
        *_rows_needed(means),
    ]


def _rows_needed(means: Means) -> list[str]:
    """Return, of each set that was measured at several sizes, how many rows reach what the linear SVM does with all
    that it was given."""
    lines = []
    for name in dict.fromkeys(name for name, _ in means):
        sizes = {rows: of for (of_set, rows), of in means.items() if of_set == name}
        most = max((rows for rows in sizes if "tfidf_svm" in sizes[rows]), key=lambda rows: rows or 1 << 40, default=-1)
        if most < 0 or len(sizes) < 2:
            continue
        aim, rows_of_svm = (sizes[most]["tfidf_svm"][figure] for figure in ("accuracy", "training_rows"))
        for column in ("newsdesk", "newsdesk_encoder"):
            reaching = [
                of[column]["training_rows"] for of in sizes.values() if column in of and of[column]["accuracy"] >= aim
            ]
            if reaching:
                lines.append(
                    f"- {name}: TF-IDF + SVM has {aim:.1%} with {rows_of_svm:,.0f} rows; {NAMES[column]} has it with "
                    f"{min(reaching):,.0f}, of the sizes measured."
                )
    return lines


def _setfit(beside_setfit: Means, results: list[Line]) -> list[str]:
    """Return the section of SetFit, where it was measured."""
    rows = []
    for key, of in beside_setfit.items():
        fits = [line for line in results if (line["set"], line["rows"], line["column"]) == (*key, SETFIT)]
        best = max(mean["accuracy"] for mean in of.values())
        cells = [_accuracy(of.get(column), best) for column in BESIDE_SETFIT]
        steps = ", ".join(dict.fromkeys(line["fit_steps"] for line in fits))
        rows.append([_key(key), str(of[SETFIT]["draws"]), *cells, f"{of[SETFIT]['fit_seconds']:,.0f}", steps])
    heads = ["set, rows a label", "draws", *(NAMES[c] for c in BESIDE_SETFIT), "seconds of SetFit", "its steps"]
    return ["## SetFit", SETFIT_FITS, _table(heads, rows)] if rows else []


def _outside(means: Means, columns: list[str]) -> list[str]:
    """Return the section of texts that no label fits, where there are some."""
    keys = [key for key, of in means.items() if any(figures["outside_auroc"] is not None for figures in of.values())]
    rows = []
    for key in keys:
        areas = [means[key][c]["outside_auroc"] if c in means[key] else None for c in columns]
        rows.append([_key(key), *("" if area is None else f"{area:.3f}" for area in areas)])
    return (
        [
            "## Texts that no label fits",
            "Rows out of scope are not learned from. The area under the ROC curve of the top probability, or score, "
            "which tells them from test rows.",
            _table(["set, rows a label", *(NAMES[c] for c in columns)], rows),
        ]
        if rows
        else []
    )


def _missing(results: list[Line]) -> str:
    """Return the columns that were not measured for each set and size that something was measured for."""
    draws: dict[tuple[str, int], dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for line in results:
        draws[line["set"], line["rows"]][line["column"]] += 1
    missing: dict[str, list[str]] = defaultdict(list)
    for key in sorted(draws, key=lambda key: (key[0], key[1] or 1 << 40)):
        for column, name in NAMES.items():
            if not draws[key][column]:
                missing[name].append(_key(key))
    lines = [f"- {name}: {'; '.join(keys)}" for name, keys in missing.items()]
    return "\n".join(lines or ["Nothing."])


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
            timed = of["fit_seconds"] is not None
            cells.append(f"{error} / {of['fit_seconds']:.1f} / {of['answers_per_second']:,.0f}" if timed else error)
        lines.append([_key(key), *cells])
    return lines


def _key(key: tuple[str, int]) -> str:
    return f"{key[0]}, {key[1] or 'all'}"
