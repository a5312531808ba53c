"""The graphs of a member, the tokenizer that makes ids of texts for them, and the target that serves it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from newsdesk.build.compile import planning
from newsdesk.build.compile.graphs import GraphFacts
from newsdesk.build.compile.metrics import VariantFigures
from newsdesk.build.compile.predict import Examples
from newsdesk.build.data.rows import Row
from newsdesk.build.pipeline.artifacts import Artifact
from newsdesk.build.pipeline.fits import MemberFit
from newsdesk.server.runtime import engines
from newsdesk.server.runtime.arrays import Array
from newsdesk.server.runtime.plans import Plan

REFERENCE = "reference.npy"
TARGET = "target.json"
VALIDATION = "validation.npz"
"""The serving target's answers to the validation rows: `Answers`."""
TEST = "test.npz"


class ServingTarget(msgspec.Struct, frozen=True):
    """The target that serves a member on this machine."""

    target: str
    passed: list[str]
    """All targets that might."""
    articles_per_second: float
    """On one thread."""

    @property
    def cost(self) -> float:
        """Seconds a text, on one thread."""
        return 1 / self.articles_per_second

    def save(self, folder: Path) -> None:
        """Write the file that `load` reads."""
        (folder / TARGET).write_bytes(msgspec.json.encode(self))

    @classmethod
    def load(cls, compiled: Artifact) -> "ServingTarget":
        """Read the file that `save` wrote, of the artifact of `compile`."""
        return msgspec.json.decode((compiled / TARGET).read_bytes(), type=cls)


@dataclass(frozen=True)
class Exported:
    """A fit after export: its graph in fp32, and the tokenizer that makes ids of texts."""

    fit: MemberFit
    trained: Artifact
    exported: Artifact

    @property
    def facts(self) -> GraphFacts:
        """The facts of the export's graph."""
        return GraphFacts.load(self.exported.path)

    @property
    def tokenizer(self) -> Path:
        """The tokenizer, or the features of n-grams."""
        return self.exported / self.fit.family.tokenizer

    @property
    def window(self) -> int:
        """The tokens read at once; 0 for texts that are read whole."""
        return self.fit.window(self.trained)

    def examples(self, rows: list[Row], cut: bool = False) -> Examples:
        """Return rows as the server reads them, or with `cut` as `MemberFit.logits` does."""
        return Examples.of(rows, self.tokenizer, self.window, self.facts.pad_id, cut)


class QuantiseFigures(msgspec.Struct, frozen=True, kw_only=True):
    """The precisions of a member's graph."""

    variants: dict[str, VariantFigures]
    """By name; one that could not be made has an error."""


@dataclass(frozen=True)
class Graphs:
    """The artifacts of `quantise` and, where the recipe has engines, of `engines`."""

    quantised: Artifact
    engines: Artifact | None = None

    @property
    def variants(self) -> Mapping[str, VariantFigures]:
        """The figures of each variant."""
        return self.quantised.metrics(QuantiseFigures).variants

    def passed(self, variant: str) -> bool:
        """Tell whether a variant, or the one that an engine was built of, passed the gate."""
        made = self.variants.get(variant.rpartition(":")[2])
        return made is not None and made.passed

    @property
    def paths(self) -> dict[str, Path]:
        """The graph of every variant that could be made, and the plan of every engine."""
        made = {
            name: self.quantised / f"model.{name}.onnx" for name, figures in self.variants.items() if not figures.error
        }
        if self.engines is None:
            return made
        return made | {name: self.engines / planning.file_of(name) for name in self.plans}

    @property
    def plans(self) -> dict[str, Plan]:
        """The plans that the engines were built with and for, by target."""
        return planning.load(self.engines.path) if self.engines else {}

    @property
    def reference(self) -> Array:
        """Probabilities of the fp32 graph on the whole validation rows, FP64 [rows, labels]."""
        return np.load(self.quantised / REFERENCE)

    def of_target(self, target: str) -> Path:
        """Return the graph, or the plan, that a target reads."""
        return self.paths[engines.TARGETS[target]]
