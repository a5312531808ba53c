"""A member's answers to rows, kept window by window: the rule that combines them is fitted after they were given."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from newsdesk.server.runtime.arrays import Array
from newsdesk.server.runtime.windows import Rule, combine


class Answers(NamedTuple):
    """Probabilities FP [windows, labels], row after row, and how many windows each row has, INT64 [rows]."""

    windows: Array
    counts: Array

    def save(self, path: Path) -> None:
        """Write the file that `load` reads."""
        np.savez(path, **self._asdict())

    @classmethod
    def load(cls, path: Path) -> "Answers":
        """Read a file that `save` wrote."""
        with np.load(path) as arrays:
            return cls(**arrays)

    def rows(self, rule: Rule = "mean") -> Array:
        """Return each row's probabilities, FP64 [rows, labels], its windows combined by `rule`."""
        return combine(self.windows, self.counts, rule)

    def by_row(self) -> list[Array]:
        """Return each row's windows, FP [windows of the row, labels]."""
        return np.split(self.windows, np.cumsum(self.counts)[:-1])
