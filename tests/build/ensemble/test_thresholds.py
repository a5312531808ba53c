"""Thresholds: worked out by hand, replayed by the server's code, and kept on texts that they were not fitted on."""

from dataclasses import dataclass

import msgspec
import numpy as np
import pytest

from newsdesk.build.ensemble import risk, thresholds
from newsdesk.build.ensemble.thresholds import Evidence, ThresholdSetting
from newsdesk.server.contract import QUALITIES
from newsdesk.server.runtime import cascade
from newsdesk.server.runtime.calibrate import Uncalibrated
from newsdesk.server.runtime.cascade import ALWAYS, NEVER, Cascade, Level
from newsdesk.server.runtime.combine import Mean
from tests.build.ensemble.simulated import LABELS, draw, softmax

COSTS = np.array([0.05, 0.3, 1.0])


def _evidence(rows: int, seed: int) -> Evidence:
    """Each level knows what the ones before it knew, and is calibrated: the product of what members say."""
    members, labels = draw(rows, seed, (1.1, 1.0, 1.0))
    means = softmax(np.cumsum(np.log(np.maximum(members, 1e-30)), axis=0))
    return Evidence(means.astype(np.float32), labels, COSTS)


def test_measure_by_hand() -> None:
    probabilities = np.array(
        [
            [[0.9, 0.1], [0.6, 0.4], [0.8, 0.2], [0.5, 0.5]],
            [[0.7, 0.3], [0.2, 0.8], [0.4, 0.6], [1.0, 0.0]],
        ],
        np.float32,
    )
    evidence = Evidence(probabilities, np.array([0, 1, 0, 0]), np.array([1.0, 9.0]))
    measured = thresholds.measure(evidence, np.array([[0.8, 0.0]]), 0.8)
    # Rows 0 and 2 reach 0.8 and are answered early; row 2 otherwise than the last level would, which loses 0.6 - 0.4
    # by its probabilities, and by the label wins.
    assert evidence.answered(np.array([[0.8, 0.0]])).tolist() == [0, 1, 0, 1]
    assert evidence.answered(np.array([[0.9, 0.0]])).tolist() == [0, 1, 1, 1]  # 0.9 of single precision reaches 0.9
    assert thresholds.measure(evidence, np.array([[ALWAYS, ALWAYS]]), 0.8).shares == [1, 0]
    assert measured.shares == [0.5, 0.5]
    assert measured.cost == pytest.approx((1 + 10 + 1 + 10) / 4)
    assert measured.loss == pytest.approx(0.2 / 4)
    assert measured.bound == risk.bound(
        np.array([0, 0, probabilities[1, 2, 1] - probabilities[1, 2, 0], 0], float), 0.8
    )
    assert measured.accuracy == 1
    assert measured.seen == pytest.approx(-0.25)
    assert measured.worst == 0  # there are no slices
    assert measured.ece == pytest.approx((0.1 + 0.2 + 0.2 + 0) / 4)  # all four are right
    assert msgspec.structs.asdict(measured.figures()) == {
        name: getattr(measured, name)
        for name in ("cost", "accuracy", "loss", "bound", "seen", "ece", "shares", "worst")
    }


@pytest.mark.parametrize(
    ("weights", "label", "loss", "seen", "worst"),
    [
        (None, 0, 0.05, -0.25, 0.1),
        (None, 1, 0.05, 0.25, 0.5),
        ([1, 1, 1.5, 0.5], 0, 0.075, -0.375, 0.15),
        ([1, 1, 1.5, 0.5], 1, 0.075, 0.375, 0.75),
    ],
)
def test_the_worst_slice_is_the_one_that_loses_most_expected_or_seen(
    weights: list[float] | None, label: int, loss: float, seen: float, worst: float
) -> None:
    """Row 2 alone loses something: 0.2 is expected; seen by label 1 it is the row, by 0 it is won."""
    early, last = (
        [[0.9, 0.1], [0.1, 0.9], [0.8, 0.2], [0.9, 0.1]],
        [[0.7, 0.3], [0.3, 0.7], [0.4, 0.6], [1.0, 0.0]],
    )
    slices = {"lossy": np.array([2, 3]), "other": np.array([0, 1])}
    counting = None if weights is None else np.array(weights)
    answers, labels = np.array([early, last], np.float32), np.array([0, 1, label, 0])
    evidence = Evidence(answers, labels, np.array([1.0, 9.0]), slices, weights=counting)
    measured = thresholds.measure(evidence, np.array([[0.8, 0.0]]), 0.8)
    assert (measured.loss, measured.seen, measured.worst) == pytest.approx((loss, seen, worst))
    assert measured.bound == pytest.approx(risk.bound(np.array([0, 0, 0.2, 0]), 0.8, counting))


