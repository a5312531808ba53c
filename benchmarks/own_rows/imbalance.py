"""Uneven labels: macro F1 where one label has 95 or 99 of a hundred rows, with labels balanced and as they are."""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.svm import LinearSVC

from benchmarks.own_rows import sets
from benchmarks.own_rows.columns import Fit, Workplace, newsdesk, tfidf
from benchmarks.own_rows.results import Results
from benchmarks.own_rows.sets import Rows
from benchmarks.own_rows.states import States
from newsdesk.build.evaluation import metrics

KEY = "set", "shares", "draw", "column"
PAIRS = {"ag_news": ("3", "4"), "sms_spam": ("ham", "spam")}
"""The common and the rare label of each set; AG News counts its labels: Business and Sci/Tech."""
TRAINED = {"95:5": (950, 50), "100:1": (1000, 10)}
"""Training rows of both; the test rows, others of the set, are twice as many in the same shares."""


def _fits() -> dict[str, tuple[Fit, dict[str, Any]]]:
    balanced: dict[str, Any] = {"class_weight": "balanced"}
    return {
        "TF-IDF + LR": (tfidf(lambda: LogisticRegression(max_iter=1000)), {}),
        "TF-IDF + LR, balanced": (tfidf(lambda: LogisticRegression(max_iter=1000, **balanced)), {}),
        "TF-IDF + SVM": (tfidf(LinearSVC), {}),
        "TF-IDF + SVM, balanced": (tfidf(lambda: LinearSVC(**balanced)), {}),
        "newsdesk": (newsdesk(encoder=False), {}),
        "newsdesk, balanced": (newsdesk(encoder=False), {"members.linear.balanced": True}),
    }


def measure(results: Results, draws: int, again: bool) -> None:
    """Measure what stands not in the results yet, and print a line each."""
    for name, (common, rare) in PAIRS.items():
        training, test, _ = sets.read(name, 0)
        every = [row for row in [*training, *test] if row[1] in (common, rare)]
        for shares, (many, few) in TRAINED.items():
            for draw in range(draws):
                drawn = sets.draw_unevenly(every, {common: 3 * many, rare: 3 * few}, 0, draw)
                learned, judged = _parted(drawn, {common: many, rare: few})
                for column, (fit, changes) in _fits().items():
                    key = {"set": name, "shares": shares, "draw": draw, "column": column}
                    if again or not results.has(key):
                        line = {**key, **_figures(fit, learned, judged, [common, rare], changes)}
                        results.put(line)
                        print(f"{name}, {shares}, draw {draw}, {column}: macro F1 {line['macro_f1']:.1%}", flush=True)


def _parted(rows: Rows, counts: dict[str, int]) -> tuple[Rows, Rows]:
    """Return the first so many rows of each label, and the others."""
    parts: tuple[Rows, Rows] = [], []
    left = {**counts}
    for row in rows:
        left[row[1]] -= 1
        parts[left[row[1]] < 0].append(row)
    return parts


def _figures(fit: Fit, rows: Rows, test: Rows, names: list[str], changes: dict[str, Any]) -> dict[str, Any]:
    names = sorted(names)
    truth = np.array([names.index(label) for _, label in test])
    with tempfile.TemporaryDirectory() as folder:
        place = Workplace(Path(folder), States(Path(), Path(folder) / "states.npz"), changes, from_fits=True)
        answers = fit(rows, names, place)([text for text, _ in test])
    return {
        "accuracy": round(metrics.accuracy(answers, truth), 4),
        "macro_f1": round(metrics.macro_f1(answers, truth), 4),
    }
