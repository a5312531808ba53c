"""Ask a built model about rows, and measure what it answers at every operating point."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from newsdesk.build.data.rows import Row
from newsdesk.build.evaluation import curves, metrics, significance
from newsdesk.build.evaluation.figures import (
    ByQuality,
    CascadeFigures,
    ClassifierScores,
    FrontierPoint,
    OperatingPoint,
    PairTest,
    SlicePoint,
)
from newsdesk.build.progress import track
from newsdesk.server.contract import MAX_BATCH, QUALITIES, Quality
from newsdesk.server.runtime import cascade, manifest, stacker, unsure
from newsdesk.server.runtime.arrays import Array
from newsdesk.server.runtime.cascade import Cascade, Level, Thresholds
from newsdesk.server.runtime.classifier import Classifier
from newsdesk.server.runtime.manifest import Manifest

_SWEEP = np.round(np.concatenate([np.arange(0.3, 0.95, 0.05), np.arange(0.95, 1.0, 0.01), [0.995, 0.999]]), 3)


@dataclass(frozen=True)
class Replies:
    """The members' answers to rows.

    Attributes:
        members: probabilities, FP32 [members, rows, labels]
        windows: how many each row was read in, INT32 [rows]
        seconds: that each level's new members took for all of the rows
        labels: INT64 [rows]
        lengths: words, INT64 [rows]
        unknown: the share of each row that the first member does not know, FP64 [rows]
    """

    members: Array
    windows: Array
    seconds: list[float]
    labels: Array
    lengths: Array
    unknown: Array


class Examiner:
    """A model folder's version, asked in this process by the code that serves it, with `threads` threads."""

    def __init__(self, folder: Path, threads: int, target: str = "") -> None:
        self.manifest: Manifest = manifest.load(folder)
        self.target = target or self.manifest.target
        self._folder = folder
        self._classifier = Classifier(self.manifest, folder, target, threads)
        self._classifier.warm_up()

    @property
    def members(self) -> list[str]:
        """The members' names, in the manifest's order."""
        return [member.name for member in self.manifest.members]

    def ask(self, rows: list[Row], title: str) -> Replies:
        """Ask every member about every row, once: all operating points are replayed from it."""
        best = QUALITIES.index("best")
        members, windows, lengths, unknown = [], [], [], []
        seconds = [0.0] * len(self.manifest.cascade)
        starts = range(0, len(rows), MAX_BATCH)
        for at in track(starts, title):
            texts = [row.text for row in rows[at : at + MAX_BATCH]]
            answers = self._classifier.classify(texts, np.full(len(texts), best))
            members.append(answers.members.transpose(1, 0, 2))
            windows.append(answers.windows)
            lengths.append(answers.lengths)
            unknown.append(answers.unknown)
            for level, took in answers.work.levels.items():
                seconds[level] += took.seconds
        labels = np.array([row.label for row in rows], np.int64)
        of_rows = np.concatenate(windows), seconds, labels, np.concatenate(lengths), np.concatenate(unknown)
        return Replies(np.concatenate(members, 1), *of_rows)

    def replay(self, replies: Replies, quality: Quality, levels: list[Level] | None = None) -> cascade.Answered:
        """Answer at an operating point from what the members said."""
        ready = Cascade(
            levels or self.manifest.cascade, self.members, lambda graph: stacker.load(self._folder / graph.path)
        )
        return cascade.replay(ready, replies.members, QUALITIES.index(quality), replies.lengths)

    def frontier(self, replies: Replies) -> list[FrontierPoint]:
        """Return accuracy and cost (seconds a text) where every level answers from one and the same probability on."""
        points = []
        for threshold in _SWEEP:
            flat = [float(threshold)] * len(self.manifest.labels)
            same = Thresholds(fast=flat, balanced=flat, best=flat)
            levels = [msgspec.structs.replace(level, thresholds=same) for level in self.manifest.cascade]
            answered = self.replay(replies, "balanced", levels)
            points.append(
                FrontierPoint(
                    threshold=float(threshold),
                    accuracy=metrics.accuracy(answered.probabilities, replies.labels),
                    seconds_per_text=_seconds(answered, replies),
                )
            )
        return points

    def measure(self, replies: Replies, seed: int) -> CascadeFigures:
        """Return the figures of every operating point, member and level on the rows that were asked about."""
        return CascadeFigures(
            points={quality: self._point(self.replay(replies, quality), replies, seed) for quality in QUALITIES},
            members={
                name: _scores(answers, replies.labels, seed)
                for name, answers in zip(self.members, replies.members, strict=True)
            },
            mcnemar=self._compared(replies),
            frontier=self.frontier(replies),
        )

    def accuracies(self, replies: Replies, among: Array | None = None) -> dict[str, float]:
        """Return each operating point's accuracy, on all rows or those marked in `among`, BOOL [rows]."""
        chosen = np.ones(len(replies.labels), bool) if among is None else among
        return {
            quality: metrics.accuracy(self.replay(replies, quality).probabilities[chosen], replies.labels[chosen])
            for quality in QUALITIES
        }

    def points(self, replies: Replies, seed: int) -> ByQuality[SlicePoint]:
        """Return each operating point's accuracy with its 95 % interval, and its calibration error."""
        points = {}
        for quality in QUALITIES:
            probabilities = self.replay(replies, quality).probabilities
            points[quality] = SlicePoint(
                accuracy=metrics.accuracy(probabilities, replies.labels),
                accuracy_interval=significance.interval(metrics.accuracy, probabilities, replies.labels, seed=seed),
                calibration_error=metrics.calibration_error(probabilities, replies.labels),
            )
        return ByQuality(rows=len(replies.labels), **points)

    def doubts(self, replies: Replies, quality: Quality) -> Array:
        """Return how unsure the answers are, FP64 [rows]: what the manifest goes by, else the answer's entropy."""
        answered = self.replay(replies, quality)
        uncertainty = cascade.uncertainty(self.manifest.cascade, self.members, answered, replies.lengths)
        score = self.manifest.unsure.score if self.manifest.unsure else "entropy"
        return unsure.scores(score, answered.probabilities, uncertainty)

    def marked(self, replies: Replies, quality: Quality) -> float | None:
        """Return the share of the answers that are marked as unsure; None where the model marks none."""
        if self.manifest.unsure is None:
            return None
        threshold = self.manifest.unsure.thresholds()[QUALITIES.index(quality)]
        return float((self.doubts(replies, quality) > threshold).mean())

    def _shares(self, answered: cascade.Answered) -> dict[str, float]:
        counts = np.bincount(answered.levels, minlength=len(self.manifest.cascade)) / len(answered.levels)
        return {level.name: float(share) for level, share in zip(self.manifest.cascade, counts, strict=True)}

    def _point(self, answered: cascade.Answered, replies: Replies, seed: int) -> OperatingPoint:
        scores = _scores(answered.probabilities, replies.labels, seed)
        return OperatingPoint(
            **msgspec.structs.asdict(scores),
            seconds_per_text=_seconds(answered, replies),
            answered_by=self._shares(answered),
        )

    def _compared(self, replies: Replies) -> list[PairTest]:
        answers: dict[str, Array] = dict(zip(self.members, replies.members, strict=True))
        answers |= {quality: self.replay(replies, quality).probabilities for quality in QUALITIES}
        pairs = []
        for first, second in _pairs([*answers]):
            test = significance.mcnemar(answers[first], answers[second], replies.labels)
            pairs.append(PairTest(first=first, second=second, **msgspec.structs.asdict(test)))
        return pairs


def _pairs(names: list[str]) -> Iterator[tuple[str, str]]:
    for i, name in enumerate(names):
        for other in names[i + 1 :]:
            yield name, other


def _scores(probabilities: Array, labels: Array, seed: int) -> ClassifierScores:
    return ClassifierScores(
        **msgspec.structs.asdict(metrics.summary(probabilities, labels)),
        accuracy_interval=significance.interval(metrics.accuracy, probabilities, labels, seed=seed),
        brier=metrics.brier(probabilities, labels),
        calibration_error=metrics.calibration_error(probabilities, labels),
        calibration_by_chance=significance.calibration_by_chance(probabilities, seed=seed),
        per_label=metrics.per_label(probabilities, labels),
        confusion=metrics.confusion(probabilities, labels).tolist(),
        reliability=curves.reliability(probabilities, labels),
        coverage=curves.coverage(probabilities, labels),
    )


def _seconds(answered: cascade.Answered, replies: Replies) -> float:
    """Return the mean seconds of a text, which takes every level up to the one that answers it."""
    per_text = np.cumsum(replies.seconds) / len(replies.labels)
    return float(per_text[answered.levels].mean())
