"""Fixtures of the offline half: tiny fitted members, exported once a session."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from newsdesk.build.compile import export
from newsdesk.build.compile.gate import Gate
from newsdesk.build.compile.metrics import ExportFigures
from newsdesk.build.compile.predict import Examples, probabilities
from newsdesk.build.data.rows import Row
from newsdesk.server.runtime import engines
from tests.build.encoders import VOCABULARY, WORDS, save, sentence


@dataclass(frozen=True)
class Exported:
    """A tiny member: its checkpoint, the folder of its export, and the figures."""

    checkpoint: Path
    folder: Path
    figures: ExportFigures

    @property
    def graph(self) -> Path:
        return self.folder / export.GRAPH

    def encode(self, rows: list[Row], cut: bool = False) -> Examples:
        return Examples.of(rows, self.folder / export.TOKENIZER, max_length=64, pad_id=0, cut=cut)


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Exported]:
    """Export a family's tiny random member, once a session."""
    made: dict[str, Exported] = {}

    def of(family: str = "bert") -> Exported:
        if family not in made:
            folder = tmp_path_factory.mktemp(family)
            save(folder / "checkpoint", family)
            figures = export.export(folder / "checkpoint", folder, 64)
            made[family] = Exported(folder / "checkpoint", folder, figures)
        return made[family]

    return of


@pytest.fixture(scope="session")
def rows() -> list[Row]:
    """150 sentences of our own, three labels."""
    return [Row(sentence(label, i), index) for i in range(50) for index, label in enumerate(WORDS)]


@pytest.fixture(scope="session")
def gate(exported: Callable[..., Exported], rows: list[Row]) -> Gate:
    """The gate of the tiny bert, which is always right: its own answers are the labels."""
    examples = exported().encode(rows)
    reference = probabilities(engines.load("onnxruntime:fp32", exported().graph), examples, "reference")
    return Gate(replace(examples, labels=reference.argmax(-1)), reference, 0.001, 0.995)


@pytest.fixture(scope="session")
def calibration_ids(exported: Callable[..., Exported], rows: list[Row]) -> list[list[int]]:
    """60 rows of token ids: what quantisers learn ranges from. The families share one tokenizer."""
    return exported().encode(rows).ids[:60]


@pytest.fixture
def batch() -> tuple[np.ndarray, np.ndarray]:
    """Ids, INT64 [4, 20], and a mask whose second row is half padding and whose last is nothing else."""
    ids = np.random.default_rng(0).integers(4, len(VOCABULARY), (4, 20))
    mask = np.ones_like(ids)
    mask[1, 10:], mask[3] = 0, 0
    ids[mask == 0] = 0
    return ids, mask
