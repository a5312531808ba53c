"""The student: the mean of an embedding for each of a text's n-grams, and a linear layer. No transformer in it.

Joulin, Grave, Bojanowski, Mikolov: Bag of Tricks for Efficient Text Classification (2016), with a hidden layer where
the recipe wants one.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from newsdesk.server.runtime.arrays import Array
from newsdesk.server.runtime.ngrams import Ngrams

WEIGHTS = "bag.safetensors"
FEATURES = "features.json"


class Bag(torch.nn.Module):
    """Ids of n-grams to logits. Row 0 of the table is padding's, and stays zero."""

    def __init__(self, rows: int, width: int, hidden: int, labels: int) -> None:
        super().__init__()
        self.table = torch.nn.EmbeddingBag(rows, width, mode="mean", sparse=True)
        torch.nn.init.normal_(self.table.weight, std=0.1)
        with torch.no_grad():
            self.table.weight[0] = 0
        self.hidden = torch.nn.Linear(width, hidden) if hidden else None
        self.head = torch.nn.Linear(hidden or width, labels)

    def forward(self, ids: torch.Tensor, offsets: torch.Tensor) -> torch.Tensor:
        """Return logits, FP32 [texts, labels].

        Args:
            ids: of all texts in a row, INT64 [ids]
            offsets: where each text begins, INT64 [texts]
        """
        mean = self.table(ids, offsets)
        return self.head(mean if self.hidden is None else torch.relu(self.hidden(mean)))

    def save(self, folder: Path) -> None:
        """Write the file that `load` reads."""
        save_file(self.state_dict(), folder / WEIGHTS)

    @classmethod
    def load(cls, folder: Path) -> "Bag":
        """Read the file that `save` wrote."""
        weights = load_file(folder / WEIGHTS)
        rows, width = weights["table.weight"].shape
        hidden = len(weights["hidden.bias"]) if "hidden.bias" in weights else 0
        bag = cls(rows, width, hidden, len(weights["head.bias"]))
        bag.load_state_dict(weights)
        return bag.eval()


@dataclass(frozen=True)
class Bags:
    """Texts as ids, all in a row: INT64 [ids]; `lengths` INT64 [texts] of each, `starts` INT64 [texts]."""

    ids: Array
    lengths: Array
    starts: Array

    @classmethod
    def of(cls, ids: list[Array]) -> "Bags":
        """Lay texts' ids, INT64 [ids of the text] each, out in a row."""
        lengths = np.array([len(row) for row in ids], np.int64)
        return cls(np.concatenate(ids), lengths, np.cumsum(lengths) - lengths)

    def __len__(self) -> int:
        return len(self.lengths)

    def take(self, texts: Array, chance: np.random.Generator, dropout: float) -> tuple[torch.Tensor, torch.Tensor]:
        """Return ids and offsets of these texts.

        Args:
            texts: their numbers, INT [texts]
            chance: of the dropout
            dropout: the probability with which each n-gram is left out

        Returns:
            INT64 [ids] and [texts].
        """
        lengths = self.lengths[texts]
        offsets = np.cumsum(lengths) - lengths
        ids = self.ids[np.arange(lengths.sum()) + np.repeat(self.starts[texts] - offsets, lengths)]
        if dropout:
            kept = chance.random(len(ids), dtype=np.float32) >= dropout
            before = np.concatenate([[0], np.cumsum(kept)])
            ids, offsets = ids[kept], before[offsets]
        return torch.from_numpy(ids), torch.from_numpy(offsets)


def logits(folder: Path, texts: list[str], max_length: int = 0, exact: bool = True) -> Array:
    """Return the fp32 logits, FP32 [len(texts), labels], of a fitted student: every artifact's reference.

    Args:
        folder: of the fit
        texts: clean
        max_length: is other kinds' of members: n-grams are read whole
        exact: is other kinds' of members: n-grams always are
    """
    bag, ngrams = Bag.load(folder), Ngrams.load(folder / FEATURES)
    return predict(bag, Bags.of(ngrams.encode(texts)))


def predict(bag: Bag, bags: Bags, batch_size: int = 512) -> Array:
    """Return logits, FP32 [texts, labels]."""
    chance = np.random.default_rng(0)
    with torch.inference_mode():
        parts = [
            bag(*bags.take(np.arange(at, min(at + batch_size, len(bags))), chance, 0.0)).numpy()
            for at in range(0, len(bags), batch_size)
        ]
    return np.concatenate(parts)
