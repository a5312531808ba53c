"""Labels that count the same, however few their rows: by hand, and against a rule that is known."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import norm

from newsdesk.build import recipe as recipes
from newsdesk.build.ensemble import calibrators, ensemble, risk, selection, thresholds, weights
from newsdesk.build.ensemble.balance import effective_rows, equal
from newsdesk.build.ensemble.choose import choose
from newsdesk.build.ensemble.texts import Texts
from newsdesk.build.ensemble.thresholds import Evidence
from newsdesk.build.evaluation import metrics
from newsdesk.build.pipeline.declaration import declare
from newsdesk.build.recipe import CalibratorName, Ensemble
from newsdesk.server.runtime import calibrate, cascade
from newsdesk.server.runtime.calibrate import Temperature, Vector
from newsdesk.server.runtime.cascade import Cascade
from tests.build.ensemble.simulated import softmax

COMMON, RARE = 19_000, 1_000
LABELS = np.repeat([0, 1], [COMMON, RARE])
QUICK = Ensemble(combiners=("mean", "weighted"), calibrators=("temperature",), folds=2)


def late(seed: int, rows: np.ndarray = LABELS) -> np.ndarray:
    """A member whose log-odds of the rare label are spread by 1 around -3, and of the rare label's rows around -1.

    It names the rare label next to never. Of labels equally frequent, twice its log-odds and 4 are the right ones.
    """
    odds = np.random.default_rng(seed).normal(-3 + 2.0 * rows)
    return softmax(np.stack([np.zeros(len(rows)), odds], -1))


def test_weights_of_equal_labels() -> None:
    np.testing.assert_allclose(equal(np.array([0, 0, 0, 1])), [2 / 3, 2 / 3, 2 / 3, 2])
    np.testing.assert_allclose(equal(np.array([2, 0, 0])), [1.5, 0.75, 0.75])
    assert effective_rows(4, None) == 4
    assert effective_rows(1010, equal(np.repeat([0, 1], [1000, 10]))) == pytest.approx(4 / (1 / 1000 + 1 / 10))


def test_a_weighted_standard_error() -> None:
    """Values 1, 1, 4 with weights 1, 1, 2: the mean is 2.5, its error the root of (1.5² + 1.5² + (2 × 1.5)²) / 4²."""
    values, counts = np.array([1.0, 1.0, 4.0]), np.array([1.0, 1.0, 2.0])
    assert metrics.standard_error(values, counts) == pytest.approx(np.sqrt(13.5) / 4)
    assert metrics.standard_error(values) == pytest.approx(1.0)
    more = np.array([-1.0, -1.0, 1.2])
    assert not metrics.is_worse(more, np.zeros(3), errors=0)
    assert metrics.is_worse(more, np.zeros(3), errors=0, weights=counts)


def test_a_rule_is_undone_as_labels_equally_frequent_ask() -> None:
    fitted = calibrators.of_member(late(1), LABELS, equal(LABELS))
    assert isinstance(fitted, Vector)
    assert fitted.slopes == pytest.approx([2, 2], rel=0.1)
    assert fitted.offsets[1] - fitted.offsets[0] == pytest.approx(4, rel=0.1)
    assert isinstance(calibrators.of_member(late(1), LABELS, None), Temperature)


@pytest.mark.parametrize("name", [name for name in calibrators.FIT if name != "none"])
def test_every_calibrator_weighs_labels_alike(name: CalibratorName) -> None:
    """A member that says the same of every row: what fits is the labels' share, 5 % as they are and 50 % balanced."""
    answered = np.tile([0.7, 0.3], (len(LABELS), 1))
    as_they_are, balanced = (
        calibrate.ready(calibrators.fit(name, answered, LABELS, Texts(weights=counts)))(answered[:1])[0, 1]
        for counts in (None, equal(LABELS))
    )
    if name != "temperature":
        assert as_they_are == pytest.approx(0.05, abs=0.01)
    assert balanced == pytest.approx(0.5, abs=0.02)


def test_weights_of_members_by_hand() -> None:
    """Three common rows and a rare one: 1.8 / (0.2 + 0.6 w) = 0.6 / (0.8 - 0.6 w), and w = 11 / 12."""
    labels = np.array([0, 0, 0, 1])
    knows_common, knows_rare = np.tile([0.8, 0.8], (4, 1)), np.tile([0.2, 0.2], (4, 1))
    knows_common[3], knows_rare[3] = 0.2, 0.8
    members = np.stack([knows_common, knows_rare])
    assert weights.weighted(members, labels).weights == pytest.approx([11 / 12, 1 / 12], abs=1e-4)
    assert weights.weighted(members, labels, equal(labels)).weights == pytest.approx([0.5, 0.5], abs=1e-4)
    assert weights.bayes(members, labels, 1e12).posterior == pytest.approx([16 / 17, 1 / 17])
    assert weights.bayes(members, labels, 1e12, equal(labels)).posterior == pytest.approx([0.5, 0.5])


