"""Fit what combines the members, on validation rows: ensemble.json, and the graphs of stackers."""

from pathlib import Path

from newsdesk.build.ensemble import ensemble as fitting
from newsdesk.build.ensemble.figures import EnsembleReport
from newsdesk.build.ensemble.out_of_fold import OutOfFold
from newsdesk.build.pipeline import evidence
from newsdesk.build.pipeline.artifacts import Artifact, Say
from newsdesk.build.pipeline.graphs import ServingTarget
from newsdesk.build.recipe import Ensemble


def ensemble(
    folder: Path,
    say: Say,
    *,
    rows: Artifact,
    compiled: dict[str, Artifact],
    left_out: dict[str, Artifact],
    asked: dict[str, Artifact] | None = None,
    settings: Ensemble,
    seed: int,
    balanced: bool = False,
) -> EnsembleReport:
    """Fit the ensemble, and return its report.

    Args:
        folder: where the files go
        say: shows a line
        rows: the artifact of `split`
        compiled: the artifact of `compile` of each member, by name
        left_out: the artifact of `cross-fit` of those members that have one
        asked: the artifact of `out-of-fold` of each member. With it those answers decide, instead of validation rows.
        settings: what is tried, and how much may be lost
        seed: of the folds
        balanced: whether every label counts the same, however few its rows
    """
    known, answers = evidence.out_of_fold(rows, asked) if asked else evidence.of_validation(rows, compiled)
    fit = fitting.fit_on_rows(
        known,
        answers,
        [ServingTarget.load(of_member).cost for of_member in compiled.values()],
        settings,
        seed,
        folder,
        {name: OutOfFold.load(of_member.path) for name, of_member in left_out.items()},
        balanced=balanced,
    )
    for line in fitting.describe(fit):
        say(f"  {line}")
    return fit.report
