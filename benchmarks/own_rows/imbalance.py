"""Uneven labels: macro F1 and mean recall where a label has 95 or 99 of a hundred rows, balanced and as they are."""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.svm import LinearSVC

from benchmarks.own_rows import sets
from benchmarks.own_rows.columns import Fit, Workplace, frozen, newsdesk, tfidf
from benchmarks.own_rows.results import Results
from benchmarks.own_rows.sets import Rows
from benchmarks.own_rows.states import States
from newsdesk.build.evaluation import metrics

KEY = "set", "shares", "draw", "column"
BALANCED = {"members.linear.balanced": True}
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
        "newsdesk, balanced": (newsdesk(encoder=False), BALANCED),
    }


def _with_encoder() -> dict[str, tuple[Fit, dict[str, Any]]]:
    return {
        "frozen MiniLM + LR, balanced": (
            frozen(lambda: LogisticRegression(max_iter=1000, class_weight="balanced")),
            {},
        ),
        "newsdesk, MiniLM, balanced": (newsdesk(encoder=True), BALANCED | {"members.encoder.balanced": True}),
    }


def columns() -> dict[str, tuple[Fit, dict[str, Any]]]:
    """Return what is compared, by the name of its column, with changes of newsdesk's recipe."""
    return _fits() | _with_encoder()


def measure(results: Results, draws: int, again: bool, base: Path | None, cache: Path) -> None:
    """Measure what stands not in the results yet, and print a line each.

    Args:
        results: are written as they come
        draws: of rows
        again: measure what stands in the results, too
        base: the encoder's folder; None: without one
        cache: keeps the encoder's states
    """
    fits = columns() if base else _fits()
    for name, (common, rare) in PAIRS.items():
        training, test, _ = sets.read(name, 0)
        every = [row for row in [*training, *test] if row[1] in (common, rare)]
        states = States(base or Path(), cache / f"{name}.npz")
        for shares, (many, few) in TRAINED.items():
            for draw in range(draws):
                drawn = sets.draw_unevenly(every, {common: 3 * many, rare: 3 * few}, 0, draw)
                learned, judged = _parted(drawn, {common: many, rare: few})
                for column, (fit, changes) in fits.items():
                    key = {"set": name, "shares": shares, "draw": draw, "column": column}
                    if again or not results.has(key):
                        line = {**key, **_figures(fit, learned, judged, states, changes)}
                        results.put(line)
                        scores = f"macro F1 {line['macro_f1']:.1%}, mean recall {line['recall']:.1%}"
                        print(f"{name}, {shares}, draw {draw}, {column}: {scores}", flush=True)


def _parted(rows: Rows, counts: dict[str, int]) -> tuple[Rows, Rows]:
    """Return the first so many rows of each label, and the others."""
    parts: tuple[Rows, Rows] = [], []
    left = {**counts}
    for row in rows:
        left[row[1]] -= 1
        parts[left[row[1]] < 0].append(row)
    return parts


def _figures(fit: Fit, rows: Rows, test: Rows, states: States, changes: dict[str, Any]) -> dict[str, Any]:
    names = sorted({label for _, label in rows})
    truth = np.array([names.index(label) for _, label in test])
    with tempfile.TemporaryDirectory() as folder:
        place = Workplace(Path(folder), states, changes, from_fits=True)
        answers = fit(rows, names, place)([text for text, _ in test])
    return {
        "accuracy": round(metrics.accuracy(answers, truth), 4),
        "macro_f1": round(metrics.macro_f1(answers, truth), 4),
        "recall": round(float(balanced_accuracy_score(truth, answers.argmax(-1))), 4),
    }
