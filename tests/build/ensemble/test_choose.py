"""The choice: judged out of fold, by the right loss, and the simplest that does."""

import numpy as np
import pytest

from newsdesk.build.ensemble import calibrators, weights
from newsdesk.build.ensemble.choose import choose, fit
from newsdesk.build.ensemble.folds import folds
from newsdesk.build.ensemble.texts import Texts
from newsdesk.build.errors import DataError
from newsdesk.build.evaluation import metrics
from newsdesk.build.recipe import CombinerName, Ensemble
from newsdesk.server.runtime import calibrate, combine
from tests.build.ensemble.simulated import draw, softmax

QUICK = Ensemble(combiners=("mean", "bayes", "weighted", "blend", "ranks", "logistic"), folds=3)


def test_a_candidate_is_judged_on_rows_that_its_fit_never_saw() -> None:
    """The table's figures, worked out here fold by fold."""
    members, labels = draw(300, 1)
    settings = Ensemble(combiners=("weighted",), calibrators=("temperature",), folds=4)
    expected = np.empty(members.shape[1:])
    for part in folds(labels, 4, 9):
        rest = np.setdiff1d(np.arange(300), part)
        pooled = combine.ready(weights.weighted(members[:, rest], labels[rest]))
        calibrated = calibrate.ready(calibrators.temperature(pooled(members[:, rest]), labels[rest]))
        expected[part] = calibrated(pooled(members[:, part]))
    choice = choose(members, labels, settings, 9)
    np.testing.assert_allclose(choice.probabilities, expected, atol=1e-6)
    (row,) = choice.table
    assert row.log_loss == pytest.approx(metrics.log_loss(expected, labels))
    losses = -np.log(expected[np.arange(300), labels])
    assert row.standard_error == pytest.approx(losses.std(ddof=1) / 300**0.5)
    assert row.ece == pytest.approx(metrics.calibration_error(expected, labels))
    assert row.chosen


def test_the_simplest_within_a_standard_error_of_the_best_is_chosen() -> None:
    members, labels = draw(600, 2)
    choice = choose(members, labels, QUICK, 3)
    assert len(choice.table) == 6 * 5
    best = min(choice.table, key=lambda row: row.log_loss)
    (chosen,) = (row for row in choice.table if row.chosen)
    assert (chosen.combiner, chosen.calibrator) == choice.candidate
    assert best.worse_than_best == 0
    assert chosen.as_good
    before = choice.table[: choice.table.index(chosen)]
    assert before
    assert not any(row.as_good for row in before)
    for row in choice.table:
        low, high = row.interval
        assert row.worse_than_best == pytest.approx((low + high) / 2)
        assert row.as_good == (row.worse_than_best <= (high - low) / 2 / 1.96)


def test_what_bends_most_comes_last() -> None:
    members, labels = draw(60, 2)
    settings = Ensemble(combiners=("mean", "weighted", "logistic"), calibrators=("none", "platt", "isotonic"), folds=2)
    assert [(row.combiner, row.calibrator) for row in choose(members, labels, settings, 3).table] == [
        *(("mean", "none"), ("mean", "platt"), ("weighted", "none"), ("weighted", "platt")),
        *(("mean", "isotonic"), ("weighted", "isotonic")),
        *(("logistic", "none"), ("logistic", "platt"), ("logistic", "isotonic")),
    ]


def test_members_that_are_equally_good_are_averaged_as_they_come() -> None:
    """Two calibrated members that see the same thing: nothing can be won by more than the mean."""
    members, labels = draw(2000, 4, (1.2,))
    twice = np.concatenate([members, members])
    choice = choose(twice, labels, QUICK, 3)
    assert choice.candidate == ("mean", "none")
    np.testing.assert_allclose(choice.combiner.run(twice), members[0], atol=1e-6)


def test_a_member_that_is_too_sure_is_calibrated() -> None:
    members, labels = draw(2000, 5, (1.5,))
    sharp = softmax(3 * np.log(np.clip(members, 1e-5, None)))
    name, calibrator = choose(sharp, labels, QUICK, 3).candidate
    assert (name, calibrator) == ("mean", "temperature")


def test_one_member_is_not_combined() -> None:
    members, labels = draw(200, 6, (1.0,))
    assert {row.combiner for row in choose(members, labels, QUICK, 3).table} == {"mean"}


@pytest.mark.parametrize("name", ["mean", "bayes", "weighted", "blend", "ranks", "logistic"])
def test_what_a_calibrator_learns_from(name: CombinerName) -> None:
    """A "blend" gives the rows held out, a stacker the answers of a fit that never saw them; else the rows."""
    members, labels = draw(400, 7)
    combiner, (probabilities, of_probabilities, _) = fit(name, members, labels, Ensemble(blend_share=0.75), 1)
    assert len(probabilities) == len(of_probabilities) == (100 if name == "blend" else 400)
    assert (probabilities.argmax(-1) == of_probabilities).mean() > 0.8
    differs = np.abs(probabilities - combiner.run(members)).max() > 1e-3 if name != "blend" else None
    assert differs in (name == "logistic", None)


