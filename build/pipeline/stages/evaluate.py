"""Measure, after everything is decided, the chosen target and the fp32 graph on validation and test rows."""

from pathlib import Path

import numpy as np
from msgspec import Struct

from newsdesk.build.compile.answers import Answers
from newsdesk.build.compile.predict import RUNS_ANY, of_windows, on_all_cores
from newsdesk.build.data import views
from newsdesk.build.evaluation import metrics
from newsdesk.build.evaluation.figures import PartFigures
from newsdesk.build.pipeline.artifacts import Artifact, Say
from newsdesk.build.pipeline.fits import MemberFit, parts, rows_of, whole
from newsdesk.build.pipeline.graphs import TEST, VALIDATION, Exported, Graphs, ServingTarget


class EvaluateFigures(Struct, frozen=True, kw_only=True):
    """A member after everything is decided."""

    target: str
    """The one that serves."""
    accuracy: dict[str, PartFigures]
    """By part."""


def evaluate(
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
) -> EvaluateFigures:
    """Measure one member, and keep the chosen target's answers to the test rows."""
    exported, graphs = Exported(fit, train, export), Graphs(quantise, engines)
    target = ServingTarget.load(compile).target
    figures = {}
    for part in parts(rows):
        of_part = rows_of(rows, part)
        if part == "validation":  # asked before, to decide
            examples = exported.examples(whole(of_part))
            at = np.array([row.view == views.WHOLE for row in of_part])
            original, served = graphs.reference, Answers.load(compile / VALIDATION).rows()[at]
        else:
            examples = exported.examples(of_part)
            answers = {
                name: Answers(
                    of_windows(on_all_cores(name, graphs.of_target(name)), examples, f"{name}, {part}"),
                    examples.windows,
                )
                for name in dict.fromkeys([RUNS_ANY, target])
            }
            original, served = answers[RUNS_ANY].rows(), answers[target].rows()
            answers[target].save(folder / TEST)
        figures[part] = PartFigures(
            rows=len(examples.labels),
            original=metrics.summary(original, examples.labels),
            served=metrics.summary(served, examples.labels),
            agreement=metrics.agreement(original, served),
        )
    return EvaluateFigures(target=target, accuracy=figures)
