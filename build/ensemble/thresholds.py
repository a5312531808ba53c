"""Fit the cascade's thresholds: the least cost at which, at a stated confidence, accuracy falls at most epsilon.

What is guaranteed, and on what. Let the loss be the accuracy of the last level less that of the cascade. On 5000 rows
the difference of right answers is too coarse to bound 0.1 points: some 15 rows would differ, and which of the two is
right there is nearly a toss. So what is bounded is the expected loss, row by row (`risk.losses`), which is the same in
the mean if the last level's probabilities are calibrated, and steadier. Then, with the stated confidence over the draw
of the validation rows, the expected loss on texts like them is at most epsilon (`risk.bound`). The loss that the labels
show must not be above epsilon either: where the calibration does not hold, it speaks up. On each slice of the rows that
has enough of them, the expected loss and the seen one must not be above `slice_epsilon`.

How. The loss to expect of an early answer is fitted for each level as a falling line over how sure it is, by label
where that helps (`risk.fit`). Thresholds at equal risk make a path from "no one is answered early" to "the first level
answers all": at each step the level moves on whose move saves most cost for the loss it adds. The path is walked from
its safe end, and ends before the first point whose bound is above epsilon, so that trying many points costs no
confidence (fixed-sequence testing: Angelopoulos et al., Learn then Test, 2021, section 2.3). The path's few parameters
come from the same rows; that is not accounted for.
"""

from dataclasses import dataclass, field

import numpy as np

from newsdesk.build.ensemble import risk
from newsdesk.build.ensemble.figures import ThresholdPoint
from newsdesk.build.evaluation import metrics
from newsdesk.server.runtime.arrays import Array
from newsdesk.server.runtime.cascade import ALWAYS, NEVER, Thresholds

_RISKS = np.geomspace(1e-6, 0.5, 72)
"""Notches of a level's path: the loss to expect at its thresholds. Its last notch answers all."""


@dataclass(frozen=True)
class Evidence:
    """The answers to n rows, by fits that never saw the row."""

    answers: Array
    """Each level's probabilities, FP32 [levels, n, labels]."""
    labels: Array
    """The rows' labels, INT [n]."""
    costs: Array
    """The cost of each level to a text, on top of the level before it, FP [levels]."""
    slices: dict[str, Array] = field(default_factory=dict)
    """The rows of each slice that is judged by itself."""
    final: Array | None = None
    """Rows that a level answers at any quality, because no later one weighs who was not asked, BOOL [levels - 1, n]. In
    `answers` the later levels repeat that level's answer."""
    weights: Array | None = None
    """How much a row counts in what is lost, FP [n], 1 in the mean; None: all alike."""

    def answered(self, thresholds: Array) -> Array:
        """Return the level that answers each row, INT [n], under thresholds FP [levels - 1, labels]."""
        tops, labels = self.answers[:-1].max(-1), self.answers[:-1].argmax(-1)
        sure = tops >= np.take_along_axis(thresholds.astype(np.float32), labels, 1)
        if self.final is not None:
            sure |= self.final
        return np.vstack([sure, np.ones((1, len(self.labels)), bool)]).argmax(0)


@dataclass(frozen=True)
class ThresholdSetting:
    """One setting of the thresholds FP [levels - 1, labels], and what the rows say of it."""

    thresholds: Array
    cost: float
    """Mean, of a text."""
    loss: float
    """Expected, of accuracy, against the last level."""
    bound: float
    """The upper bound of the expected loss, at the stated confidence."""
    seen: float
    """Accuracy lost on the rows, by their labels."""
    accuracy: float
    ece: float
    shares: list[float]
    """The share of the texts that each level answers."""
    worst: float = 0.0
    """The largest loss, expected or seen, on a slice."""

    def figures(self) -> ThresholdPoint:
        """Return the point for the report, without its thresholds."""
        return ThresholdPoint(
            cost=self.cost,
            accuracy=self.accuracy,
            loss=self.loss,
            bound=self.bound,
            seen=self.seen,
            ece=self.ece,
            shares=self.shares,
            worst=self.worst,
        )


@dataclass(frozen=True)
class Path:
    """From the safe end to the cheap one, and the point that is taken for "balanced"."""

    points: list[ThresholdSetting]
    balanced: ThresholdSetting
    by_label: list[bool]
    """Whether a level's labels have thresholds of their own, for each level but the last."""

    def level(self, i: int, labels: int) -> Thresholds:
        """Return the thresholds of a level; the last one's mean nothing, for it answers always."""
        always, never = [ALWAYS] * labels, [NEVER] * labels
        if i == len(self.by_label):
            return Thresholds(fast=always, balanced=always, best=always)
        return Thresholds(fast=always, balanced=self.balanced.thresholds[i].tolist(), best=never)


