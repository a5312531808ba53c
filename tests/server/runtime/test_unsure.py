"""An answer is marked as not sure, against values worked out by hand."""

import math
from pathlib import Path

import msgspec
import numpy as np
import pytest

from newsdesk.server.runtime import cascade, manifest, unsure
from newsdesk.server.runtime.calibrate import Uncalibrated
from newsdesk.server.runtime.cascade import ABSENT, Answered, Level, Thresholds
from newsdesk.server.runtime.classifier import Classifier
from newsdesk.server.runtime.combine import ByLength, Combiner, Mean, Weighted
from newsdesk.server.runtime.errors import ManifestError
from newsdesk.server.runtime.unsure import STEPS, Unsure
from tests import tiny

TABLE = [1 - place / 100 for place in range(1, STEPS + 1)]
"""0.99 at a share of 0.5 %, 0.98 at 1 %, … 0.6 at 20 %."""
UNSURE = Unsure(score="entropy", share=0.02, fast=TABLE, balanced=[half / 2 for half in TABLE], best=[0.1] * STEPS)
ALWAYS = Thresholds(fast=[0.0] * 2, balanced=[0.0] * 2, best=[0.0] * 2)


@pytest.mark.parametrize(
    ("share", "expected"),
    [
        (None, [0.96, 0.48, 0.1]),
        (0.005, [0.99, 0.495, 0.1]),
        (0.2, [0.6, 0.3, 0.1]),
        (0.0075, [0.985, 0.4925, 0.1]),
        (0.001, [0.99, 0.495, 0.1]),
        (0, [math.inf] * 3),
    ],
)
def test_thresholds_of_a_share(share: float | None, expected: list[float]) -> None:
    np.testing.assert_allclose(UNSURE.thresholds(share), expected)


@pytest.mark.parametrize("share", [-0.01, 0.21])
def test_a_share_beyond_the_table_is_refused(share: float) -> None:
    with pytest.raises(ManifestError, match=rf"unsure share {share}, expected 0 to 0\.2"):
        UNSURE.thresholds(share)


def test_scores() -> None:
    probabilities = np.array([[0.5, 0.5], [0.75, 0.25], [1, 0]])
    uncertainty = np.array([[0.3, 0.2, 0.1]] * 3)
    entropy = -0.75 * math.log(0.75) - 0.25 * math.log(0.25)
    np.testing.assert_allclose(unsure.scores("entropy", probabilities, uncertainty), [math.log(2), entropy, 0])
    np.testing.assert_allclose(unsure.scores("uncertainty", probabilities, uncertainty), [0.3] * 3)
    np.testing.assert_allclose(unsure.scores("top", probabilities, uncertainty), [0.5, 0.25, 0])


def test_uncertainty_is_of_the_members_asked_by_the_weights_of_the_level_that_answered() -> None:
    """Texts 0 and 1 had only the first member: nobody contradicts it. 2 and 3 had both, who quarrel; the second
    has a quarter of the weight, and where texts are long all of it."""
    levels = [_level(["a"], Mean()), _level(["a", "b"], ByLength([6], [[0.75, 0.25], [0, 1]]))]
    members = np.array([[[0.5, 0.5], [1, 0], [1, 0], [1, 0]], [[ABSENT] * 2, [ABSENT] * 2, [0, 1], [0, 1]]], np.float32)
    answered = Answered(np.zeros((4, 2), np.float32), np.array([0, 0, 1, 1]), members)
    split = cascade.uncertainty(levels, ["a", "b"], answered, np.array([5, 5, 5, 6]))
    quarrel = -0.75 * math.log(0.75) - 0.25 * math.log(0.25)
    assert split.dtype == np.float32
    np.testing.assert_allclose(
        split, [[math.log(2), math.log(2), 0], [0, 0, 0], [quarrel, 0, quarrel], [0] * 3], atol=1e-7
    )


def test_uncertainty_where_the_first_level_answered_nothing() -> None:
    levels = [_level(["a"], Mean()), _level(["a", "b"], Mean())]
    answered = Answered(np.zeros((1, 2), np.float32), np.ones(1, np.int64), np.array([[[1, 0]], [[0, 1]]], np.float32))
    split = cascade.uncertainty(levels, ["a", "b"], answered, np.ones(1, np.int64))
    np.testing.assert_allclose(split, [[math.log(2), 0, math.log(2)]], atol=1e-7)


def _level(members: list[str], combiner: Combiner) -> Level:
    return Level(members=members, combiner=combiner, calibrator=Uncalibrated(), thresholds=ALWAYS)


def test_weights_that_are_no_average_are_alike() -> None:
    levels = [_level(["a", "b"], Weighted([3.0, 1.0]))]
    members = np.array([[[1, 0]], [[0, 1]]], np.float32)
    answered = Answered(np.zeros((1, 2), np.float32), np.zeros(1, np.int64), members)
    weighed = cascade.uncertainty(levels, ["a", "b"], answered, np.ones(1, np.int64))
    alike = cascade.uncertainty([_level(["a", "b"], Mean())], ["a", "b"], answered, np.ones(1, np.int64))
    np.testing.assert_allclose(weighed[0, 0], -0.75 * math.log(0.75) - 0.25 * math.log(0.25), atol=1e-7)
    np.testing.assert_allclose(alike[0, 0], math.log(2), atol=1e-7)


def test_a_classifier_marks_by_quality_and_share(tmp_path: Path) -> None:
    """A text without a known word has 1.39 nats; "goal match" has 0.53 by the first member, and 0.34 by all."""
    table = [1.2, 1.1] + [0.5] * (STEPS - 2)
    made = tiny.write_cascade(
        tmp_path, Unsure(score="entropy", share=0.01, fast=table, balanced=table, best=[0.4] * STEPS)
    )
    texts = ["said", "goal match said", "goal match said"]
    quality = np.array([0, 0, 2])
    for share, expected in ((None, [True, False, False]), (0.0, [False] * 3), (0.2, [True, True, False])):
        classifier = Classifier(made, tmp_path, "onnxruntime:fp32", 1, share)
        answers = classifier.classify(texts, quality)
        assert classifier.marks_unsure
        assert classifier.unsure(answers, quality).tolist() == expected
        part = answers.part(slice(1, 3))
        assert classifier.unsure(part, quality[1:]).tolist() == expected[1:]
        np.testing.assert_allclose(classifier.uncertainty(part), classifier.uncertainty(answers)[1:])


def test_a_model_that_does_not_say_marks_nothing_and_says_how_uncertain_it_is(tmp_path: Path) -> None:
    classifier = Classifier(tiny.write_cascade(tmp_path), tmp_path, "onnxruntime:fp32")
    answers = classifier.classify(["said"])
    assert not classifier.marks_unsure
    assert classifier.unsure(answers, np.array([1])).tolist() == [False]
    np.testing.assert_allclose(classifier.uncertainty(answers), [[math.log(4), math.log(4), 0]], atol=1e-5)


def test_round_trip_and_what_is_refused(tmp_path: Path) -> None:
    made = tiny.write_cascade(tmp_path, UNSURE)
    assert manifest.load(tmp_path).unsure == made.unsure == UNSURE
    raw = msgspec.to_builtins(UNSURE)
    for change in ({"fast": TABLE[1:]}, {"share": 0.3}, {"score": "energy"}):
        with pytest.raises(msgspec.ValidationError):
            msgspec.convert({**raw, **change}, Unsure)