def test_a_label_that_a_fold_lacks_and_a_single_row() -> None:
    members, labels = draw(60, 8)
    rare = np.flatnonzero(labels == 2)[1:]
    kept = np.setdiff1d(np.arange(60), rare)  # one row of label 2
    choice = choose(members[:, kept], labels[kept], QUICK, 1)
    assert np.isfinite(choice.probabilities).all()
    alone = choose(members[:, :1], labels[:1], QUICK, 1)
    assert alone.candidate == ("mean", "none")
    assert len(alone.table) == 1


@pytest.mark.parametrize("sure", [0.0, 1.0])
def test_a_member_of_zeros_and_ones(sure: float) -> None:
    members, labels = draw(120, 9, (1.0, 1.0))
    members[0] = np.eye(3)[labels if sure else (labels + 1) % 3]  # always right, or always wrong
    choice = choose(members, labels, QUICK, 1)
    assert np.isfinite([row.log_loss for row in choice.table]).all()
    assert choice.candidate[0] != "mean"


def _long_and_short(rows: int, seed: int) -> tuple[np.ndarray, np.ndarray, Texts]:
    """Two members, of which one knows texts of 8 words, the other of 40; the other is sure of the wrong label there."""
    members, labels = draw(rows, seed, (1.0, 1.0))
    lengths = np.resize([8, 40], rows)
    nonsense, _ = draw(rows, seed + 1, (1.0, 1.0))
    members[0, lengths == 40] = nonsense[0, lengths == 40]
    members[1, lengths == 8] = nonsense[1, lengths == 8]
    return members, labels, Texts(lengths)


def test_members_that_know_texts_of_a_length_are_weighed_by_it() -> None:
    members, labels, texts = _long_and_short(1200, 1)
    settings = Ensemble(combiners=("mean", "weighted", "by_length"), calibrators=("none", "temperature"), folds=3)
    choice = choose(members, labels, settings, 3, texts=texts)
    assert choice.candidate[0] == "by_length"
    rule = choice.combiner.rule
    assert isinstance(rule, combine.ByLength)
    assert rule.bounds == [12]
    np.testing.assert_allclose(rule.weights, [[1, 0], [0, 1]])
    assert "by_length" not in {row.combiner for row in choose(members, labels, settings, 3).table}


def test_texts_of_one_length_are_not_parted() -> None:
    members, labels = draw(700, 2)
    settings = Ensemble(combiners=("mean", "by_length"), calibrators=("none", "temperature_by_length"), folds=2)
    choice = choose(members, labels, settings, 3, texts=Texts(np.full(700, 40)))
    assert [(row.combiner, row.calibrator) for row in choice.table] == [("mean", "none")]
    with pytest.raises(DataError, match="rows fill no two buckets"):
        choose(members, labels, Ensemble(combiners=("by_length",)), 3, texts=Texts(np.full(700, 40)))


def test_a_temperature_for_each_length() -> None:
    members, labels = draw(3000, 5, (1.0,))
    lengths = np.resize([8, 40], 3000)
    logits = np.log(np.clip(members, 1e-5, None)) * np.where(lengths == 8, 3, 1)[None, :, None]
    settings = Ensemble(calibrators=("none", "temperature", "temperature_by_length"), folds=3)
    choice = choose(softmax(logits), labels, settings, 3, texts=Texts(lengths))
    assert choice.candidate == ("mean", "temperature_by_length")
    assert choice.calibrator.bounds == [12]
    np.testing.assert_allclose(choice.calibrator.temperatures, [3, 1], rtol=0.1)


def test_a_candidate_that_harms_a_slice_is_not_as_good() -> None:
    """The first member knows nothing of one text in ten: on all rows that is not much, on theirs it is all."""
    members, labels = draw(4000, 8, (0.2, 0.2))
    few = np.arange(4000) % 10 == 0
    members[0, few] = 1 / 3
    settings = Ensemble(combiners=("mean", "weighted"), calibrators=("none",), folds=3)
    lax = choose(members, labels, settings, 3)
    slices = np.where(few, "headline", "whole")
    strict = choose(members, labels, settings, 3, texts=Texts(slices=slices))
    assert [row.harms for row in lax.table] == [[], []]
    assert strict.table[0].harms == ["headline"]
    assert not strict.table[0].as_good


def test_slices_of_a_row_stay_in_one_fold() -> None:
    """Each row stands there twice: a stacker of trees that saw its other half would know it by heart."""
    members, labels = draw(200, 9)
    twice, of_twice = np.concatenate([members, members], 1), np.concatenate([labels, labels])
    texts = Texts(groups=np.concatenate([np.arange(200), np.arange(200)]))
    settings = Ensemble(combiners=("weighted",), calibrators=("none",), folds=4)
    probabilities = choose(twice, of_twice, settings, 3, texts=texts).probabilities
    np.testing.assert_array_equal(probabilities[:200], probabilities[200:])  # from the same fit
    kept = choose(twice, of_twice, Ensemble(combiners=("blend",), calibrators=("none",), folds=2), 3, texts=texts)
    np.testing.assert_array_equal(kept.probabilities[:200], kept.probabilities[200:])