def fit(
    evidence: Evidence, epsilon: float, confidence: float, count: int, seed: int, slice_epsilon: float = 1.0
) -> Path:
    """Fit the thresholds on the evidence.

    Args:
        evidence: out of fold
        epsilon: accuracy that may be lost, a share
        confidence: at which it holds, a share
        count: of folds that judge whether labels get thresholds of their own
        seed: of folds
        slice_epsilon: accuracy that may be lost on a slice, a share
    """
    early, last = evidence.answers[:-1], evidence.answers[-1]
    lost = [risk.losses(level, last) for level in early]
    fitted = [risk.fit(level, of_level, count, seed) for level, of_level in zip(early, lost, strict=True)]
    risks = [risk_of for risk_of, _ in fitted]
    path = [measure(evidence, thresholds, confidence) for thresholds in _path(evidence, risks)]
    safe = next((i for i, point in enumerate(path[1:]) if point.bound > epsilon), len(path) - 1)
    balanced = next(
        point for point in reversed(path[: safe + 1]) if point.seen <= epsilon and point.worst <= slice_epsilon
    )
    return Path(path, balanced, [helps for _, helps in fitted])


def measure(evidence: Evidence, thresholds: Array, confidence: float) -> ThresholdSetting:
    """Measure the cascade under thresholds on the evidence.

    Args:
        evidence: out of fold
        thresholds: FP [levels - 1, labels]
        confidence: of the bound, a share
    """
    by = evidence.answered(thresholds)
    answers, last = evidence.answers[by, np.arange(len(by))], evidence.answers[-1]
    lost = risk.losses(answers, last)
    accuracy = metrics.accuracy(answers, evidence.labels)
    worse = (last.argmax(-1) == evidence.labels) * 1.0 - (answers.argmax(-1) == evidence.labels)
    weights = evidence.weights
    of_slices = [
        max(np.average(of_rows[rows], weights=None if weights is None else weights[rows]) for of_rows in (lost, worse))
        for rows in evidence.slices.values()
    ]
    seen = metrics.accuracy(last, evidence.labels) - accuracy
    if weights is not None:
        seen = float(np.average(worse, weights=weights))
    return ThresholdSetting(
        thresholds=thresholds,
        cost=float(np.cumsum(evidence.costs)[by].mean()),
        loss=float(np.average(lost, weights=weights)),
        bound=risk.bound(lost, confidence, weights),
        seen=seen,
        accuracy=accuracy,
        ece=metrics.calibration_error(answers, evidence.labels),
        shares=(np.bincount(by, minlength=len(evidence.answers)) / len(by)).tolist(),
        worst=float(max(of_slices, default=0.0)),
    )


def _path(evidence: Evidence, risks: list[risk.Risk]) -> list[Array]:
    """Return thresholds, each FP [levels - 1, labels], from all NEVER to the first level's ALWAYS."""
    levels, rows, labels = evidence.answers.shape
    if levels == 1:
        return [np.empty((0, labels))]
    never, always = np.full(labels, NEVER), np.full(labels, ALWAYS)
    # FP [levels - 1, notches, labels]
    notches = np.array([[never, *map(risk_of.thresholds, _RISKS), always] for risk_of in risks])
    # The last level loses nothing against itself.
    early = [risk_of(answers) for risk_of, answers in zip(risks, evidence.answers, strict=False)]
    expected = np.array([*early, np.zeros(rows)])
    opened = np.array([_opened(notch, answers) for notch, answers in zip(notches, evidence.answers, strict=False)])
    if evidence.final is not None:
        opened[evidence.final] = 0
    costs, row = np.cumsum(evidence.costs), np.arange(rows)

    def weigh(places: Array) -> tuple[Array, float, float]:
        by = np.vstack([opened <= places[:, None], np.ones((1, rows), bool)]).argmax(0)
        return by, float(costs[by].mean()), float(expected[by, row].mean())

    places = np.zeros(levels - 1, int)
    by, cost, loss = weigh(places)
    path = [notches[np.arange(levels - 1), places]]
    while by.any():
        moves = []
        for i in range(levels - 1):
            if (later := by > i).any():  # to the next notch that a row is waiting for
                moved = places.copy()
                moved[i] = opened[i][later].min()
                weighed = weigh(moved)
                moves.append(((cost - weighed[1]) / max(weighed[2] - loss, 1e-12), moved, weighed))
        _, places, (by, cost, loss) = max(moves, key=lambda move: move[0])
        path.append(notches[np.arange(levels - 1), places])
    return path


def _opened(notches: Array, answers: Array) -> Array:
    """Return the first of the notches FP [notches, labels] that answers each row of FP32 [n, labels], INT [n]."""
    return (answers.max(-1) >= notches.astype(np.float32)[:, answers.argmax(-1)]).argmax(0)
