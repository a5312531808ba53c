"""Compare every target that passed, and the variants for GPUs, with the original model."""

from pathlib import Path

from msgspec import Struct

from newsdesk.build.compile import verify as verifying
from newsdesk.build.compile.metrics import Differences
from newsdesk.build.data import splits
from newsdesk.build.data.rows import Row
from newsdesk.build.evaluation.metrics import softmax
from newsdesk.build.pipeline.artifacts import Artifact, Say
from newsdesk.build.pipeline.fits import MemberFit, rows_of
from newsdesk.build.pipeline.graphs import Exported, Graphs, ServingTarget
from newsdesk.build.recipe import Verify


class VerifyFigures(Struct, frozen=True, kw_only=True):
    """How far each target is from the original model."""

    targets: dict[str, Differences]


def verify(
    folder: Path,
    say: Say,
    *,
    rows: Artifact,
    train: Artifact,
    export: Artifact,
    quantise: Artifact,
    engines: Artifact | None = None,
    compile: Artifact,
    fit: MemberFit,
    settings: Verify,
    seed: int,
) -> VerifyFigures:
    """Verify the graphs on validation rows and on texts that no article looks like.

    Raises:
        VerificationError: a target differs from the original by more than the recipe allows.
    """
    exported, graphs = Exported(fit, train, export), Graphs(quantise, engines)
    texts = [row.text for row in splits.shuffled(rows_of(rows, "validation"), settings.rows, seed)]
    texts += verifying.EXTREMES.values()
    original = softmax(fit.logits(train, texts))
    compiled = {target: graphs.of_target(target) for target in ServingTarget.load(compile).passed}
    for variant in sorted(verifying.ON_GPUS & graphs.variants.keys()):
        if graphs.passed(variant):
            compiled[f"onnxruntime:{variant}"] = graphs.paths[variant]
    examples = exported.examples([Row(text, 0) for text in texts], cut=True)
    return VerifyFigures(targets=verifying.verify(compiled, examples, original, settings))
