"""Run an engine over rows the way the server does: in windows where they are long, by length, in small groups."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from newsdesk.build.data.rows import Row
from newsdesk.build.evaluation.metrics import softmax
from newsdesk.build.progress import track
from newsdesk.server.runtime import batching, engines, terms
from newsdesk.server.runtime.arrays import Array
from newsdesk.server.runtime.cores import granted_cores
from newsdesk.server.runtime.engines import Engine
from newsdesk.server.runtime.manifest import Windows
from newsdesk.server.runtime.tokens import Tokens
from newsdesk.server.runtime.windows import Rule, combine

RUNS_ANY = "onnxruntime:fp32"
"""ONNX Runtime takes every variant as it is written; the variants are judged through it."""


@dataclass(frozen=True)
class Examples:
    """Rows as ids, with their labels, INT64 [rows]. A `max_length` of 0 means n-grams, which are read whole."""

    ids: Sequence[Sequence[int] | Array]
    """The tokens of every window, row after row."""
    windows: Array
    """How many each row has, INT64 [rows]."""
    labels: Array
    pad_id: int
    max_length: int

    @classmethod
    def of(cls, rows: list[Row], tokenizer: Path, max_length: int, pad_id: int, cut: bool = False) -> "Examples":
        """Read rows; what is longer than `max_length` is cut into windows as the server does, or off with `cut`."""
        texts, windows = [row.text for row in rows], np.ones(len(rows), np.int64)
        ids: Sequence[Sequence[int] | Array]
        if not max_length:
            ids = terms.load(tokenizer).encode(texts)
        elif cut:
            ids = Tokens(tokenizer, max_length).encode(texts)
        else:
            ids, windows = Tokens(tokenizer, max_length).windows(texts, Windows().overlap)
        return cls(ids, windows, np.array([row.label for row in rows], np.int64), pad_id, max_length)

    def part(self, start: int, end: int) -> "Examples":
        """Return rows `start` to `end`, fewer where there are no more."""
        first, last = self.windows[:start].sum(), self.windows[:end].sum()
        return replace(self, ids=self.ids[first:last], windows=self.windows[start:end], labels=self.labels[start:end])

    def groups(self, engine: Engine) -> list[list[int]]:
        """Return the windows' indices as the server would group them for an engine."""
        return self._shapes(engine).group([len(i) for i in self.ids])

    def padded(self, groups: list[list[int]], engine: Engine) -> Iterator[tuple[Array, Array]]:
        """Yield each group's ids and mask, INT64 [group, length]."""
        return batching.pad(self.ids, groups, self.pad_id, self._shapes(engine))

    def _shapes(self, engine: Engine) -> batching.Shapes:
        return engine.shapes(self.max_length) if self.max_length else batching.BagShapes()


def on_all_cores(target: str, graph: Path) -> Engine:
    """Load a graph for what nobody times. Threads share out rows and columns, and change no sum."""
    return engines.load(target, graph, granted_cores())


def probabilities(engine: Engine, examples: Examples, title: str, *, alone: bool = False, rule: Rule = "mean") -> Array:
    """Return FP64 [rows, labels], in groups or each window alone; NaN where the engine gives NaN or Inf.

    The windows of a row are combined by `rule`.
    """
    return combine(of_windows(engine, examples, title, alone=alone), examples.windows, rule)


def of_windows(engine: Engine, examples: Examples, title: str, *, alone: bool = False) -> Array:
    """Return FP64 [windows, labels] of all rows' windows, row after row: `examples.windows` says how many are whose."""
    groups = [[i] for i in range(len(examples.ids))] if alone else examples.groups(engine)
    parts = [engine(*padded) for padded in track(examples.padded(groups, engine), title, len(groups))]
    logits = np.empty((len(examples.ids), parts[0].shape[-1]), np.float32)
    for indices, part in zip(groups, parts, strict=True):
        logits[indices] = part
    with np.errstate(invalid="ignore"):
        return softmax(logits)
