"""What a member says of training rows that it was not fitted on."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

_FILE = "left_out.npz"


class LeftOut(NamedTuple):
    """Probabilities FP [rows, labels], and the rows' labels INT [rows]."""

    probabilities: np.ndarray
    labels: np.ndarray

    @classmethod
    def none(cls, count: int) -> "LeftOut":
        """Return no rows, of so many labels."""
        return cls(np.empty((0, count), np.float32), np.empty(0, np.int64))

    def save(self, folder: Path) -> None:
        np.savez(folder / _FILE, **self._asdict())

    @classmethod
    def load(cls, folder: Path) -> "LeftOut":
        with np.load(folder / _FILE) as found:
            return cls(**found)

    def after(self, probabilities: np.ndarray, labels: np.ndarray) -> "LeftOut":
        """Return them behind other rows."""
        return LeftOut(np.concatenate([probabilities, self.probabilities]), np.concatenate([labels, self.labels]))
