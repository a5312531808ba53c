"""The types that fields of a recipe share: numbers within bounds, and names from a list."""

from typing import Annotated, Literal

from msgspec import Meta

Positive = Annotated[int, Meta(gt=0)]
Fraction = Annotated[float, Meta(ge=0, le=1)]
Alpha = Annotated[float, Meta(ge=-1, le=1)]
Name = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
# column → values; a row matches when, in every column named, its cell holds one of them. A cell may hold several, with
# "|" between.
Where = dict[str, list[str]]
# Names of `newsdesk.build.data.views`.
ViewName = Literal[
    "whole",
    "headline",
    "description",
    "first sentence",
    "run of words",
    "typing errors",
    "case noise",
    "look-alikes",
    "sources stripped",
]
SliceName = ViewName | Literal["joined"]
Share = Annotated[float, Meta(ge=0)]
# Each in the order of how much it can bend: the first of those that are as good is taken.
CombinerName = Literal["mean", "bayes", "weighted", "blend", "by_length", "ranks", "logistic", "catboost", "xgboost"]
CalibratorName = Literal["none", "temperature", "temperature_by_length", "vector", "platt", "isotonic"]
UnsureScore = Literal["entropy", "uncertainty", "top"]
