"""The figures of models on rows, as report.json and the manifest have them: a field's name is the name there."""

from typing import Any, Generic, TypeVar

from msgspec import Struct, field

from newsdesk.build.evaluation.curves import CoveragePoint, ReliabilityBin
from newsdesk.build.evaluation.metrics import LabelScores, Summary
from newsdesk.server.contract import Quality

PointT = TypeVar("PointT")

Interval = tuple[float, float]
"""The ends of a 95 % interval, the lower first."""


class ByQuality(Struct, Generic[PointT], frozen=True, kw_only=True):
    """The figures of some rows at each quality."""

    rows: int
    fast: PointT
    balanced: PointT
    best: PointT

    def at(self, quality: Quality) -> PointT:
        """Return the figures of a quality."""
        return getattr(self, quality)


class SlicePoint(Struct, frozen=True, kw_only=True):
    """An operating point on a slice of the rows."""

    accuracy: float
    accuracy_interval: Interval
    calibration_error: float


class StrangerPoint(Struct, frozen=True, kw_only=True):
    """How well the doubt of an operating point tells strangers from rows that have a label."""

    marked: float | None
    """The share of the strangers that are marked as unsure; None where the model marks none."""
    auroc: dict[str, float]
    """Strangers against each slice of the rows, by its name."""


class ClassifierScores(Struct, frozen=True, kw_only=True):
    """All measures of a classifier on some rows."""

    accuracy: float
    log_loss: float
    """In nats."""
    macro_f1: float
    accuracy_interval: Interval
    brier: float
    calibration_error: float
    calibration_by_chance: tuple[float, float]
    """The calibration error of as many rows where every probability is true: its mean, and its 95 % quantile."""
    per_label: list[LabelScores]
    confusion: list[list[int]]
    """Rows of each label, by the label that was answered."""
    reliability: list[ReliabilityBin]
    coverage: list[CoveragePoint]


class OperatingPoint(ClassifierScores, frozen=True, kw_only=True):
    """The cascade at one quality."""

    seconds_per_text: float
    answered_by: dict[str, float]
    """The share of the rows that each level answers, by its name."""


class FrontierPoint(Struct, frozen=True, kw_only=True):
    """The cascade where every level answers from one and the same probability on."""

    threshold: float
    accuracy: float
    seconds_per_text: float


class PairTest(Struct, frozen=True, kw_only=True):
    """McNemar's test of two classifiers, each a member or a quality."""

    first: str
    second: str
    only_first: int
    only_second: int
    p: float


class CascadeFigures(Struct, frozen=True, kw_only=True):
    """A model on the test rows."""

    points: dict[str, OperatingPoint]
    """By quality."""
    members: dict[str, ClassifierScores]
    """Each member alone, by its name."""
    mcnemar: list[PairTest]
    frontier: list[FrontierPoint]


class WindowCounts(Struct, frozen=True, kw_only=True):
    """How many rows were read in several windows, and the most windows that a row has."""

    rows_in_several: int
    most: int


class ErrorRow(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A row that was answered wrong."""

    row: int
    """Its number, from 1."""
    label: str
    answered: str
    probability: float
    text: str = ""
    """Left out for those who may not have the rows."""


Variants = dict[str, dict[str, Any]]
"""A member's variants by name, as the manifest of any build has them."""


class VariantLine(Struct, frozen=True, kw_only=True):
    """The part of a variant's figures that the page shows. There is either an error, or all the others."""

    accuracy: float = 0.0
    agreement: float = 0.0
    """The share of the rows with the float graph's label."""
    mib: float | None = None
    error: str = ""


class PartFigures(Struct, frozen=True, kw_only=True):
    """A member on the rows of a part."""

    rows: int
    original: Summary = field(name="float")
    """The fp32 graph's."""
    served: Summary
    """The serving target's."""
    agreement: float
    """The share of the rows on which both name the same label."""
