"""The metrics of a member's targets: how they were measured, and how far from the original they are."""

from msgspec import Struct


class TargetMetrics(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A target as it was measured on this machine. A field without a figure is left out of the record."""

    variant: str
    """The graph that the target reads."""
    accuracy: float | None = None
    """On the whole validation rows; `accuracy_loss` and `agreement` are against the fp32 graph."""
    accuracy_loss: float | None = None
    agreement: float | None = None
    finite: bool | None = None
    """Whether no probability is NaN or Inf."""
    passed: bool
    """Whether the target may serve."""
    company_difference: float | None = None
    """The most that a text's neighbours change a probability of it."""
    articles_per_second: float = 0.0
    """On one thread."""
    error: str = ""
    """Why the target cannot be loaded here; then there is no other figure."""


class Limits(Struct, frozen=True):
    """The differences of a probability from the original's that a target must keep to."""

    real: float
    """For the quantile `within` of the real rows."""
    within: float
    extreme: float
    """For every text that no article looks like."""
    agreement: float
    """The least share of real rows with the original's label."""


class Differences(Struct, frozen=True, kw_only=True):
    """A target's differences from the original: of each row the largest of its probabilities'."""

    largest: float
    """Of the real rows, as `quantile`, `mean` and `agreement`."""
    quantile: float
    mean: float
    agreement: float
    largest_extreme: float
    limits: Limits
    largest_in_company: float = 0.0
    """The most that a row's neighbours change a probability of it."""
