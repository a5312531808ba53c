"""The columns: what fits on rows and answers test rows, each with its figures."""

import csv
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import MultinomialNB
from sklearn.svm import LinearSVC

from benchmarks.own_rows.sets import Rows
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
_MOST_TOKENS = 256
Answer = Callable[[list[str]], np.ndarray]
"""Texts to probabilities, FP [texts, labels]; or to scores, whose largest is the answer."""


class States:
    """The encoder's states of texts, each text read once."""

    def __init__(self, base: Path) -> None:
        self.base, self._known = base, dict[str, np.ndarray]()

    def __call__(self, texts: list[str], fresh: bool = False) -> np.ndarray:
        """Return FP32 [texts, hidden]; `fresh` reads texts that are known again, to be timed."""
        from newsdesk.build.training import frozen

        new = texts if fresh else [text for text in dict.fromkeys(texts) if text not in self._known]
        if new:
            states, _ = frozen.embed(str(self.base), "encoder", new, _MOST_TOKENS, "mean")
            self._known |= dict(zip(new, states, strict=True))
        return np.stack([self._known[text] for text in texts])


def measure(column: str, rows: Rows, test: Rows, folder: Path, states: States, quick: bool) -> dict[str, Any]:
    """Return accuracy, macro F1, calibration error (none of scores), seconds of the fit, and answers a second."""
    names = sorted({label for _, label in rows})
    truth = np.array([names.index(label) if label in names else -1 for _, label in test])
    began = time.perf_counter()
    answer = FITS[column](rows, names, folder, states, quick)
    fitted = time.perf_counter() - began
    texts = [text for text, _ in test]
    answer(texts[:8])
    began = time.perf_counter()
    found = answer(texts)
    seconds = time.perf_counter() - began
    scores = column == "tfidf_svm"
    return {
        "accuracy": round(metrics.accuracy(found, truth), 4),
        "macro_f1": round(metrics.macro_f1(found, truth), 4),
        "calibration_error": None if scores else round(metrics.calibration_error(found, truth), 4),
        "fit_seconds": round(fitted, 1),
        "answers_per_second": round(len(texts) / seconds, 1),
    }


def _tfidf(classifier: Any) -> Callable[..., Answer]:
    def fit(rows: Rows, names: list[str], folder: Path, states: States, quick: bool) -> Answer:
        reader = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
        fitted = classifier().fit(reader.fit_transform([text for text, _ in rows]), [label for _, label in rows])
        return lambda texts: _of_classifier(fitted, reader.transform(texts))

    return fit


def _frozen(rows: Rows, names: list[str], folder: Path, states: States, quick: bool) -> Answer:
    read = states([text for text, _ in rows], fresh=True)
    fitted = LogisticRegression(max_iter=1000).fit(read, [label for _, label in rows])
    return lambda texts: _of_classifier(fitted, states(texts, fresh=True))


def _of_classifier(fitted: Any, given: Any) -> np.ndarray:
    """Return probabilities, or the scores of a classifier that has none, FP [texts, labels] in the order of names."""
    if hasattr(fitted, "predict_proba"):
        return fitted.predict_proba(given)
    scores = fitted.decision_function(given)
    return scores if scores.ndim == 2 else np.stack([-scores, scores], 1)


def _newsdesk(encoder: bool) -> Callable[..., Answer]:
    def fit(rows: Rows, names: list[str], folder: Path, states: States, quick: bool) -> Answer:
        file = folder / "rows.csv"
        with file.open("w", encoding="utf-8", newline="") as out:
            csv.writer(out).writerows([("text", "label"), *rows])
        chosen = recipes.load("own")
        changes: dict[str, Any] = own.changes(chosen, file, text_columns=["text"], label_column="label", columns=[])
        changes |= QUICK if quick else {}
        for member in chosen.members if not encoder else ():
            if isinstance(member, recipes.EncoderMember):
                changes[f"members.{member.name}.least_rows"] = 1 << 40
        built = recipes.load("own", changes)
        build(built, folder / "artifacts", folder / "models", say=lambda line: None)
        version = folder / "models" / built.repository.model / "1"
        loaded = manifest.load(version)
        classifier = Classifier(loaded, version, threads=len(os.sched_getaffinity(0)))
        order = [loaded.labels.index(name.strip()) for name in names]
        best = QUALITIES.index("best")

        def answer(texts: list[str]) -> np.ndarray:
            found = classifier.classify([clean(text) for text in texts], np.full(len(texts), best))
            return found.probabilities[:, order]

        return answer

    return fit


def _setfit(rows: Rows, names: list[str], folder: Path, states: States, quick: bool) -> Answer:
    try:
        from datasets import Dataset
        from setfit import SetFitModel, Trainer, TrainingArguments
    except ImportError as error:
        raise SystemExit(f"--setfit needs a package that is missing ({error}): pip install setfit") from error
    model = SetFitModel.from_pretrained(str(states.base), labels=names)
    fitted_on = Dataset.from_dict({"text": [text for text, _ in rows], "label": [label for _, label in rows]})
    arguments = TrainingArguments(output_dir=str(folder), batch_size=16, num_epochs=1, report_to="none")
    Trainer(model=model, args=arguments, train_dataset=fitted_on).train()
    return lambda texts: np.asarray(model.predict_proba(texts))


COLUMNS: dict[str, Callable[..., Answer]] = {
    "tfidf_lr": _tfidf(lambda: LogisticRegression(max_iter=1000)),
    "tfidf_svm": _tfidf(LinearSVC),
    "tfidf_nb": _tfidf(MultinomialNB),
    "frozen_lr": _frozen,
    "newsdesk": _newsdesk(encoder=False),
    "newsdesk_encoder": _newsdesk(encoder=True),
}
WITH_ENCODER = "frozen_lr", "newsdesk_encoder", "setfit"
FITS = COLUMNS | {"setfit": _setfit}
