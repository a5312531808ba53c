"""Make the precisions: `model.<variant>.onnx` for fp32, fp16, int8 and the like, each judged on validation rows."""

from pathlib import Path

import numpy as np

from newsdesk.build.compile.gate import Gate
from newsdesk.build.compile.predict import RUNS_ANY, on_all_cores, probabilities
from newsdesk.build.compile.workbench import Workbench
from newsdesk.build.data import splits
from newsdesk.build.pipeline.artifacts import Artifact, Say
from newsdesk.build.pipeline.families import call
from newsdesk.build.pipeline.fits import MemberFit, rows_of, whole
from newsdesk.build.pipeline.graphs import REFERENCE, Exported, QuantiseFigures
from newsdesk.build.recipe import Quantise


def quantise(
    folder: Path,
    say: Say,
    *,
    rows: Artifact,
    train: Artifact,
    export: Artifact,
    fit: MemberFit,
    settings: Quantise,
    seed: int,
) -> QuantiseFigures:
    """Leave the graph of every variant that could be made, and the probabilities of the validation rows in fp32."""
    exported = Exported(fit, train, export)
    source = export / "model.fp32.onnx"
    validation = exported.examples(whole(rows_of(rows, "validation")))
    reference = probabilities(on_all_cores(RUNS_ANY, source), validation, "fp32 on the validation rows")
    np.save(folder / REFERENCE, reference)
    drawn = splits.shuffled(rows_of(rows, "train"), settings.calibration_rows, seed)
    bench = Workbench(
        source=source,
        facts=exported.facts,
        gate=Gate(validation, reference, settings.max_accuracy_loss, settings.min_agreement),
        calibration=[[*ids] for ids in exported.examples(drawn).ids],
        settings=settings,
        folder=folder,
        say=say,
    )
    return QuantiseFigures(variants=call(fit.family.quantise, bench))
