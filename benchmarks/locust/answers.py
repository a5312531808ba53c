"""The check of an answer."""

import math
from collections.abc import Collection, Mapping

_ROUNDING = 1e-3


def problem(label: str, probabilities: Mapping[str, float], labels: Collection[str]) -> str:
    """Return what is wrong, in words; empty for an answer of one of the labels with a distribution over all of them."""
    if label not in labels:
        return f"label {label!r:.80}, expected one of {', '.join(sorted(labels))}"
    if set(probabilities) != set(labels):
        return f"probabilities of {sorted(probabilities)}, expected of {sorted(labels)}"
    values = probabilities.values()
    if not all(0 <= value <= 1 for value in values) or not math.isclose(sum(values), 1, abs_tol=_ROUNDING):
        return f"probabilities {dict(probabilities)}, expected shares that sum to 1"
    if probabilities[label] < max(values) - _ROUNDING:
        return f"label {label!r} of {dict(probabilities)}, which is not the most probable"
    return ""
