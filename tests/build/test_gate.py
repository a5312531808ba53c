"""The gate by hand: what a variant may lose, how often it may disagree, and what it says of one that does not pass."""

import numpy as np
import pytest
from msgspec.structs import replace

from newsdesk.build.compile.gate import Gate
from newsdesk.build.compile.metrics import GateScores, VariantFigures
from newsdesk.build.compile.predict import Examples
from newsdesk.server.runtime.batching import FreeShapes

ROWS = 100
WRONG, ELSEWHERE, RIGHT = [0.1, 0.8, 0.1], [0.1, 0.1, 0.8], [0.8, 0.1, 0.1]
"""Answers to a row of label 0, of which WRONG and ELSEWHERE are wrong each in its own way."""


def answers(wrong: int = 0, elsewhere: int = 0) -> np.ndarray:
    return np.array([WRONG] * wrong + [ELSEWHERE] * elsewhere + [RIGHT] * (ROWS - wrong - elsewhere))


def gate(max_accuracy_loss: float = 0.01, min_agreement: float = 0.99) -> Gate:
    """Return a gate whose float model is wrong on the first two of a hundred rows."""
    examples = Examples([[1]] * ROWS, np.ones(ROWS, int), np.zeros(ROWS, int), 0, 8)
    return Gate(examples, answers(wrong=2), max_accuracy_loss, min_agreement)


def test_a_variant_that_only_disagrees_does_not_pass() -> None:
    """As often right as the float model, 98 of 100, but wrong in another way where both are wrong."""
    only_disagrees = GateScores(accuracy=0.98, accuracy_loss=0.0, agreement=0.98, finite=True, passed=False)
    assert gate().judge(answers(elsewhere=2)) == only_disagrees
    assert gate(min_agreement=0.98).judge(answers(elsewhere=2)) == replace(only_disagrees, passed=True)


def test_a_variant_that_is_only_less_right_does_not_pass() -> None:
    less_right = GateScores(accuracy=0.96, accuracy_loss=0.02, agreement=0.98, finite=True, passed=False)
    assert gate(0.01, 0.0).judge(answers(wrong=4)) == less_right
    assert gate(0.02, 0.0).judge(answers(wrong=4)) == replace(less_right, passed=True)


def test_a_variant_that_is_more_right_passes() -> None:
    assert gate(0.0, 0.98).judge(answers()) == GateScores(
        accuracy=1.0, accuracy_loss=-0.02, agreement=0.98, finite=True, passed=True
    )


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_one_value_that_is_no_number_does_not_pass(value: float) -> None:
    broken = answers(wrong=2)
    broken[7, 1] = value
    figures = gate(1.0, 0.0).judge(broken)
    assert (figures.finite, figures.passed) == (False, False)
    assert gate().reason(VariantFigures.of(figures)) == "it gives NaN or Inf"


def test_figures_are_rounded_to_five_places() -> None:
    third = Gate(Examples([[1]] * 3, np.ones(3, int), np.zeros(3, int), 0, 8), np.array([RIGHT] * 3), 1.0, 0.0)
    figures = third.judge(np.array([RIGHT, RIGHT, WRONG]))
    assert figures == GateScores(accuracy=0.66667, accuracy_loss=0.33333, agreement=0.66667, finite=True, passed=True)


def test_the_reason_names_what_was_measured_and_the_limits() -> None:
    assert gate().reason(VariantFigures.of(gate().judge(answers(elsewhere=2)))) == (
        "accuracy loss 0.0000 (at most 0.01), agreement 0.9800 (at least 0.99)"
    )
    assert gate().reason(VariantFigures(passed=False, error="no such operator")) == "no such operator"


def test_an_engine_is_measured_on_the_examples() -> None:
    class Engine:
        def shapes(self, most: int) -> FreeShapes:
            return FreeShapes(most)

        def __call__(self, ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
            assert ids.shape == mask.shape
            return np.log(np.array([RIGHT] * len(ids), np.float32))

    assert gate(0.0, 0.0).measure(Engine(), "a title") == GateScores(
        accuracy=1.0, accuracy_loss=-0.02, agreement=0.98, finite=True, passed=True
    )
