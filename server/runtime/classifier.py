"""The ensemble in one process: the members, the cascade that asks them, and the work that they did."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from newsdesk.server.runtime import cascade, stacker, targets, unsure
from newsdesk.server.runtime.arrays import Array
from newsdesk.server.runtime.cascade import DEFAULT, Answered, Cascade
from newsdesk.server.runtime.lengths import words
from newsdesk.server.runtime.manifest import Manifest
from newsdesk.server.runtime.member import LoadedMember
from newsdesk.server.runtime.memory import HeapTrimmer


@dataclass
class LevelWork:
    """A level's work on a batch: the texts that the members new to it were asked for, and their time in seconds."""

    texts: int = 0
    seconds: float = 0.0


@dataclass
class Work:
    """The work of a batch: the tokens that encoders read, without padding and with it, and of each level reached."""

    real_tokens: int = 0
    computed_tokens: int = 0
    levels: dict[int, LevelWork] = field(default_factory=dict)


@dataclass(frozen=True)
class BatchAnswers:
    """The answers to n texts.

    Attributes:
        probabilities: FP32 [n, labels]
        levels: the level that answered each, INT64 [n]
        windows: in how many windows the longest-reading member read each, INT32 [n]
        members: each member's own probabilities, FP32 [n, members, labels], ABSENT where it was not asked
        lengths: words of each text, INT64 [n]
        unknown: the share of each that the first member does not know, FP64 [n] (see `MemberOutput`)
        work: of the batch
    """

    probabilities: Array
    levels: Array
    windows: Array
    members: Array
    lengths: Array
    unknown: Array
    work: Work

    def part(self, own: slice) -> "BatchAnswers":
        """Return the answers to some of the texts."""
        names = "probabilities", "levels", "windows", "members", "lengths", "unknown"
        return replace(self, **{name: getattr(self, name)[own] for name in names})


class Classifier:
    """The members of a version folder, ready to answer. Raises EngineError where one cannot run here."""

    def __init__(
        self,
        manifest: Manifest,
        folder: Path,
        target: str = "",
        threads: int = 1,
        unsure_share: float | None = None,
    ) -> None:
        """`unsure_share` of in-domain texts are marked as not sure; None means as many as the manifest says."""
        self.labels = manifest.labels
        self.levels = [level.name for level in manifest.cascade]
        chosen = targets.choose(target, manifest)
        self.members = [
            LoadedMember(about, manifest.windows, folder, chosen[about.name], threads) for about in manifest.members
        ]
        self._described, self._order = manifest.cascade, [about.name for about in manifest.members]
        self._cascade = Cascade(manifest.cascade, self._order, lambda graph: stacker.load(folder / graph.path))
        by_level = [level.members for level in self._cascade.levels]
        self._first = [
            next(i for i, members in enumerate(by_level) if place in members) for place in range(len(self._order))
        ]
        self._reads_all = by_level[0][0]
        """The member that reads every text."""
        self._unsure = manifest.unsure
        self._too_unsure = manifest.unsure.thresholds(unsure_share) if manifest.unsure else np.full(3, np.inf)
        self._heap = HeapTrimmer()

    def warm_up(self) -> None:
        """Compile kernels beforehand, so that no request waits for them."""
        for member in self.members:
            member.warm_up()
        self._heap.trim()  # what loading took

    def close(self) -> None:
        """Give back what the engines hold. Nothing may be classified afterwards."""
        for member in self.members:
            member.close()

    def classify(self, texts: list[str], quality: Array | None = None) -> BatchAnswers:
        """Answer clean texts (see `read`), each as if it had come alone.

        Args:
            texts: clean, n of them
            quality: of each text, INT [n] into QUALITIES; None means balanced for all

        Raises:
            Cancelled: nobody waits for the answers any more.
        """
        work, windows, unknown = Work(), np.ones(len(texts), np.int32), np.zeros(len(texts))

        def ask(place: int, rows: Array) -> Callable[[], Array]:
            began = time.perf_counter()
            waiting = self.members[place].submit([texts[row] for row in rows] if len(rows) < len(texts) else texts)
            level_work = work.levels.setdefault(self._first[place], LevelWork(len(rows)))
            level_work.seconds += time.perf_counter() - began

            def result() -> Array:
                began = time.perf_counter()
                reading = waiting()
                windows[rows] = np.maximum(windows[rows], reading.windows)
                if place == self._reads_all:
                    unknown[rows] = reading.unknown
                work.real_tokens += reading.real_tokens
                work.computed_tokens += reading.computed_tokens
                level_work.seconds += time.perf_counter() - began
                return reading.probabilities

            return result

        quality = np.full(len(texts), DEFAULT) if quality is None else quality
        lengths = words(texts)
        answered = self._cascade.answer(quality, ask, lengths)
        self._heap.trim()
        members = answered.members.transpose(1, 0, 2)
        return BatchAnswers(answered.probabilities, answered.levels, windows, members, lengths, unknown, work)

    @property
    def marks_unsure(self) -> bool:
        """Whether the manifest says when an answer is not sure."""
        return self._unsure is not None

    def uncertainty(self, answers: BatchAnswers) -> Array:
        """Return how uncertain n answers are (`UncertaintySplit`).

        Returns:
            In nats, FP32 [n, 3]: in all, of the data, of the model.
        """
        answered = Answered(answers.probabilities, answers.levels, answers.members.transpose(1, 0, 2))
        return cascade.uncertainty(self._described, self._order, answered, answers.lengths)

    def unsure(self, answers: BatchAnswers, quality: Array) -> Array:
        """Return which answers are not sure.

        Args:
            answers: to n texts
            quality: that each was answered in, INT [n] into QUALITIES

        Returns:
            BOOL [n]; none is marked where the manifest does not say when.
        """
        if self._unsure is None:
            return np.zeros(len(answers.levels), np.bool_)
        scores = unsure.scores(self._unsure.score, answers.probabilities, self.uncertainty(answers))
        return scores > self._too_unsure[quality]
