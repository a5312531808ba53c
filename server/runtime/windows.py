"""Combine the windows of a long text: a member's probabilities of each to one distribution a text.

A rule is a value of the manifest: "mean", or a Struct with its number.
"""

from typing import Annotated, Literal

import numpy as np
from msgspec import Meta, Struct

from newsdesk.server.runtime.arrays import Array


class Place(Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="place"):
    """A weighted mean: a window weighs its top probability to this power. An unsure window hardly counts."""

    first: Annotated[float, Meta(gt=0)]


class Confidence(Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="confidence"):
    """A weighted mean: a window weighs its top probability to this power. What is sure of nothing hardly counts."""

    power: Annotated[float, Meta(ge=0)]


Rule = Literal["mean"] | Place | Confidence


def combine(probabilities: Array, counts: Array, rule: Rule = "mean") -> Array:
    """Combine the windows of texts.

    Args:
        probabilities: of each window, text after text, FP [windows, labels]
        counts: windows of each text, INT [texts]
        rule: the manifest's

    Returns:
        FP64 [texts, labels].
    """
    if len(probabilities) == len(counts):
        return probabilities.astype(np.float64, copy=False)
    starts = np.cumsum(counts) - counts
    if rule == "mean":
        mean: Array = np.add.reduceat(probabilities, starts, dtype=np.float64) / counts[:, None]
        return mean
    weights = _weights(probabilities, starts, rule)
    weighted: Array = np.add.reduceat(weights[:, None] * probabilities, starts, dtype=np.float64)
    weighted /= np.add.reduceat(weights, starts)[:, None]
    return weighted


def _weights(probabilities: Array, starts: Array, rule: Place | Confidence) -> Array:
    """Return the weight of each window, FP64 [windows]."""
    weights: Array = np.ones(len(probabilities))
    if isinstance(rule, Confidence):
        weights = probabilities.max(-1).astype(np.float64) ** rule.power
        return weights
    weights[starts] = rule.first
    return weights
