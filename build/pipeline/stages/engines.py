"""Build TensorRT engines of the variants that passed: `<runtime>-<variant>.plan` with its log, and plans.json."""

from pathlib import Path

from newsdesk.build.compile import planning
from newsdesk.build.compile.planning import EnginesFigures
from newsdesk.build.data import splits
from newsdesk.build.pipeline.artifacts import Artifact, Say
from newsdesk.build.pipeline.fits import MemberFit, rows_of
from newsdesk.build.pipeline.graphs import Exported, Graphs
from newsdesk.build.recipe import Engines

_LENGTH_ROWS = 2000


def engines(
    folder: Path,
    say: Say,
    *,
    rows: Artifact,
    train: Artifact,
    export: Artifact,
    quantise: Artifact,
    fit: MemberFit,
    settings: Engines,
    seed: int,
) -> EnginesFigures:
    """Build the recipe's engines. One that cannot be built here is reported and left out: the ONNX graphs serve."""
    exported, graphs = Exported(fit, train, export), Graphs(quantise)
    drawn = splits.shuffled(rows_of(rows, "train"), _LENGTH_ROWS, seed)
    lengths = [len(ids) for ids in exported.examples(drawn).ids]
    sources = {name: graphs.paths[name] for name in graphs.variants if graphs.passed(name)}
    return planning.build(sources, lengths, exported.window, settings, folder, say)
