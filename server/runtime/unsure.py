"""Mark answers that are not sure: their score is among the highest of the texts that the model was fitted for.

Whoever is asked about something else than it learned gives one of its labels all the same, less surely as a rule.
"""

from typing import Annotated, Literal

import numpy as np
from msgspec import Meta, Struct

from newsdesk.server.runtime.arrays import Array
from newsdesk.server.runtime.combine import entropy
from newsdesk.server.runtime.errors import ManifestError

STEP, STEPS = 0.005, 40
"""The table's shares: 0.5 %, 1 %, … 20 %."""
MOST = STEP * STEPS

Score = Literal["entropy", "uncertainty", "top"]
Share = Annotated[float, Meta(ge=0, le=MOST)]
Table = Annotated[list[float], Meta(min_length=STEPS, max_length=STEPS)]


class Unsure(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The scores above which an answer is marked, by its quality and the share of texts that are to be.

    For each quality the scores that a share of 0.5 %, 1 %, … 20 % of the validation rows exceeds.
    """

    score: Score
    """The entropy of the answer in nats, the total uncertainty of the members asked, or 1 less the top probability."""
    share: Share
    """The share that is marked where serving chooses no other."""
    fast: Table
    balanced: Table
    best: Table

    def thresholds(self, share: float | None = None) -> Array:
        """Return the scores, by the place in QUALITIES, above which an answer is marked; FP64 [3].

        Shares in the table are met, others interpolated; below the least of them it is that; 0 marks nothing.

        Args:
            share: of in-domain texts that are to be marked, 0 to MOST; None means the manifest's

        Raises:
            ManifestError: the share is beyond the table.
        """
        wanted = self.share if share is None else share
        if not 0 <= wanted <= MOST:
            raise ManifestError(f"unsure share {wanted}, expected 0 to {MOST}")
        if not wanted:
            return np.full(3, np.inf)
        shares = STEP * np.arange(1, STEPS + 1)
        return np.array([np.interp(wanted, shares, table) for table in (self.fast, self.balanced, self.best)])


def scores(score: Score, probabilities: Array, uncertainty: Array) -> Array:
    """Return how unsure answers are, FP64 [n].

    Args:
        score: the measure
        probabilities: FP [n, labels]
        uncertainty: in nats, FP [n, 3] with the total first
    """
    match score:
        case "entropy":
            return entropy(probabilities)
        case "uncertainty":
            return uncertainty[:, 0].astype(np.float64)
        case "top":
            doubt: Array = 1 - probabilities.max(-1).astype(np.float64)
            return doubt
