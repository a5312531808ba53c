"""Every way to combine, against values worked out by hand."""

import math

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from newsdesk.server.runtime import combine
from newsdesk.server.runtime.combine import FLOOR, Bayes, ByLength, Combiner, Mean, Ranks, Stacked, Weighted
from newsdesk.server.runtime.files import File

ONE = np.array([[[0.5, 0.5], [1.0, 0.0]], [[0.9, 0.1], [0.2, 0.8]]], np.float32)
"""Two members, two texts, two labels."""
RANKS = Ranks(
    values=[[[0.0, 0.5, 1.0], [0.0, 0.5, 1.0]], [[0.1, 0.9], [0.4]]],
    ranks=[[[0.0, 0.8, 1.0], [0.0, 0.2, 1.0]], [[0.25, 0.75], [0.5]]],
)
STACKED = Stacked(File("ensemble/stacked.onnx", "0" * 64), "logistic")
BY_LENGTH = ByLength([6], [[0.25, 0.75], [1.0, 0.0]])
ALL = [Mean(), Weighted([0.25, 0.75]), Bayes([1.0, 0.0]), RANKS, STACKED, BY_LENGTH]


def _stack(features: np.ndarray) -> np.ndarray:
    """A stacker that trusts the second member's logarithms alone."""
    return np.exp(features[:, 2:])


@pytest.mark.parametrize(
    ("combiner", "expected"),
    [
        (Mean(), [[0.7, 0.3], [0.6, 0.4]]),
        (Weighted([0.25, 0.75]), [[0.8, 0.2], [0.4, 0.6]]),
        (Weighted([2.0, 6.0]), [[0.8, 0.2], [0.4, 0.6]]),
        (Bayes([0.25, 0.75]), [[0.8, 0.2], [0.4, 0.6]]),
        # Text 0: label 0 stands at 0.8 and 0.75, label 1 at 0.2 and 0.5. Text 1: at 1 and 0.25 + 0.5 × 0.1 / 0.8; at 0
        # and 0.5.
        (RANKS, [[1.55 / 2.25, 0.7 / 2.25], [1.3125 / 1.8125, 0.5 / 1.8125]]),
        (STACKED, [[0.9, 0.1], [0.2, 0.8]]),
        # Text 0 has 5 words, text 1 has 6.
        (BY_LENGTH, [[0.8, 0.2], [1.0, 0.0]]),
    ],
)
def test_by_hand(combiner: Combiner, expected: list) -> None:
    combined = combine.ready(combiner, _stack)(ONE, np.array([5, 6]))
    assert combined.dtype == np.float64
    np.testing.assert_allclose(combined, expected, atol=2e-7)


@pytest.mark.parametrize("combiner", ALL)
@given(st.lists(st.lists(st.sampled_from([0.0, 1e-30, 1e-6, 0.3, 1.0]), min_size=2, max_size=2), min_size=1))
def test_a_distribution_comes_out_and_a_text_alone_gets_the_same(combiner: Combiner, firsts: list) -> None:
    """Zeros, ones and ties included."""
    first = np.array(firsts, np.float32).T
    members = np.stack([first, 1 - first], axis=-1)
    run = combine.ready(combiner, _stack)
    lengths = np.arange(len(first.T)) + 4
    combined = run(members, lengths)
    assert np.isfinite(combined).all()
    assert (combined > 0).all()
    np.testing.assert_allclose(combined.sum(-1), 1, atol=1e-12)
    alone = np.concatenate([run(members[:, i : i + 1], lengths[i : i + 1]) for i in range(len(first.T))])
    np.testing.assert_array_equal(alone, combined)


@pytest.mark.parametrize("combiner", ALL)
def test_round_trip(combiner: Combiner) -> None:
    assert msgspec.json.decode(msgspec.json.encode(combiner), type=Combiner) == combiner


@pytest.mark.parametrize(
    ("raw", "complaint"),
    [
        (b'{"kind": "weighted", "weights": [-1]}', "weights"),
        (b'{"kind": "weighted", "weights": []}', "length >= 1"),
        (b'{"kind": "mean", "weights": [1]}', "weights"),
        (b'{"kind": "vote"}', "vote"),
        (b'{"kind": "by_length", "bounds": [], "weights": [[1]]}', "length >= 1"),
        (b'{"kind": "by_length", "bounds": [6, 6], "weights": [[1]]}', "expected rising numbers of words"),
    ],
)
def test_what_is_no_combiner_is_refused(raw: bytes, complaint: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=complaint):
        msgspec.json.decode(raw, type=Combiner)


def test_weights_by_length_want_lengths() -> None:
    with pytest.raises(ValueError, match="was given no lengths"):
        combine.ready(BY_LENGTH)(ONE)


@pytest.mark.parametrize(
    ("combiner", "expected"),
    [
        (Mean(), [[0.5, 0.5]] * 3),
        (STACKED, [[0.5, 0.5]] * 3),
        (Weighted([1.0, 3.0]), [[0.25, 0.75]] * 3),
        (ByLength([6], [[1.0, 3.0], [2.0, 0.0]]), [[0.25, 0.75], [1.0, 0.0], [1.0, 0.0]]),
    ],
)
def test_weights_of_a_combiner(combiner: Combiner, expected: list) -> None:
    np.testing.assert_allclose(combine.weights(combiner, 2, np.array([5, 6, 7])), expected)


def test_a_stacker_that_nothing_runs_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^a stacked combiner was given nothing that runs its graph$"):
        combine.ready(STACKED)


def test_features_are_log_probabilities_member_after_member() -> None:
    seen = combine.features(ONE)
    assert seen.dtype == np.float32
    np.testing.assert_allclose(np.exp(seen), [[0.5, 0.5, 0.9, 0.1], [1, FLOOR, 0.2, 0.8]], atol=1e-7)


def test_uncertainty_is_what_members_are_unsure_of_and_their_quarrel() -> None:
    """Two sure members that contradict each other; two unsure ones that agree; two sure ones that agree."""
    members = np.array([[[1, 0], [0.5, 0.5], [1, 0]], [[0, 1], [0.5, 0.5], [1, 0]]], float)
    uncertainty = combine.uncertainty(members, np.array([0.5, 0.5]))
    np.testing.assert_allclose(uncertainty.total, [math.log(2), math.log(2), 0], atol=1e-12)
    np.testing.assert_allclose(uncertainty.data, [0, math.log(2), 0], atol=1e-12)
    np.testing.assert_allclose(uncertainty.model, [math.log(2), 0, 0], atol=1e-12)


def test_uncertainty_of_texts_with_weights_of_their_own() -> None:
    """Two members that contradict each other: averaged, and one of them alone."""
    members = np.array([[[1, 0], [1, 0]], [[0, 1], [0, 1]]], float)
    uncertainty = combine.uncertainty(members, np.array([[0.5, 0.5], [1, 0]]))
    np.testing.assert_allclose(uncertainty.total, [math.log(2), 0], atol=1e-12)
    np.testing.assert_allclose(uncertainty.data, [0, 0], atol=1e-12)
    np.testing.assert_allclose(uncertainty.model, [math.log(2), 0], atol=1e-12)