@dataclass(frozen=True)
class _Risk:
    """A level whose loss to expect of each row is known, and that is 0.9 sure at the first risk, 0.7 at the third."""

    of_rows: list[float]

    def __call__(self, answers: np.ndarray) -> np.ndarray:
        assert answers.shape == (4, 2)
        return np.array(self.of_rows)

    def thresholds(self, at: float) -> list[float]:
        return [1 - at, 1 - at]


EARLY = np.array([[0.95, 0.05], [0.85, 0.15], [0.75, 0.25], [0.6, 0.4]], np.float32)
LATER = np.array([[0.95, 0.05], [0.95, 0.05], [0.85, 0.15], [0.75, 0.25]], np.float32)
NOTCHES = [NEVER, 0.9, 0.8, 0.7, ALWAYS]


def test_the_path_moves_where_most_cost_is_saved_for_the_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    """By hand: first the second level answers two rows, which saves 3 for 0.0025 where the first saves 2 for it."""
    monkeypatch.setattr(thresholds, "_RISKS", [0.1, 0.2, 0.3])
    evidence = Evidence(np.stack([EARLY, LATER, LATER]), np.zeros(4, int), np.array([1.0, 2.0, 6.0]))
    risks = [_Risk([0.01, 0.05, 0.2, 0.4]), _Risk([0.0, 0.01, 0.02, 0.1])]
    path = np.array(thresholds._path(evidence, risks))  # type: ignore[arg-type]
    assert path.shape == (8, 2, 2)
    places = [(0, 0), (0, 1), (0, 2), (1, 2), (1, 3), (2, 3), (3, 3), (4, 3)]
    np.testing.assert_allclose(path[:, :, 0], [(NOTCHES[first], NOTCHES[second]) for first, second in places])
    np.testing.assert_array_equal(path[:, :, 0], path[:, :, 1])


