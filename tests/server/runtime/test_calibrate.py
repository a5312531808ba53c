"""Every calibrator, against values worked out by hand."""

import math

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from newsdesk.server.runtime import calibrate
from newsdesk.server.runtime.calibrate import (
    Calibrator,
    Isotonic,
    Platt,
    Temperature,
    TemperatureByLength,
    Uncalibrated,
    Vector,
)

GIVEN = np.array([[0.8, 0.2], [0.5, 0.5]])
ISOTONIC = Isotonic(uncalibrated=[[0.0, 0.5, 1.0], [0.4]], calibrated=[[0.1, 0.4, 0.8], [0.2]])
ALL = [
    Uncalibrated(),
    Temperature(0.05),
    Temperature(20.0),
    Platt([40.0, 1.0], [-3.0, 900.0]),
    Vector([40.0, 1.0], [-3.0, 900.0]),
    Isotonic(uncalibrated=[[0.0, 1.0]] * 2, calibrated=[[0.0, 0.0]] * 2),
    ISOTONIC,
]


def _sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value))


@pytest.mark.parametrize(
    ("calibrator", "expected"),
    [
        (Uncalibrated(), GIVEN.tolist()),
        (Temperature(2.0), [[2 / 3, 1 / 3], [0.5, 0.5]]),  # the square roots of 0.8 and 0.2 stand as 2 to 1
        (Temperature(0.5), [[16 / 17, 1 / 17], [0.5, 0.5]]),
        (Platt([1.0, 1.0], [0.0, 0.0]), GIVEN.tolist()),
        # Label 0: log-odds log 4 and 0, doubled: 16 to 1 and 1 to 1. Label 1: log-odds −log 4 and 0, plus log 4.
        (Platt([2.0, 1.0], [0.0, math.log(4)]), [[16 / 17 / (16 / 17 + 1 / 2), None], [0.5 / 1.3, None]]),
        (Vector([2.0, 1.0], [0.0, math.log(2)]), [[0.64 / 1.04, 0.4 / 1.04], [0.2, 0.8]]),
        # Label 0: 0.4 + 0.4 × 0.3 / 0.5 and 0.4. Label 1: 0.2 wherever it stands.
        (ISOTONIC, [[0.64 / 0.84, 0.2 / 0.84], [0.4 / 0.6, 0.2 / 0.6]]),
    ],
)
def test_by_hand(calibrator: Calibrator, expected: list) -> None:
    filled = [[row[0], 1 - row[0]] for row in expected]
    calibrated = calibrate.ready(calibrator)(GIVEN)
    assert calibrated.dtype == np.float64
    np.testing.assert_allclose(calibrated, filled, atol=1e-9)


def test_a_temperature_for_each_length_by_hand() -> None:
    """Nine words are below the bound, ten are not: 0.8 and 0.2 stand as 16 to 1 there, and as 2 to 1 here."""
    run = calibrate.ready(TemperatureByLength([10], [0.5, 2.0]))
    calibrated = run(np.array([[0.8, 0.2]] * 3), np.array([9, 10, 400]))
    np.testing.assert_allclose(calibrated, [[16 / 17, 1 / 17], [2 / 3, 1 / 3], [2 / 3, 1 / 3]], atol=1e-9)
    with pytest.raises(ValueError, match=r"bounds \[10, 10\], expected rising"):
        TemperatureByLength([10, 10], [1.0, 1.0, 1.0])


@pytest.mark.parametrize("calibrator", ALL)
def test_single_precision_comes_out_double(calibrator: Calibrator) -> None:
    assert calibrate.ready(calibrator)(GIVEN.astype(np.float32)).dtype == np.float64
    single = np.array([[0.25, 0.75]], np.float32)
    assert calibrate.softmax(single).dtype == calibrate.logs(single).dtype == calibrate.log_odds(single).dtype
    assert calibrate.logs(single).dtype == np.float64
    np.testing.assert_array_equal(calibrate.logs(single), [[math.log(0.25), math.log(0.75)]])
    np.testing.assert_array_equal(calibrate.log_odds(single)[0, 0], math.log(0.25 / 0.75))


@pytest.mark.parametrize("calibrator", ALL)
@given(st.lists(st.sampled_from([0.0, 1e-38, 1e-7, 0.5, 1 - 1e-7, 1.0]), min_size=1))
def test_a_distribution_comes_out_and_a_text_alone_gets_the_same(calibrator: Calibrator, first: list) -> None:
    probabilities = np.stack([np.array(first), 1 - np.array(first)], axis=-1)
    run = calibrate.ready(calibrator)
    calibrated = run(probabilities)
    assert np.isfinite(calibrated).all()
    np.testing.assert_allclose(calibrated.sum(-1), 1, atol=1e-12)
    np.testing.assert_array_equal(np.concatenate([run(row[None]) for row in probabilities]), calibrated)


@pytest.mark.parametrize("calibrator", ALL)
def test_round_trip(calibrator: Calibrator) -> None:
    assert msgspec.json.decode(msgspec.json.encode(calibrator), type=Calibrator) == calibrator


@pytest.mark.parametrize(
    ("raw", "complaint"),
    [
        (b'{"kind": "temperature", "temperature": 0}', "temperature"),
        (b'{"kind": "platt", "slopes": [1]}', "offsets"),
        (b'{"kind": "none", "temperature": 1}', "temperature"),
        (b'{"kind": "beta"}', "beta"),
    ],
)
def test_what_is_no_calibrator_is_refused(raw: bytes, complaint: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=complaint):
        msgspec.json.decode(raw, type=Calibrator)


def test_softmax_and_log_odds_of_extremes_are_finite() -> None:
    np.testing.assert_allclose(calibrate.softmax(np.array([[1e4, -1e4], [0, 0]], np.float32)), [[1, 0], [0.5, 0.5]])
    stacked = np.log([[[1, 3], [2, 2]], [[4, 1], [1, 4]]])  # of several members
    np.testing.assert_allclose(calibrate.softmax(stacked), [[[0.25, 0.75], [0.5, 0.5]], [[0.8, 0.2], [0.2, 0.8]]])
    np.testing.assert_allclose(calibrate.log_odds(np.array([0, 0.5, 1])), [-math.log(1e7), 0, math.log(1e7)], atol=1e-6)
