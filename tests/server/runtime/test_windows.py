"""Windows of a long text, against values worked out by hand."""

from typing import get_args

import msgspec
import numpy as np
import pytest

from newsdesk.server.runtime.manifest import Windows
from newsdesk.server.runtime.windows import Confidence, Place, Rule, combine

WINDOWS = np.array([[0.9, 0.1], [0.6, 0.4], [0.4, 0.6], [0.2, 0.8]], np.float32)
COUNTS = np.array([3, 1])
"""A text of three windows, and one of one."""


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("mean", 1.9 / 3),
        (Place(1.0), 1.9 / 3),
        (Place(3.0), (3 * 0.9 + 0.6 + 0.4) / 5),
        (Place(0.5), (0.5 * 0.9 + 0.6 + 0.4) / 2.5),
        (Confidence(0.0), 1.9 / 3),
        (Confidence(1.0), (0.9 * 0.9 + 0.6 * 0.6 + 0.6 * 0.4) / 2.1),
        (Confidence(2.0), (0.81 * 0.9 + 0.36 * 0.6 + 0.36 * 0.4) / 1.53),
    ],
)
def test_by_hand(rule: Rule, expected: float) -> None:
    combined = combine(WINDOWS, COUNTS, rule)
    np.testing.assert_allclose(combined, [[expected, 1 - expected], [0.2, 0.8]], atol=1e-7)
    assert combined.dtype == np.float64


@pytest.mark.parametrize("rule", ["mean", Place(3.0), Confidence(2.0)])
def test_texts_of_one_window_are_as_they_come(rule: Rule) -> None:
    np.testing.assert_array_equal(combine(WINDOWS, np.ones(4, np.int64), rule), WINDOWS)


def test_many_windows_are_added_in_double_precision() -> None:
    """A thousand times the same: in single precision the sum is off by more than its last digit."""
    windows = np.full((1000, 2), 0.1, np.float32)
    combined = combine(windows, np.array([999, 1]))
    np.testing.assert_allclose(combined, np.full((2, 2), float(np.float32(0.1))), rtol=1e-12)


@pytest.mark.parametrize("rule", ["mean", Place(2.5), Confidence(4.0)])
def test_round_trip(rule: Rule) -> None:
    windows = Windows(rule=rule)
    assert msgspec.json.decode(msgspec.json.encode(windows), type=Windows) == windows


def test_a_manifest_that_names_no_rule_takes_the_mean_and_an_unknown_one_is_refused() -> None:
    assert msgspec.json.decode(b'{"overlap": 0.25}', type=Windows).rule == "mean"
    assert "mean" in get_args(get_args(Rule)[0])
    for wrong in (b'"median"', b'{"kind": "place", "first": 0}', b'{"kind": "confidence", "power": -1}'):
        with pytest.raises(msgspec.ValidationError, match="rule"):
            msgspec.json.decode(b'{"rule": %s}' % wrong, type=Windows)
