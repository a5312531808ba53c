"""Calibrate: a distribution a text to one that is right as often as it says, FP64 [n, labels] to FP64 [n, labels].

A calibrator is a Struct of the manifest; `ready` makes of it what runs. Whatever comes in, zeros and ones too, what
comes out is finite and sums to one.
"""

from typing import Annotated, Protocol

import numpy as np
from msgspec import Meta, Struct, field

from newsdesk.server.runtime import lengths as by_words
from newsdesk.server.runtime.arrays import Array
from newsdesk.server.runtime.combine import FLOOR, normalised

Knots = Annotated[list[float], Meta(min_length=1)]


class Calibrate(Protocol):
    """Calibrates FP [n, labels] to FP64 [n, labels]; texts' words, INT [n], where it goes by length."""

    def __call__(self, probabilities: Array, lengths: Array | None = None) -> Array:
        """Calibrate the distributions of n texts."""


class Uncalibrated(Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="none"):
    """As it comes."""


class Temperature(Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="temperature"):
    """softmax(log p / temperature). Guo et al., On Calibration of Modern Neural Networks (2017), section 4.2."""

    temperature: Annotated[float, Meta(gt=0)]


class TemperatureByLength(
    Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="temperature_by_length"
):
    """softmax(log p / temperature), a temperature for each bucket of lengths; the bounds between them are words."""

    bounds: by_words.Bounds
    temperatures: list[Annotated[float, Meta(gt=0)]]

    def __post_init__(self) -> None:
        by_words.check(self.bounds)


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

    `uncalibrated[label]` rise, `calibrated[label]` never fall; between two of them the line is straight.
    """

    uncalibrated: list[Knots] = field(name="given")
    calibrated: list[Knots]


Calibrator = Uncalibrated | Temperature | TemperatureByLength | Platt | Vector | Isotonic


def ready(calibrator: Calibrator) -> Calibrate:
    """Return what calibrates FP [n, labels] to FP64 [n, labels].

    Args:
        calibrator: as the manifest has it; one that goes by length needs the texts' words with every call
    """
    match calibrator:
        case Uncalibrated():
            return lambda probabilities, lengths=None: probabilities.astype(np.float64)
        case Temperature(temperature):
            return lambda probabilities, lengths=None: softmax(logs(probabilities) / temperature)
        case TemperatureByLength(bounds, temperatures):
            return _by_length(bounds, np.array(temperatures))
        case Platt(slopes, offsets):
            return _platt(np.array(slopes), np.array(offsets))
        case Vector(slopes, offsets):
            return _vector(np.array(slopes), np.array(offsets))
        case Isotonic(uncalibrated, calibrated):
            return _isotonic([*map(np.array, uncalibrated)], [*map(np.array, calibrated)])


def softmax(logits: Array) -> Array:
    """Return FP64 rows of sum one.

    Args:
        logits: FP [..., labels]
    """
    shifted: Array = np.exp(logits - logits.max(-1, keepdims=True), dtype=np.float64)
    shifted /= shifted.sum(-1, keepdims=True)
    return shifted


def logs(probabilities: Array) -> Array:
    """Return log p, FP64, of probabilities not below FLOOR."""
    logarithms: Array = np.log(np.maximum(probabilities, FLOOR, dtype=np.float64))
    return logarithms


def log_odds(probabilities: Array) -> Array:
    """Return log(p / (1 - p)), FP64, of probabilities kept FLOOR away from both ends."""
    kept = np.clip(probabilities.astype(np.float64), FLOOR, 1 - FLOOR)
    return np.log(kept / (1 - kept))


def _by_length(bounds: list[int], temperatures: Array) -> Calibrate:
    def calibrate(probabilities: Array, lengths: Array | None = None) -> Array:
        return softmax(logs(probabilities) / temperatures[by_words.buckets(lengths, bounds), None])

    return calibrate


def _platt(slopes: Array, offsets: Array) -> Calibrate:
    # The sigmoid by tanh, which cannot overflow.
    def calibrate(probabilities: Array, lengths: Array | None = None) -> Array:
        return normalised(0.5 * (1 + np.tanh(0.5 * (slopes * log_odds(probabilities) + offsets))))

    return calibrate


def _vector(slopes: Array, offsets: Array) -> Calibrate:
    return lambda probabilities, lengths=None: softmax(slopes * logs(probabilities) + offsets)


def _isotonic(uncalibrated: list[Array], calibrated: list[Array]) -> Calibrate:
    def calibrate(probabilities: Array, lengths: Array | None = None) -> Array:
        lines = zip(probabilities.T, uncalibrated, calibrated, strict=True)
        return normalised(np.stack([np.interp(*line) for line in lines], axis=-1))

    return calibrate
