import numpy as np
import pytest

from newsdesk.build.ensemble import unsure
from newsdesk.server.contract import QUALITIES
from newsdesk.server.runtime.unsure import Score, scores


@pytest.mark.parametrize("score", ["entropy", "uncertainty", "top"])
def test_as_many_rows_are_marked_as_the_share_says(score: Score) -> None:
    random = np.random.default_rng(1)
    answers = {
        quality: (random.dirichlet([0.3 + place] * 4, 4000), random.random((4000, 3)))
        for place, quality in enumerate(QUALITIES)
    }
    made = unsure.fit(score, 0.02, answers)
    for share in (0.005, 0.02, 0.1, 0.2):
        for threshold, evidence in zip(made.thresholds(share), answers.values(), strict=True):
            assert (scores(score, *evidence) > threshold).mean() == pytest.approx(share, abs=0.0003)
    assert made.share == 0.02
