"""The metrics of a member's graphs and targets, as the artifacts and the manifest have them.

A field's name is the name there.
"""

from msgspec import UNSET, Struct, UnsetType, structs


class Parity(Struct, frozen=True, kw_only=True):
    """How far a graph's logits are from the model's, over batches of these shapes."""

    shapes: list[list[int]]
    """[batch, length] of each."""
    largest_difference: float
    largest_padded_difference: float | None = None
    """Largest difference of padded rows from the same rows alone."""


class ExportFigures(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The export of a fit. A field that a kind of member has no figure for is left out of the record."""

    exporter: str = ""
    """The exporter of an encoder; `reason` says why it is that one."""
    reason: str = ""
    rows: int | None = None
    """Rows of the table of n-grams or terms."""
    opset: int
    rewritten: list[str] | None = None
    """The changes that were made to the graph."""
    shapes: list[list[int]] | None = None
    """As in `Parity`."""
    largest_difference: float
    largest_padded_difference: float | None = None


class GateScores(Struct, frozen=True, kw_only=True):
    """Answers to the validation rows, held against the fp32 graph's."""

    accuracy: float
    accuracy_loss: float
    agreement: float
    """The share of the rows with the fp32 graph's label."""
    finite: bool
    """Whether no probability is NaN or Inf."""
    passed: bool


class Conversion(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The work of a converter. A field that it has no figure for is left out of the record."""

    smooth_quant_alpha: float | None = None
    calibration_rows: int | None = None
    embeddings: int | None = None
    """Tables of embeddings in int8."""
    qdq_nodes: int | None = None
    kept_float: list[str] | None = None
    """Nodes that stay fp32 in an fp16 graph."""
    too_large: dict[str, float | None] | None = None
    """Nodes whose values are too large for fp16, with the largest; a manifest has null for what is not finite."""
    fused: dict[str, int] | None = None
    """How many operators of each kind were fused."""
    quantised_products: int | None = None
    float_products: list[str] | None = None
    """Matrix products that are left in float."""
    largest_scale: float | None = None


class TriedVariant(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A variant that was tried on the way to the one that is kept."""

    smooth_quant_alpha: float | UnsetType | None = UNSET
    kept_float: list[str] | UnsetType | None = UNSET
    float_products: list[str] | UnsetType | None = UNSET
    agreement: float | None
    accuracy_loss: float | None


class VariantFigures(Conversion, frozen=True, kw_only=True, omit_defaults=True):
    """A precision of a member's graph: how it was made, and how it did at the gate."""

    accuracy: float | None = None
    """This and the next three are those of `GateScores`; a variant that could not be made has none."""
    accuracy_loss: float | None = None
    agreement: float | None = None
    finite: bool | None = None
    passed: bool
    tried: list[TriedVariant] | None = None
    mib: float | None = None
    error: str = ""
    """Why it could not be made."""

    @classmethod
    def of(cls, scores: GateScores, made: Conversion | None = None) -> "VariantFigures":
        """Return the figures of a variant that was made so, with its scores."""
        return cls(**{**(structs.asdict(made) if made else {}), **structs.asdict(scores)})


class ConvertedFigures(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A variant that was made from an int8 graph."""

    agreement: float
    """The share of the texts with the int8 graph's label."""
    mib: float
    error: str = ""
    """Why it was left out."""


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
    """The largest difference on the real rows; `quantile`, `mean` and `agreement` are of these rows, too."""
    quantile: float
    mean: float
    agreement: float
    largest_extreme: float
    limits: Limits
    largest_in_company: float = 0.0
    """The most that a row's neighbours change a probability of it."""
