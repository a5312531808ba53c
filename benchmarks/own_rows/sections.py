"""The page's sections of uneven and of wrong labels."""

import numpy as np

from benchmarks.own_rows import imbalance as uneven
from benchmarks.own_rows.results import Line


def imbalance(results: list[Line]) -> list[str]:
    """Return the section of uneven labels."""
    if not results:
        return []
    measured = {line["column"] for line in results}
    columns = [column for column in uneven.columns() if column in measured]
    rows = []
    for name, shares in dict.fromkeys((line["set"], line["shares"]) for line in results):
        of_row = [line for line in results if (line["set"], line["shares"]) == (name, shares)]
        means = [[_mean(of_row, column, figure) for figure in ("macro_f1", "recall")] for column in columns]
        best = max(score for score, _ in means if score is not None)
        cells = ["" if score is None else _scored(score, recall, score == best) for score, recall in means]
        rows.append([f"{name}, {shares}", str(len({line["draw"] for line in of_row})), *cells])
    return [
        "## Uneven labels",
        "`python -m benchmarks.own_rows imbalance`: macro F1 in per cent (and the mean of both labels' recalls) of two "
        "labels, 950 and 50 training rows or 1,000 and 10; other rows in the same shares, twice as many, are the test. "
        "AG News: Business and Sci/Tech. Balanced: scikit-learn's `class_weight`, and newsdesk's `balanced` of each "
        f"member. {_first_draws(results)}"
        "Rare answers are few, so that a rare label's precision, and with it macro F1, is low even where four "
        "of five texts of either label are named right.",
        table(["set", "draws", *columns], rows),
    ]


def _first_draws(results: list[Line]) -> str:
    """Return which columns were measured with fewer draws than others, as a sentence; empty where none was."""
    draws = {name: len({line["draw"] for line in results if line["column"] == name}) for name in uneven.columns()}
    fewer = [name for name, count in draws.items() if 0 < count < max(draws.values())]
    return f"Of fewer draws than the others, the first: {'; '.join(fewer)}. " if fewer else ""


def wrong_labels(results: list[Line]) -> list[str]:
    """Return the section of the list of wrong labels."""
    if not results:
        return []
    rows = []
    for name, encoder in dict.fromkeys((line["set"], line["encoder"]) for line in results):
        lines = [line for line in results if (line["set"], line["encoder"]) == (name, encoder)]
        areas = [f"{line['auroc']:.3f}" for line in lines]
        caught = sum(line["flipped_listed"] for line in lines) / sum(line["flipped"] for line in lines)
        listed = sum(line["listed"] for line in lines)
        right = sum(line["flipped_listed"] for line in lines) / max(listed, 1)
        mean = np.mean([line["auroc"] for line in lines])
        rows.append(
            [
                f"{name}, with MiniLM" if encoder else name,
                f"{lines[0]['rows']:,}",
                f"**{mean:.3f}**",
                ", ".join(areas),
                f"{caught:.0%}",
                f"{right:.0%}",
            ]
        )
    return [
        "## Labels that are wrong",
        "`python -m benchmarks.own_rows wrong-labels`: 5 % of the rows, at most 2,000, got another label. The area "
        "under the ROC curve of the score that orders `suspects.csv`, the share of the flipped "
        "rows that the list holds, and the share of the list that was flipped. The lines with MiniLM are of its states "
        "as they are: `members.encoder.pooling=mean`.",
        table(["set", "rows", "AUROC", "of each draw", "flipped rows listed", "listed rows flipped"], rows),
    ]


def table(heads: list[str], rows: list[list[str]]) -> str:
    marks = ["---", *["---:"] * (len(heads) - 1)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [heads, marks, *rows])


def _mean(lines: list[Line], column: str, figure: str) -> float | None:
    of_column = [line[figure] for line in lines if line["column"] == column]
    return float(np.mean(of_column)) if of_column else None


def _scored(score: float, recall: float, best: bool) -> str:
    shown = f"{100 * score:.1f} ({100 * recall:.0f})"
    return f"**{shown}**" if best else shown
