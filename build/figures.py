"""The figures and entries of a manifest, as far as the build reads them: those of any model that newsdesk has built."""

from typing import Any, TypeVar

import msgspec
from msgspec import Struct

from newsdesk.build.compile.metrics import TargetMetrics, VariantFigures
from newsdesk.build.ensemble.figures import Judgement
from newsdesk.build.evaluation.figures import PartFigures
from newsdesk.server.runtime.manifest import Manifest

T = TypeVar("T")


class MemberOfModel(Struct, frozen=True, kw_only=True):
    """The figures of a member."""

    accuracy: dict[str, PartFigures]
    """By part of the rows."""
    variants: dict[str, VariantFigures]
    targets: dict[str, TargetMetrics]


class ModelFigures(Struct, frozen=True, kw_only=True):
    """The figures of a model."""

    accuracy: dict[str, Judgement]
    """By part of the rows."""
    members: dict[str, MemberOfModel]
    machine: str
    """The machine that the targets were measured on."""

    @classmethod
    def of(cls, manifest: Manifest) -> "ModelFigures":
        """Read a manifest's figures. Raises msgspec.ValidationError where they are no build's."""
        return msgspec.convert(manifest.figures, cls)


class StageEntry(Struct, frozen=True, kw_only=True):
    """The entry of a stage. The first of a manifest is the recipe's, which has a command and settings alone."""

    stage: str
    name: str = ""
    """The member that the stage is of."""
    key: str = ""
    """The artifact's, in the store of its build."""
    made: str = ""
    """When the stage ended, UTC."""
    read: dict[str, str] = {}
    """SHA-256 of the files read beside other artifacts, by path."""
    packages: dict[str, str] = {}
    """Versions by name."""
    command: str = ""
    settings: dict[str, Any] = {}
    figures: Any = None

    def metrics(self, kind: type[T]) -> T:
        """Return the figures as the type that the stage recorded them in."""
        return msgspec.convert(self.figures, kind)


def entries(manifest: Manifest) -> list[StageEntry]:
    """Read the entries of a manifest. Raises msgspec.ValidationError where they are no build's."""
    return msgspec.convert(manifest.built, list[StageEntry])
