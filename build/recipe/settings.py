"""The recipe's settings of the stages behind training: precision, compilation, verification, combination, packaging."""

from typing import Annotated, Literal, get_args

from msgspec import Meta, Struct

from newsdesk.build.recipe.fields import Alpha, CalibratorName, CombinerName, Fraction, Positive, UnsureScore
from newsdesk.server.contract import MAX_BATCH
from newsdesk.server.runtime import names

Variant = Literal["fp32", "fp16", "int8", "int8-fp16", "int8-dynamic", "fp8"]


class Quantise(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The precisions that are made, and how much accuracy one may lose."""

    variants: tuple[Variant, ...] = ("fp16", "int8", "int8-dynamic")
    """The variants that are made beside fp32. For GPUs: "int8-fp16" (made from int8; fp16 where that has fp32) and
    "fp8" (Ada, Hopper and later)."""
    calibration_rows: Positive = 300
    """Drawn from the training rows, at their own lengths."""
    smooth_quant_alphas: Annotated[tuple[Alpha, ...], Meta(min_length=1)] = (0.95, 0.8)
    """NNCF's SmoothQuant: how much of the activations' range moves into the weights; -1 turns it off. Tried in this
    order until one passes the gate."""
    max_float_products: Annotated[int, Meta(ge=0)] = 8
    """The most matrix products, the most sensitive first, that may read float activations where no variant passes."""
    max_accuracy_loss: Fraction = 0.001
    """Against the fp32 graph on the validation rows."""
    min_agreement: Fraction = 0.995


class Compile(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How the targets are measured on this machine."""

    rows: Positive = 256
    """Validation rows, at their own lengths."""
    batch: Positive = 32
    """Rows that arrive together."""
    rounds: Positive = 3
    """The targets take turns; a target's best round counts."""
    max_company_difference: Fraction = 0.01
    """How much a text's neighbours may change a probability. Activations that are quantised as they come share a scale
    with the batch, and then an answer depends on who else asked."""


class Engines(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """TensorRT engines, built of the variants that pass."""

    runtimes: tuple[Literal["tensorrt", "tensorrt_rtx"], ...] = ()
    """tensorrt needs the GPU that it builds for; tensorrt_rtx builds ahead of time, on any machine. Empty: none."""
    variants: tuple[Variant, ...] = ("fp16", "int8-fp16", "fp8")
    """The variants for engines, of those that `quantise.variants` makes."""
    batches: tuple[Positive, ...] = (1, 8, 32, 128)
    """The ends of the buckets of batches."""
    buckets: Positive = 6
    """The number of buckets of lengths, which the training rows' lengths place."""
    workspace_mib: Positive = 2048
    optimization_level: Annotated[int, Meta(ge=0, le=5)] = 3
    version_compatible: bool = False
    """Run on later versions of TensorRT, too; slower."""
    hardware: Literal["same", "same-capability", "ampere-plus"] = "same"
    """tensorrt: on which GPUs the engine runs beside the one that it was built on."""
    compute_capabilities: tuple[str, ...] = ("8.9", "12.0")
    """tensorrt_rtx: GPUs that the engine is built for, "8.6" and so on. fp8 needs 8.9 or later."""

    def __post_init__(self) -> None:
        if not self.batches or list(self.batches) != sorted(set(self.batches)):
            raise ValueError(f"engines.batches {self.batches}: expected ascending sizes, such as 1, 8, 32, 128")


class Verify(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Largest differences of a probability from the original's, by the artifact's precision."""

    rows: Positive = 200
    float_tolerance: Annotated[float, Meta(gt=0)] = 1e-3
    half_tolerance: Annotated[float, Meta(gt=0)] = 0.02
    int8_tolerance: Annotated[float, Meta(gt=0)] = 0.1
    """All real rows but `int8_outliers` must keep to it. A row on the border between two labels may swing wide in int8
    and still be as right as before. One limit for all rows would be so wide that it finds nothing."""
    int8_outliers: Fraction = 0.02
    int8_min_agreement: Fraction = 0.98
    int8_extreme_tolerance: Annotated[float, Meta(gt=0)] = 0.3
    """For texts that are no articles."""


class Ensemble(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How members are combined, calibrated and asked one after the other, fitted on validation rows.

    What a member says of rows that it left out calibrates it, too: see `Member.calibration_folds`.

    The snapshots of one training run are members like any.
    """

    combiners: Annotated[tuple[CombinerName, ...], Meta(min_length=1)] = get_args(CombinerName)
    """The combiners that are tried for each level of more than one member: "mean" is soft voting, "bayes" Bayesian
    model averaging, "weighted" weights that minimise the log-loss, "blend" the same fitted on one part of the rows and
    calibrated on the other, "by_length" weights for each bucket of the texts' lengths, "ranks" rank averaging, and the
    rest models over what the members say. Where lengths are unknown, what goes by length is passed over."""
    calibrators: Annotated[tuple[CalibratorName, ...], Meta(min_length=1)] = get_args(CalibratorName)
    folds: Annotated[int, Meta(ge=2)] = 5
    """Folds of the cross-validation. It chooses the simplest whose log-loss is within a standard error of the best."""
    blend_share: Annotated[float, Meta(gt=0, lt=1)] = 0.5
    """The share of the rows on which the weights of "blend" are fitted; its calibrator gets the others."""
    bayes_rows: Annotated[float, Meta(gt=0)] = 20
    """The most rows that "bayes" counts the validation rows as: the likelihood of thousands trusts one member alone."""
    even_rows: Annotated[float, Meta(ge=0)] = 0
    """The rows' weight of a penalty that holds the weights of "weighted" near equal ones; 0: no penalty."""
    epsilon: Annotated[float, Meta(gt=0, le=1)] = 0.001
    """Accuracy that "balanced" may lose on "best"."""
    confidence: Annotated[float, Meta(ge=0.5, lt=1)] = 0.8
    """With which it loses no more, over the draw of the validation rows. At 0.95, 5000 rows allow about half of the
    loss that they allow at 0.8."""
    slice_epsilon: Annotated[float, Meta(gt=0, le=1)] = 0.003
    """Accuracy that "balanced" may lose on "best" on each slice of the validation rows that has enough of them."""
    unsure_share: Annotated[float, Meta(ge=0, le=0.2)] = 0.02
    """The share of the validation rows that "unsure" marks; `newsdesk serve --unsure-share` may choose another."""
    unsure_score: UnsureScore = "entropy"
    """The score that it marks them by: the entropy of the answer, the total uncertainty of the members asked, or 1 less
    the top probability."""


class Repository(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The Triton model that is written."""

    model: str = "ag_news"
    """Its name, under which it is asked: letters, digits, _ and -."""
    variants: list[Variant] = []
    """Graphs to put in, if they pass; the target is the fastest that reads one of them. Empty: the fastest's alone."""
    max_batch_size: Positive = MAX_BATCH
    max_queue_size: Positive = 4096
    """Requests that may wait; Triton refuses what comes on top."""

    def __post_init__(self) -> None:
        if reason := names.refusal(self.model):
            raise ValueError(f"repository.model: {reason}")


class Card(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Parts of the model card that no measurement can give."""

    title: str = ""
    data: str = ""
    terms: str = ""
