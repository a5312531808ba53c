"""The figures of the ensemble, as the artifacts and the manifest have them: a field's name is the name there."""

from msgspec import Struct, field, structs

from newsdesk.build.evaluation import metrics
from newsdesk.build.evaluation.figures import ByQuality, Interval
from newsdesk.build.recipe import CalibratorName, CombinerName
from newsdesk.server.runtime.arrays import Array
from newsdesk.server.runtime.unsure import Score


class CalibratedScores(Struct, frozen=True, kw_only=True):
    """Answers to some rows, with the error of their probabilities."""

    accuracy: float
    log_loss: float
    """In nats."""
    macro_f1: float
    calibration_error: float

    @classmethod
    def of(cls, probabilities: Array, labels: Array) -> "CalibratedScores":
        """Measure probabilities FP [n, labels] against labels INT [n]."""
        summary = structs.asdict(metrics.summary(probabilities, labels))
        return cls(**summary, calibration_error=metrics.calibration_error(probabilities, labels))


class JudgedPoint(CalibratedScores, frozen=True, kw_only=True):
    """The ensemble at one quality."""

    answered_by: dict[str, float]
    """The share of the rows that each level answers, by its name."""


Judgement = ByQuality[JudgedPoint]


class MemberFigures(Struct, frozen=True, kw_only=True):
    """A member alone."""

    cost: float
    """Seconds a text."""
    rows_left_out: int
    """Rows beside the validation rows that calibrate it."""
    temperature: float
    calibrated: CalibratedScores
    uncalibrated: CalibratedScores


class CandidateScores(Struct, frozen=True, kw_only=True):
    """A combiner with a calibrator, judged on rows that its fits never saw."""

    combiner: CombinerName
    calibrator: CalibratorName
    log_loss: float
    standard_error: float
    """The log-loss's."""
    worse_than_best: float
    """How much its log-loss is above the best candidate's on the same rows; `interval` is its 95 % interval."""
    interval: Interval
    harms: list[str]
    """The slices on which it is clearly worse."""
    accuracy: float
    ece: float
    as_good: bool
    """Whether it is within one standard error of the best, and harms no slice."""
    chosen: bool


class LevelFigures(Struct, frozen=True, kw_only=True):
    """A level of the cascade."""

    combiner: CombinerName
    calibrator: CalibratorName
    out_of_fold: CalibratedScores
    candidates: list[CandidateScores]
    """The simplest first."""


class MeanUncertainty(Struct, frozen=True, kw_only=True):
    """The means of an `UncertaintySplit`, in nats."""

    total: float
    data: float
    model: float


class UncertaintyFigures(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The uncertainty of Bayesian model averaging where the last level is right, and where it is wrong."""

    posterior: list[float]
    """The weight of each member."""
    right: MeanUncertainty | None = None
    wrong: MeanUncertainty | None = None


class ThresholdPoint(Struct, frozen=True, kw_only=True):
    """One setting of the thresholds (see `thresholds.Point`)."""

    cost: float
    accuracy: float
    loss: float
    bound: float
    seen: float
    ece: float
    shares: list[float]
    worst: float


class CascadeThresholds(Struct, frozen=True, kw_only=True):
    """The thresholds that were fitted, and the ones tried beside them."""

    epsilon: float
    confidence: float
    rows_needed: int
    """The fewest rows that can show, at this confidence, that no more than epsilon is lost."""
    by_label: list[bool]
    """Whether a level's labels have thresholds of their own, for each level but the last."""
    points: dict[str, ThresholdPoint]
    """By quality."""
    frontier: list[ThresholdPoint]
    """From the safe end to the cheap one."""


class SliceScores(Struct, frozen=True, kw_only=True):
    """One quality on a slice of the rows."""

    accuracy: float
    calibration_error: float


class SliceFigures(ByQuality[SliceScores], frozen=True, kw_only=True):
    """A slice of the rows at each quality."""

    broken: list[str]
    """A sentence for each quality that is right clearly more often than a dearer one."""


class UnsureFigures(Struct, frozen=True, kw_only=True):
    """The marking of answers that are not sure."""

    score: Score
    share: float
    above: list[float | None]
    """The score above which an answer is marked, by the place in QUALITIES. Infinity marks none; a file of JSON has
    null in its place."""


class EnsembleReport(Struct, frozen=True, kw_only=True):
    """All that was fitted on the validation rows, with its figures."""

    rows: int
    members: dict[str, MemberFigures]
    """By name, in order of cost."""
    levels: dict[str, LevelFigures] = field(name="stages")
    """By name, in the cascade's order."""
    uncertainty: UncertaintyFigures
    cascade: CascadeThresholds
    slices: dict[str, SliceFigures]
    """By name; empty where the rows have one view alone."""
    unsure: UnsureFigures
