"""A member: texts in, its own probabilities out."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from newsdesk.server.runtime import batching, calibrate, cancellation, engines, manifest, terms
from newsdesk.server.runtime import windows as windowing
from newsdesk.server.runtime.engines import Engine
from newsdesk.server.runtime.grids import Grid
from newsdesk.server.runtime.tokens import Tokens

CHUNK = 1 << 19
"""Characters read together, if texts are no longer: what is made of them stays some hundred MB at most."""
_WARM_LENGTHS = 12, 96
"""Tokens of the shortest and the longest articles that kernels are compiled for beforehand."""
_WARM_BAG = 64, 256


@dataclass(frozen=True)
class Reading:
    """What a member makes of n texts: calibrated probabilities, FP64 [n, labels], windows each, INT64 [n], and the
    tokens it took, with padding and without; n-grams are no tokens."""

    probabilities: np.ndarray
    windows: np.ndarray
    real_tokens: int
    computed_tokens: int


class Member:
    """One member, ready: its reader, its batches, its engine."""

    def __init__(
        self, about: manifest.Member, windows: manifest.Windows, folder: Path, target: str, threads: int
    ) -> None:
        self.name = about.name
        self._about, self._overlap, self._rule = about, windows.overlap, windows.rule
        self._calibrate = calibrate.ready(about.calibrator)
        self._engine: Engine = engines.load(target, folder / about.graphs[engines.TARGETS[target]].path, threads)
        self._grid: Grid | None = getattr(self._engine, "grid", None)
        self._shapes = batching.of(self._engine, about.max_length)
        reader = folder / about.reader.path
        self._read: Callable[[list[str]], tuple[list, np.ndarray]]
        if about.kind != "encoder":
            bag = terms.load(reader)
            self._read = lambda texts: (bag.encode(texts), np.ones(len(texts), np.int64))
        else:
            tokens = Tokens(reader, about.max_length)
            self._read = lambda texts: tokens.windows(texts, self._overlap)

    def warm_up(self) -> None:
        """Compute once, so that no request waits for what comes with the first; where an engine compiles kernels for
        every shape, for the lengths of most news.
        """
        shortest, longest = (min(length, self._about.max_length) for length in _WARM_LENGTHS)
        if self._grid:
            shapes = self._grid.shapes
        elif self._about.kind != "encoder":
            shapes = [_WARM_BAG]
        elif getattr(self._engine, "compiles_shapes", False):
            shapes = self._shapes.between(shortest, longest)
        else:
            shapes = [(1, shortest)]
        for shape in shapes:
            self._engine(np.full(shape, self._about.pad_id, np.int64), np.ones(shape, np.int64))

    def __call__(self, texts: list[str]) -> Reading:
        """Read clean texts, each as if it had come alone; several windows are combined by the manifest's rule."""
        return self.submit(texts)()

    def submit(self, texts: list[str]) -> Callable[[], Reading]:
        """Start on texts, and return what gives their reading. A GPU is only given the work; others compute now."""
        *before, last = _chunks(texts)
        parts = [self._submit(chunk)() for chunk in before]  # each to its end: what they hold together is bounded
        waiting = self._submit(last)
        if not parts:
            return waiting

        def result() -> Reading:
            parts.append(waiting())
            return Reading(
                np.concatenate([part.probabilities for part in parts]),
                np.concatenate([part.windows for part in parts]),
                sum(part.real_tokens for part in parts),
                sum(part.computed_tokens for part in parts),
            )

        return result

    def _computed(self, count: int, length: int) -> int:
        batch, width = self._grid.fit(count, length) if self._grid else (count, length)
        return batch * width

    def _submit(self, texts: list[str]) -> Callable[[], Reading]:
        cancellation.check()
        read, counts = self._read(texts)
        bag = self._about.kind != "encoder"
        ids, places = (read, slice(None)) if bag else _distinct(read)
        lengths = [len(one) for one in ids]
        groups = batching.bags(lengths) if bag else (self._grid or self._shapes).plan(lengths)
        pending, computed = [], 0
        for padded, mask in batching.pad(ids, groups, self._about.pad_id, None if bag else self._shapes):
            pending.append(engines.submit(self._engine, padded, mask))  # a GPU works while the next is padded
            computed += 0 if bag else self._computed(*padded.shape)
        real = 0 if bag else sum(lengths)

        def result() -> Reading:
            parts = [one() for one in pending]
            logits = np.empty((len(lengths), parts[0].shape[-1]), np.float32)
            logits[np.concatenate(groups)] = np.concatenate(parts)
            probabilities = windowing.combine(calibrate.softmax(logits)[places], counts, self._rule)
            return Reading(self._calibrate(probabilities), counts, real, computed)

        return result


def _distinct(ids: list) -> tuple[list, np.ndarray]:
    """Return the different ones of token sequences, and where each stands among them, INT64 [n].

    A character that is repeated ten thousand times comes in hundreds of windows that are all alike.
    """
    places: dict[bytes | tuple[int, ...], int] = {}
    kept: list = []
    at: list[int] = []
    for one in ids:
        place = places.setdefault(one.tobytes() if isinstance(one, np.ndarray) else tuple(one), len(kept))
        if place == len(kept):
            kept.append(one)
        at.append(place)
    return kept, np.array(at)


def _chunks(texts: list[str]) -> Iterator[list[str]]:
    chunk: list[str] = []
    size = 0
    for text in texts:
        if chunk and size + len(text) > CHUNK:
            yield chunk
            chunk, size = [], 0
        chunk.append(text)
        size += len(text)
    if chunk:
        yield chunk
