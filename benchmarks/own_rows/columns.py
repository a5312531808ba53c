"""The columns: what fits on rows and answers test rows, each with its figures."""

import csv
import json
import os
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.naive_bayes import MultinomialNB
from sklearn.svm import LinearSVC

from benchmarks.own_rows import fits, setfit
from benchmarks.own_rows.sets import Rows
from benchmarks.own_rows.states import States
from newsdesk.build import recipe as recipes
from newsdesk.build.data import own
from newsdesk.build.evaluation import metrics
from newsdesk.build.pipeline.building import build
from newsdesk.server.contract import QUALITIES
from newsdesk.server.runtime import manifest
from newsdesk.server.runtime.classifier import Classifier
from newsdesk.server.runtime.text import clean

QUICK = {
    "quantise.variants": [],
    "compile.rows": 32,
    "compile.rounds": 1,
    "verify.rows": 20,
}
"""Changes of the recipe: it serves in fp32, and measures targets on a few rows."""
Answer = Callable[[list[str]], np.ndarray]
"""Texts to probabilities, FP [texts, labels]; or to scores, whose largest is the answer."""
Fit = Callable[[Rows, list[str], "Workplace"], Answer]


@dataclass(frozen=True)
class Workplace:
    """The means of a column: a folder of its own, the encoder's states, changes of newsdesk's recipe."""

    folder: Path
    states: States
    changes: dict[str, Any]
    from_fits: bool = False
    """Whether newsdesk is asked before graphs are made of its fits (see `fits`)."""
    python_of_setfit: str = ""
    """The Python of a virtual environment that has SetFit; empty: this one."""
    steps_of_setfit: int = 0
    """Steps that SetFit's fit takes at most; 0: those of its default."""


def measure(column: str, rows: Rows, test: Rows, outside: list[str], place: Workplace) -> dict[str, Any]:
    """Return accuracy, macro F1, calibration error (none of scores), seconds of the fit, and answers a second.

    Of texts `outside`, which no label fits, also how well the top probability, or score, tells them from test rows:
    the area under the ROC curve.
    """
    names = sorted({label for _, label in rows})
    truth = np.array([names.index(label) if label in names else -1 for _, label in test])
    began = time.perf_counter()
    answer = FITS[column](rows, names, place)
    fitted = time.perf_counter() - began
    texts = [text for text, _ in test]
    answer(texts[:8])
    began = time.perf_counter()
    answers = answer(texts)
    seconds = time.perf_counter() - began
    if column == "frozen_lr":  # its states may have been read before: they cost what they cost then
        fitted += place.states.seconds([text for text, _ in rows])
        seconds += place.states.seconds(texts)
    scores, timed = column == "tfidf_svm", not (column in ("newsdesk", "newsdesk_encoder") and place.from_fits)
    figures = {
        "accuracy": round(metrics.accuracy(answers, truth), 4),
        "macro_f1": round(metrics.macro_f1(answers, truth), 4),
        "calibration_error": None if scores else round(metrics.calibration_error(answers, truth), 4),
        "fit_seconds": round(fitted, 1) if timed else None,
        "answers_per_second": round(len(texts) / seconds, 1) if timed else None,
        "outside_auroc": None,
    }
    if column == "setfit":
        every = setfit.steps(label for _, label in rows)
        figures["fit_steps"] = f"{min(place.steps_of_setfit or every, every)} of {every}"
    if outside:
        top = np.concatenate([answers.max(1), answer(outside).max(1)])
        figures["outside_auroc"] = round(float(roc_auc_score([1] * len(texts) + [0] * len(outside), top)), 4)
    return figures


def tfidf(classifier: Callable[[], Any]) -> Fit:
    def fit(rows: Rows, names: list[str], place: Workplace) -> Answer:
        vectorizer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
        fitted = classifier().fit(vectorizer.fit_transform([text for text, _ in rows]), [label for _, label in rows])
        return lambda texts: _of_classifier(fitted, vectorizer.transform(texts))

    return fit


def newsdesk(encoder: bool) -> Fit:
    def fit(rows: Rows, names: list[str], place: Workplace) -> Answer:
        file = place.folder / "rows.csv"
        with file.open("w", encoding="utf-8", newline="") as out:
            csv.writer(out).writerows([("text", "label"), *rows])
        chosen = recipes.load("own")
        changes = own.changes(chosen, file, text_columns=["text"], label_column="label", columns=[]) | place.changes
        for member in chosen.members if not encoder else ():
            if isinstance(member, recipes.EncoderMember):
                changes[f"members.{member.name}.least_rows"] = 1 << 40
        built = recipes.load("own", changes)
        if place.from_fits:
            fitted = fits.FittedRecipe(built, place.folder, place.states)
            places = [fitted.labels.index(name.strip()) for name in names]
            return lambda texts: fitted(texts)[:, places]
        build(built, place.folder / "artifacts", place.folder / "models", say=lambda line: None)
        version = place.folder / "models" / built.repository.model / "1"
        loaded = manifest.load(version)
        classifier = Classifier(loaded, version, threads=len(os.sched_getaffinity(0)))
        order = [loaded.labels.index(name.strip()) for name in names]
        best = QUALITIES.index("best")

        def answer(texts: list[str]) -> np.ndarray:
            answered = classifier.classify([clean(text) for text in texts], np.full(len(texts), best))
            return answered.probabilities[:, order]

        return answer

    return fit


def frozen(classifier: Callable[[], Any]) -> Fit:
    def fit(rows: Rows, names: list[str], place: Workplace) -> Answer:
        states = place.states([text for text, _ in rows])
        fitted = classifier().fit(states, [label for _, label in rows])
        return lambda texts: _of_classifier(fitted, place.states(texts))

    return fit


def _of_classifier(fitted: Any, options: Any) -> np.ndarray:
    """Return probabilities, or the scores of a classifier that has none, FP [texts, labels] in the order of names."""
    if hasattr(fitted, "predict_proba"):
        return fitted.predict_proba(options)
    scores = fitted.decision_function(options)
    return scores if scores.ndim == 2 else np.stack([-scores, scores], 1)


def _setfit(rows: Rows, names: list[str], place: Workplace) -> Answer:
    """Fit in a process of its own, whose packages may be others, and that asks for texts by a pipe."""
    process = subprocess.Popen(
        [place.python_of_setfit, setfit.__file__, str(place.states.base), str(place.folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin
    assert process.stdout

    def ask(question: object) -> Any:
        print(json.dumps(question), file=process.stdin, flush=True)
        if not (line := process.stdout.readline()):
            raise SystemExit("SetFit ended; name a Python that has it: --setfit-python, pip install setfit")
        return json.loads(line)

    labels = [names.index(label) for _, label in rows]
    steps = place.steps_of_setfit or setfit.steps(labels)
    ask({"texts": [text for text, _ in rows], "labels": labels, "steps": steps})
    return lambda texts: np.array(ask(texts))


COLUMNS: dict[str, Fit] = {
    "tfidf_lr": tfidf(lambda: LogisticRegression(max_iter=1000)),
    "tfidf_svm": tfidf(LinearSVC),
    "tfidf_nb": tfidf(MultinomialNB),
    "frozen_lr": frozen(lambda: LogisticRegression(max_iter=1000)),
    "newsdesk": newsdesk(encoder=False),
    "newsdesk_encoder": newsdesk(encoder=True),
}
WITH_ENCODER = "frozen_lr", "newsdesk_encoder", "setfit"
FITS = COLUMNS | {"setfit": _setfit}
