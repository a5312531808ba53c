"""Measure a fitted ensemble at every operating point, from what its members said of rows."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from msgspec import structs

from newsdesk.build.compile.answers import Answers
from newsdesk.build.data.rows import Row
from newsdesk.build.ensemble.ensemble import Fit
from newsdesk.build.ensemble.figures import CalibratedScores, JudgedPoint, Judgement
from newsdesk.server.contract import QUALITIES, Quality
from newsdesk.server.runtime import calibrate, cascade, stacker
from newsdesk.server.runtime.cascade import Answered, Cascade
from newsdesk.server.runtime.lengths import words


def measure(fit: Fit, folder: Path, rows: list[Row], answers: Mapping[str, Answers]) -> Judgement:
    """Return the figures of every quality on the rows, from the members' answers by name.

    `folder` holds the stackers' graphs that the fit names.
    """
    labels = np.array([row.label for row in rows])
    points = {}
    for quality, answered in replay(fit, folder, rows, answers).items():
        shares = np.bincount(answered.levels, minlength=len(fit.levels)) / len(rows)
        points[quality] = JudgedPoint(
            **structs.asdict(CalibratedScores.of(answered.probabilities, labels)),
            answered_by={level.name: float(share) for level, share in zip(fit.levels, shares, strict=True)},
        )
    return Judgement(rows=len(rows), **points)


def replay(fit: Fit, folder: Path, rows: list[Row], answers: Mapping[str, Answers]) -> dict[Quality, Answered]:
    """Return the ensemble's answers to the rows by quality, from the members' answers by name."""
    ready = Cascade(fit.levels, fit.order, lambda graph: stacker.load(folder / graph.path))
    lengths = words([row.text for row in rows])
    members = np.stack(
        [
            calibrate.ready(calibrator)(answers[name].rows(fit.windows))
            for name, calibrator in zip(fit.order, fit.calibrators, strict=True)
        ]
    ).astype(np.float32)
    return {quality: cascade.replay(ready, members, place, lengths) for place, quality in enumerate(QUALITIES)}
