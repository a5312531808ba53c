"""The answers to the texts of a chunk, computed by one process as the server's backend computes them."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # before the tokenizer's import: one thread a process

from newsdesk.server.contract import DEFAULT_QUALITY, QUALITIES, Quality
from newsdesk.server.runtime import manifest
from newsdesk.server.runtime.arrays import Array
from newsdesk.server.runtime.classifier import BatchAnswers, Classifier
from newsdesk.server.runtime.errors import TextError
from newsdesk.server.runtime.request import read

Text = str | bytes

_BATCH = 64
"""Texts that are computed together, as many as the server's largest batch."""
_NOT_FINITE = "newsdesk computed no finite answer"


@dataclass(frozen=True)
class ScoringModel:
    """How a model answers.

    Attributes:
        folder: its version folder
        target: the compile target of each member, as `targets` reads it
        threads: of each process's engine
        unsure_share: of in-domain texts that are marked; None means as many as the manifest says
        quality: of every text
    """

    folder: Path
    target: str
    threads: int = 1
    unsure_share: float | None = None
    quality: Quality = DEFAULT_QUALITY


@dataclass(frozen=True)
class ScoredTexts:
    """The answers to n texts; those of a text in `errors` mean nothing.

    Attributes:
        probabilities: FP32 [n, labels]
        levels: the level of the cascade that answered, INT64 [n]
        windows: in how many windows each text was read, INT32 [n]
        unsure: BOOL [n], None where the model does not say
        uncertainty: FP32 [n, 3], in nats
        errors: why a text has no answer, by its place
    """

    probabilities: Array
    levels: Array
    windows: Array
    unsure: Array | None
    uncertainty: Array
    errors: dict[int, str]


class Scorer:
    """A model in this process.

    Raises:
        ManifestError: its folder does not match its manifest.
        EngineError: with the first texts, or `load`, where a member cannot run here.
    """

    def __init__(self, model: ScoringModel) -> None:
        self._model = model
        self.manifest = manifest.load(model.folder)
        self._quality = QUALITIES.index(model.quality)

    @cached_property
    def _classifier(self) -> Classifier:
        model = self._model
        made = Classifier(self.manifest, model.folder, model.target, model.threads, model.unsure_share)
        made.warm_up()
        return made

    def load(self) -> None:
        """Load the members now, not with the first texts."""
        _ = self._classifier

    def answer(self, texts: Sequence[Text | None]) -> ScoredTexts:
        """Answer texts; None stands for a row without one."""
        held, labels = self._classifier, len(self.manifest.labels)
        count = len(texts)
        answers = ScoredTexts(
            np.zeros((count, labels), np.float32),
            np.zeros(count, np.int64),
            np.zeros(count, np.int32),
            np.zeros(count, np.bool_) if held.marks_unsure else None,
            np.zeros((count, 3), np.float32),
            {},
        )
        places, clean = [], []
        for place, text in enumerate(texts):
            if text is None:
                continue
            try:
                clean.append(read(_encoded(text)))
                places.append(place)
            except TextError as error:
                answers.errors[place] = str(error)
        for start in range(0, len(clean), _BATCH):
            batch = slice(start, start + _BATCH)
            self._fill(answers, np.array(places[batch]), clean[batch])
        return answers

    def _fill(self, answers: ScoredTexts, places: Array, texts: list[str]) -> None:
        """Put the answers to texts at their places. A text that an engine fails on fails by itself."""
        quality = np.full(len(texts), self._quality)
        try:
            computed = self._classifier.classify(texts, quality)
        except Exception as error:  # whatever an engine raises, the other texts are answered
            if len(texts) == 1:
                answers.errors[int(places[0])] = f"newsdesk could not compute: {error}"
                return
            for place, text in zip(places, texts, strict=True):
                self._fill(answers, np.array([place]), [text])
            return
        answers.probabilities[places] = computed.probabilities
        answers.levels[places] = computed.levels
        answers.windows[places] = computed.windows
        answers.uncertainty[places] = self._classifier.uncertainty(computed)
        if answers.unsure is not None:
            answers.unsure[places] = self._classifier.unsure(computed, quality)
        answers.errors.update((int(place), _NOT_FINITE) for place in places[~_finite(computed)])


def _finite(answers: BatchAnswers) -> Array:
    finite: Array = np.isfinite(answers.probabilities).all(-1) & np.isfinite(answers.members).all((1, 2))
    return finite


def _encoded(text: Text) -> bytes:
    """Raises TextError for half a character, which UTF-8 cannot carry."""
    try:
        return text.encode() if isinstance(text, str) else text
    except UnicodeEncodeError as error:
        place, letter = error.start, text[error.start]
        raise TextError(f"not UTF-8 (character {place} is the lone surrogate {letter!a}), send UTF-8") from None
