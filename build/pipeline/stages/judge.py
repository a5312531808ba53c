"""Measure every operating point on validation and test rows, from the members' answers to them."""

from pathlib import Path

from newsdesk.build.compile.answers import Answers
from newsdesk.build.ensemble import ensemble as fitting
from newsdesk.build.ensemble import judge as judging
from newsdesk.build.ensemble.figures import Judgement
from newsdesk.build.pipeline import evidence
from newsdesk.build.pipeline.artifacts import Artifact, Say
from newsdesk.build.pipeline.fits import parts, rows_of
from newsdesk.build.pipeline.graphs import TEST


def judge(
    folder: Path,
    say: Say,
    *,
    rows: Artifact,
    ensemble: Artifact,
    compiled: dict[str, Artifact],
    evaluated: dict[str, Artifact],
    asked: dict[str, Artifact] | None = None,
) -> dict[str, Judgement]:
    """Return the figures of every operating point, by part.

    With `asked`, the artifacts of `out-of-fold`, rows that no fit saw stand in for the validation rows.
    """
    fit, figures = fitting.load(ensemble.path), {}
    for part in parts(rows):
        if part == "test":
            of_part = rows_of(rows, part)
            answers = {name: Answers.load(artifact / TEST) for name, artifact in evaluated.items()}
        else:
            of_part, answers = evidence.out_of_fold(rows, asked) if asked else evidence.of_validation(rows, compiled)
        figures[part] = judging.measure(fit, ensemble.path, of_part, answers)
    return figures
