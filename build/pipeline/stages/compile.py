"""Compile for every target that runs on this machine, measure each, and choose: target.json."""

from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from newsdesk.build.compile import targets
from newsdesk.build.compile.answers import Answers
from newsdesk.build.compile.gate import Gate
from newsdesk.build.compile.metrics import TargetMetrics
from newsdesk.build.compile.predict import of_windows, on_all_cores
from newsdesk.build.pipeline.artifacts import Artifact, Say
from newsdesk.build.pipeline.fits import MemberFit, rows_of, whole
from newsdesk.build.pipeline.graphs import VALIDATION, Exported, Graphs, ServingTarget
from newsdesk.build.recipe import Compile, Quantise, Variant


class CompileFigures(Struct, frozen=True, kw_only=True):
    """The targets of a member on this machine."""

    target: str
    """The one that serves."""
    targets: dict[str, TargetMetrics]


def compile(
    folder: Path,
    say: Say,
    *,
    rows: Artifact,
    train: Artifact,
    export: Artifact,
    quantise: Artifact,
    engines: Artifact | None = None,
    fit: MemberFit,
    settings: Compile,
    gate: Quantise,
    variants: list[Variant],
) -> CompileFigures:
    """Choose the fastest target that passes the gate, and keep its answers to the validation rows.

    Args:
        folder: where the files go
        say: shows a line
        rows: the artifact of `split`
        train: the artifact of `train`
        export: the artifact of `export`
        quantise: the artifact of `quantise`
        engines: the artifact of `engines`; None without engines
        fit: whose graphs are compiled
        settings: how the targets are measured
        gate: its settings: how much accuracy and agreement a target may lose
        variants: those that are wanted in the repository; empty: any
    """
    exported, graphs = Exported(fit, train, export), Graphs(quantise, engines)
    validation = rows_of(rows, "validation")
    judge = Gate(exported.examples(whole(validation)), graphs.reference, gate.max_accuracy_loss, gate.min_agreement)
    metrics = {
        target: replace(measured, passed=measured.passed and graphs.passed(measured.variant))
        for target, measured in targets.measure(graphs.paths, judge, settings).items()
    }
    for target, measured in metrics.items():
        say(f"  {target}: {targets.describe(measured)}")
    chosen = targets.choose(metrics, variants, say)
    say(f"  {chosen} serves")
    passed = sorted(target for target, measured in metrics.items() if measured.passed)
    ServingTarget(chosen, passed, metrics[chosen].articles_per_second).save(folder)
    examples = exported.examples(validation)
    answers = of_windows(on_all_cores(chosen, graphs.of_target(chosen)), examples, f"{chosen}, validation")
    Answers(answers, examples.windows).save(folder / VALIDATION)
    return CompileFigures(target=chosen, targets=metrics)
