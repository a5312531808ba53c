"""Calibrate: a distribution a text to one that is right as often as it says, FP64 [n, labels] to FP64 [n, labels].

A calibrator is a Struct of the manifest; `ready` makes of it what runs. Whatever comes in, zeros and ones too, what
comes out is finite and sums to one.
"""

from collections.abc import Callable
from typing import Annotated

import numpy as np
from msgspec import Meta, Struct

from newsdesk.server.runtime.combine import FLOOR, normalised

Knots = Annotated[list[float], Meta(min_length=1)]
Calibrate = Callable[[np.ndarray], np.ndarray]


class Uncalibrated(Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="none"):
    """As it comes."""


class Temperature(Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="temperature"):
    """softmax(log p / temperature). Guo et al., On Calibration of Modern Neural Networks (2017), section 4.2."""

    temperature: Annotated[float, Meta(gt=0)]


class Platt(Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="platt"):
    """sigmoid(slope × log-odds + offset) for each label against the rest, scaled to sum one. Platt (1999)."""

    slopes: Knots
    offsets: Knots


class Vector(Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="vector"):
    """softmax(slope × log p + offset), a slope and an offset a label: Platt's for many labels. Guo et al. (2017)."""

    slopes: Knots
    offsets: Knots


class Isotonic(Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="isotonic"):
    """A rising step line for each label against the rest, scaled to sum one. Zadrozny and Elkan (2002).

    `given[label]` rise, `calibrated[label]` never fall; between two of them the line is straight.
    """

    given: list[Knots]
    calibrated: list[Knots]


Calibrator = Uncalibrated | Temperature | Platt | Vector | Isotonic


def ready(calibrator: Calibrator) -> Calibrate:
    """Return what calibrates FP [n, labels] to FP64 [n, labels]."""
    match calibrator:
        case Uncalibrated():
            return lambda given: given.astype(np.float64)
        case Temperature(temperature):
            return lambda given: softmax(logs(given) / temperature)
        case Platt(slopes, offsets):
            return _platt(np.array(slopes), np.array(offsets))
        case Vector(slopes, offsets):
            return _vector(np.array(slopes), np.array(offsets))
        case Isotonic(given, calibrated):
            return _isotonic([*map(np.array, given)], [*map(np.array, calibrated)])


def softmax(logits: np.ndarray) -> np.ndarray:
    """Return FP64 rows of sum one."""
    shifted = np.exp(logits - logits.max(-1, keepdims=True), dtype=np.float64)
    return shifted / shifted.sum(-1, keepdims=True)


def logs(probabilities: np.ndarray) -> np.ndarray:
    """Return log p, FP64, of probabilities not below FLOOR."""
    return np.log(np.maximum(probabilities, FLOOR, dtype=np.float64))


def log_odds(probabilities: np.ndarray) -> np.ndarray:
    """Return log(p / (1 - p)), FP64, of probabilities kept FLOOR away from both ends."""
    kept = np.clip(probabilities.astype(np.float64), FLOOR, 1 - FLOOR)
    return np.log(kept / (1 - kept))


def _platt(slopes: np.ndarray, offsets: np.ndarray) -> Calibrate:
    # The sigmoid by tanh, which cannot overflow.
    return lambda given: normalised(0.5 * (1 + np.tanh(0.5 * (slopes * log_odds(given) + offsets))))


def _vector(slopes: np.ndarray, offsets: np.ndarray) -> Calibrate:
    return lambda given: softmax(slopes * logs(given) + offsets)


def _isotonic(given: list[np.ndarray], calibrated: list[np.ndarray]) -> Calibrate:
    def calibrate(probabilities: np.ndarray) -> np.ndarray:
        lines = zip(probabilities.T, given, calibrated, strict=True)
        return normalised(np.stack([np.interp(*line) for line in lines], axis=-1))

    return calibrate