def test_what_is_lost_by_hand() -> None:
    """No loss in n rows is bounded by the largest weight × -log(1 - confidence) / n."""
    counts = equal(np.array([0, 0, 0, 1]))
    assert risk.bound(np.zeros(4), 0.8, counts) == pytest.approx(-2 * np.log(0.2) / 4)
    early, last = np.array([[0.9, 0.1]] * 4), np.array([[0.8, 0.2], [0.8, 0.2], [0.8, 0.2], [0.4, 0.6]])
    evidence = Evidence(
        np.stack([early, last]).astype(np.float32),
        np.array([0, 0, 0, 1]),
        np.array([1.0, 9.0]),
        {"whole": np.arange(4)},
        weights=counts,
    )
    measured = thresholds.measure(evidence, np.zeros((1, 2)), 0.8)
    # The last level alone is right about the rare row, half of the weight: it loses 0.6 - 0.4 by its probabilities.
    assert measured.loss == pytest.approx(0.2 / 2)
    assert measured.seen == measured.worst == pytest.approx(0.5)
    assert measured.accuracy == 0.75
    alike = thresholds.measure(replace(evidence, weights=None), np.zeros((1, 2)), 0.8)
    assert (alike.loss, alike.seen) == pytest.approx((0.05, 0.25))


def test_the_choice_and_the_members_are_judged_by_labels_alike() -> None:
    members = np.stack([late(1), late(2)])
    choice = choose(members, LABELS, QUICK, 1, texts=Texts(weights=equal(LABELS)))
    losses = metrics.row_losses(choice.probabilities, LABELS)
    (chosen,) = (line for line in choice.table if line.chosen)
    assert chosen.log_loss == pytest.approx((losses[LABELS == 0].mean() + losses[LABELS == 1].mean()) / 2, abs=1e-5)
    selected = selection.select({"a": members[0], "b": members[1]}, LABELS, balanced=True)
    assert selected.members == ["a", "b"]
    losses = metrics.row_losses(selected.probabilities, LABELS)
    (chosen,) = (line for line in selected.table if line.chosen)
    assert chosen.log_loss == pytest.approx((losses[LABELS == 0].mean() + losses[LABELS == 1].mean()) / 2)


def test_answers_are_those_of_labels_equally_frequent(tmp_path: Path) -> None:
    """Two members of noises of their own: their log-odds' sum is right at its middle in 1 - Φ(-√2) of either label."""
    members = np.stack([late(1), late(2)]).astype(np.float32)
    unseen = np.repeat([0, 1], 4000)
    asked = np.stack([late(3, unseen), late(4, unseen)]).astype(np.float32)
    recalls = {}
    for balanced in (False, True):
        made = ensemble.fit(["a", "b"], members, LABELS, [1.0, 2.0], QUICK, 1, tmp_path, balanced=balanced)
        alone = np.stack(
            [
                calibrate.ready(calibrator)(of_member)
                for calibrator, of_member in zip(made.calibrators, asked, strict=True)
            ]
        )
        served = Cascade(made.levels, made.order, lambda file: None)
        best = cascade.replay(served, alone.astype(np.float32), 2, np.ones(len(unseen), int)).probabilities
        recalls[balanced] = [float((best.argmax(-1) == unseen)[unseen == label].mean()) for label in (0, 1)]
    assert made.report.members["a"].temperature == pytest.approx(0.5, rel=0.1)
    assert recalls[False][1] < 0.2
    assert recalls[True] == pytest.approx([norm.cdf(np.sqrt(2))] * 2, abs=0.03)


def test_a_build_without_balanced_labels_declares_what_it_did() -> None:
    recipe = recipes.load("own", {"members.linear.balanced": True})
    assert recipe.balanced
    assert not recipes.load("own").balanced
    for changes, declared in (({}, {}), ({"members.linear.balanced": True}, {"balanced": True})):
        stages = declare(recipes.load("own", changes)).graph.stages
        assert stages["select"].settings == declared
        assert {name: stages["ensemble"].settings[name] for name in declared} == declared
        assert {*stages["ensemble"].settings} == {"settings", "seed", *declared}
