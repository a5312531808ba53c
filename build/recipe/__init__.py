"""The recipe: its types, and the files that hold it."""

from newsdesk.build.recipe.fields import CalibratorName, CombinerName, SliceName, UnsureScore, ViewName, Where
from newsdesk.build.recipe.files import RECIPES, convert, load
from newsdesk.build.recipe.members import (
    Adversarial,
    Contrastive,
    Distil,
    EncoderMember,
    Frozen,
    Linear,
    LinearMember,
    Member,
    NgramMember,
    Pretrain,
    Student,
    Teaching,
    Train,
)
from newsdesk.build.recipe.recipe import Recipe
from newsdesk.build.recipe.settings import (
    Card,
    Compile,
    Engines,
    Ensemble,
    Quantise,
    Repository,
    Variant,
    Verify,
)
from newsdesk.build.recipe.sources import Data, Local, Source, Split
from newsdesk.server.runtime.ngrams import Features

__all__ = [
    "RECIPES",
    "Adversarial",
    "CalibratorName",
    "Card",
    "CombinerName",
    "Compile",
    "Contrastive",
    "Data",
    "Distil",
    "EncoderMember",
    "Engines",
    "Ensemble",
    "Features",
    "Frozen",
    "Linear",
    "LinearMember",
    "Local",
    "Member",
    "NgramMember",
    "Pretrain",
    "Quantise",
    "Recipe",
    "Repository",
    "SliceName",
    "Source",
    "Split",
    "Student",
    "Teaching",
    "Train",
    "UnsureScore",
    "Variant",
    "Verify",
    "ViewName",
    "Where",
    "convert",
    "load",
]
