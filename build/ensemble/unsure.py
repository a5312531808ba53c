"""Fit when an answer says that it is not sure: for a stated share of the validation rows."""

from collections.abc import Mapping

import numpy as np

from newsdesk.server.contract import QUALITIES, Quality
from newsdesk.server.runtime.arrays import Array
from newsdesk.server.runtime.unsure import STEP, STEPS, Score, Unsure, scores


def fit(score: Score, share: float, answers: Mapping[Quality, tuple[Array, Array]]) -> Unsure:
    """Return the scores that each share of the rows exceeds.

    Args:
        score: the measure
        share: of rows that are marked where serving chooses no other
        answers: by quality, what rows are answered, FP [n, labels], from fits that never saw the row, and how uncertain
            the members asked are, FP [n, 3]
    """
    shares = STEP * np.arange(1, STEPS + 1)
    tables = {quality: np.quantile(scores(score, *answers[quality]), 1 - shares).tolist() for quality in QUALITIES}
    return Unsure(score=score, share=share, **tables)