def test_no_notch_waits_for_a_row_that_a_level_answers_at_any_quality(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(thresholds, "_RISKS", [0.1, 0.2, 0.3])
    final = np.array([[False, False, False, True]])
    evidence = Evidence(np.stack([EARLY, LATER]), np.zeros(4, int), np.array([1.0, 2.0]), final=final)
    path = np.array(thresholds._path(evidence, [_Risk([0.0] * 4)]))  # type: ignore[list-item]
    np.testing.assert_allclose(path[:, 0, 0], NOTCHES[:4])
    assert [evidence.answered(point).tolist() for point in path[:2]] == [[1, 1, 1, 0], [0, 1, 1, 0]]
    every = Evidence(evidence.answers, evidence.labels, evidence.costs, final=np.ones((1, 4), bool))
    assert len(thresholds._path(every, [_Risk([0.0] * 4)])) == 1  # type: ignore[list-item]  # nothing is left to move for


def test_each_level_answers_by_the_threshold_of_its_own_top_label() -> None:
    answers = np.array([[[0.6, 0.4]], [[0.3, 0.7]], [[0.5, 0.5]]], np.float32)
    evidence = Evidence(answers, np.zeros(1, int), np.ones(3))
    by = [evidence.answered(np.array([[0.9, 0.1], of_second])).tolist() for of_second in ([0.9, 0.6], [0.1, 0.9])]
    assert by == [[1], [2]]


def test_a_row_opens_at_the_first_notch_that_it_reaches_by_its_own_label() -> None:
    notches = np.array([[NEVER, NEVER], [0.9, 0.5], [ALWAYS, ALWAYS]])
    assert thresholds._opened(notches, np.array([[0.9, 0.1], [0.45, 0.55], [0.8, 0.2]], np.float32)).tolist() == [
        1,
        1,
        2,
    ]


@pytest.mark.parametrize(
    ("epsilon", "slice_epsilon", "taken"),
    [(0.002, 0.01, 2), (0.002, 0.009, 1), (0.003, 1, 5), (0.001, 1, 1), (0, 1, 0)],
)
def test_balanced_is_the_last_point_within_every_limit_before_the_bound_is_passed(
    monkeypatch: pytest.MonkeyPatch, epsilon: float, slice_epsilon: float, taken: int
) -> None:
    """The safe end needs no bound, a limit may be reached, and past the first point above it none is taken."""
    numbers = [(9, 0, 0), (0.001, 0.001, 0), (0.002, 0.002, 0.01), (0.002, 0.0031, 0), (0.0021, 0, 1.1), (0.001, 0, 0)]
    points = [ThresholdSetting(np.zeros((1, 2)), 1, 0, bound, seen, 1, 0, [], worst) for bound, seen, worst in numbers]
    steps = iter(points)
    monkeypatch.setattr(thresholds, "_path", lambda evidence, risks: [np.zeros((1, 2))] * len(points))
    monkeypatch.setattr(thresholds, "measure", lambda evidence, thresholds, confidence: next(steps))
    evidence = Evidence(np.stack([EARLY, LATER]), np.zeros(4, int), np.array([1.0, 2.0]))
    drawn, fit = [], risk.fit
    monkeypatch.setattr(risk, "fit", lambda *arguments: drawn.append(arguments[2:]) or fit(*arguments))
    path = thresholds.fit(evidence, epsilon, 0.8, 2, 7, slice_epsilon)
    assert path.balanced is points[taken]
    assert drawn == [(2, 7)]  # folds and their seed: the same rows choose in every build


def test_a_level_s_thresholds_by_quality() -> None:
    setting = ThresholdSetting(np.array([[0.25, 0.5]]), 1, 0, 0, 0, 1, 0, [])
    path = thresholds.Path([setting], setting, [False])
    first, last = path.level(0, 2), path.level(1, 2)
    assert (first.fast, first.balanced, first.best) == ([ALWAYS] * 2, [0.25, 0.5], [NEVER] * 2)
    assert (last.fast, last.balanced, last.best) == ([ALWAYS] * 2,) * 3


def test_the_path_runs_from_never_to_the_first_level_at_falling_cost() -> None:
    path = thresholds.fit(_evidence(3000, 1), 0.002, 0.8, 5, 0)
    costs = [point.cost for point in path.points]
    assert path.points[0].shares == [0, 0, 1]
    assert path.points[0].loss == path.points[0].seen == 0
    assert path.points[-1].shares == [1, 0, 0]
    assert costs == sorted(costs, reverse=True)
    for before, after in zip(path.points, path.points[1:], strict=False):
        assert (after.thresholds <= before.thresholds).all()


def test_balanced_is_the_cheapest_point_before_the_bound_is_passed() -> None:
    evidence = _evidence(5000, 2)
    path = thresholds.fit(evidence, 0.002, 0.8, 5, 0)
    taken = next(i for i, point in enumerate(path.points) if point is path.balanced)
    assert taken > 0
    assert all(point.bound <= 0.002 for point in path.points[1 : taken + 1])
    assert path.balanced.seen <= 0.002
    further = path.points[taken + 1]
    assert further.bound > 0.002 or further.seen > 0.002
    assert path.balanced.cost < 0.8 * path.points[0].cost


def test_a_stricter_promise_costs_more() -> None:
    evidence = _evidence(5000, 3)
    lax, sure, strict = (
        thresholds.fit(evidence, epsilon, confidence, 5, 0).balanced
        for epsilon, confidence in ((0.004, 0.6), (0.004, 0.95), (0.001, 0.95))
    )
    assert lax.cost < sure.cost < strict.cost


def test_few_rows_prove_nothing_and_nobody_is_answered_early() -> None:
    path = thresholds.fit(_evidence(300, 4), 0.001, 0.8, 5, 0)
    assert path.balanced is path.points[0]
    assert (path.balanced.thresholds == NEVER).all()


def test_labels_that_tell_of_a_loss_are_believed() -> None:
    """A last level that says 0.34 where it is always right: by its probabilities nothing is lost, by the labels all."""
    rows, third = 6000, 1 / 3
    labels = np.arange(rows) % LABELS
    last = np.full((rows, LABELS), third - 0.0005)
    last[np.arange(rows), labels] = third + 0.001
    early = np.full((rows, LABELS), 0.05)
    early[np.arange(rows), (labels + (np.arange(rows) % 20 == 0)) % LABELS] = 0.9  # one in twenty is wrong
    path = thresholds.fit(Evidence(np.stack([early, last]).astype(np.float32), labels, COSTS[:2]), 0.01, 0.8, 5, 0)
    assert path.points[-1].bound < 0.01
    assert path.points[-1].seen == pytest.approx(0.05)
    assert path.balanced is path.points[0]


def test_one_level_answers_always() -> None:
    members, labels = draw(100, 5, (1.0,))
    path = thresholds.fit(Evidence(members.astype(np.float32), labels, np.array([1.0])), 0.001, 0.8, 5, 0)
    assert path.balanced.shares == [1.0]
    assert path.balanced.thresholds.shape == (0, LABELS)
    assert path.level(0, LABELS).best == [0.0] * LABELS


def test_the_server_answers_where_the_fit_said() -> None:
    evidence = _evidence(2000, 6)
    path = thresholds.fit(evidence, 0.002, 0.8, 5, 0)
    names = ["a", "b", "c"]
    levels = [
        Level(members=[name], combiner=Mean(), calibrator=Uncalibrated(), thresholds=path.level(i, LABELS))
        for i, name in enumerate(names)
    ]
    made = Cascade(levels, names, lambda file: pytest.fail("no stacker was asked for"))
    expected = {
        "fast": np.zeros(2000),
        "balanced": evidence.answered(path.balanced.thresholds),
        "best": np.full(2000, 2),
    }
    for quality, by in expected.items():
        assert cascade.replay(made, evidence.answers, QUALITIES.index(quality)).levels.tolist() == by.tolist()


def test_the_promise_is_kept_on_fresh_texts() -> None:
    """Fitted on 30 draws of 2500 rows each, and judged by the labels of 50,000 fresh ones."""
    epsilon = 0.004
    fresh = _evidence(50_000, 1000)
    right, rows = fresh.answers.argmax(-1) == fresh.labels, np.arange(50_000)
    kept: dict[float, list[bool]] = {0.6: [], 0.9: []}
    saved = []
    for seed in range(30):
        drawn = _evidence(2500, seed)
        for confidence, so_far in kept.items():
            fitted = thresholds.fit(drawn, epsilon, confidence, 3, seed).balanced
            by = fresh.answered(fitted.thresholds)
            so_far.append(right[-1].mean() - right[by, rows].mean() <= epsilon)
            saved.append(1 - np.cumsum(COSTS)[by].mean() / COSTS.sum())
    for confidence, so_far in kept.items():
        assert np.mean(so_far) >= confidence - 0.05
    assert np.mean(saved) > 0.2  # and is no empty one


def test_balanced_keeps_its_promise_on_every_slice() -> None:
    """One text in twenty is answered wrong and surely by the first level: little of all, everything of its slice."""
    evidence = _evidence(6000, 2)
    odd = np.flatnonzero(np.arange(6000) % 20 == 0)
    answers = evidence.answers.copy()
    answers[0, odd] = np.eye(LABELS)[(evidence.labels[odd] + 1) % LABELS] * 0.97 + 0.01
    lax = thresholds.fit(Evidence(answers, evidence.labels, COSTS), 0.06, 0.8, 5, 0)
    slices = {"odd": odd, "other": np.setdiff1d(np.arange(6000), odd)}
    sliced = Evidence(answers, evidence.labels, COSTS, slices)
    strict = thresholds.fit(sliced, 0.06, 0.8, 5, 0, slice_epsilon=0.003)
    last = (answers[-1].argmax(-1) == evidence.labels)[odd].mean()

    def lost(path: thresholds.Path) -> float:
        by = sliced.answered(path.balanced.thresholds)
        return last - (answers[by, np.arange(6000)].argmax(-1) == evidence.labels)[odd].mean()

    assert lost(lax) > 0.01
    assert lost(strict) <= 0.003
    assert strict.balanced.worst <= 0.003
    assert thresholds.measure(sliced, lax.balanced.thresholds, 0.8).worst >= lost(lax)
