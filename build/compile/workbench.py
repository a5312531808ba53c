"""The workbench that a graph's other precisions are made on."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from newsdesk.build.compile.gate import Gate
from newsdesk.build.compile.graphs import GraphFacts
from newsdesk.build.compile.metrics import GateScores
from newsdesk.build.compile.predict import RUNS_ANY, on_all_cores
from newsdesk.build.recipe import Quantise


@dataclass(frozen=True)
class Workbench:
    """The tools of the variants: the fp32 graph, the facts of the member, the gate and calibration rows."""

    source: Path
    facts: GraphFacts
    gate: Gate
    calibration: list[list[int]]
    settings: Quantise
    folder: Path
    say: Callable[[str], None]

    def measure(self, graph: Path, title: str) -> GateScores:
        """Run a graph over the validation rows and return its scores."""
        return self.gate.measure(on_all_cores(RUNS_ANY, graph), title)
