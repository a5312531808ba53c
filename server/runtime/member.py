"""A member: texts in, its own probabilities out."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from newsdesk.server.runtime import batching, calibrate, cancellation, engines, manifest, terms
from newsdesk.server.runtime import windows as windowing
from newsdesk.server.runtime.arrays import Array
from newsdesk.server.runtime.batching import BagShapes, Shapes
from newsdesk.server.runtime.engines import Engine
from newsdesk.server.runtime.lengths import words
from newsdesk.server.runtime.ngrams import Ngrams
from newsdesk.server.runtime.terms import Terms
from newsdesk.server.runtime.tokens import Tokens

Ids = list[int] | Array
"""Ids of one window, or n-grams of one text: INT [length]."""
CHUNK = 1 << 19
"""Characters read together, if texts are no longer: what is made of them stays some hundred MB at most."""
_WARM_LENGTHS = 12, 96
"""Tokens of the shortest and the longest articles that kernels are compiled for beforehand."""


@dataclass(frozen=True)
class MemberOutput:
    """A member's output for n texts. N-grams are no tokens.

    Attributes:
        probabilities: calibrated, FP64 [n, labels]
        windows: in how many each text was read, INT64 [n]
        unknown: of a bag, the share of each text's n-grams that it has no row for; of an encoder, the share of subwords
            that go on a word, which are many where words are not in its vocabulary; FP64 [n]
        real_tokens: without padding
        computed_tokens: with padding
    """

    probabilities: Array
    windows: Array
    unknown: Array
    real_tokens: int
    computed_tokens: int


Read = Callable[[list[str]], tuple[Sequence[Ids], Array, Array]]
"""A function of texts. It returns the ids of their windows, text after text; the number of each text's windows, INT64
[n]; and the share of each that is unknown, FP64 [n] (see `MemberOutput`)."""


class LoadedMember:
    """One member, ready: its tokenizer, its batches, its engine."""

    def __init__(
        self, about: manifest.Member, windows: manifest.Windows, folder: Path, target: str, threads: int
    ) -> None:
        self.name = about.name
        self._about, self._rule = about, windows.rule
        self._calibrate = calibrate.ready(about.calibrator)
        self._engine: Engine = engines.load(target, folder / about.graphs[engines.TARGETS[target]].path, threads)
        self._bag = about.kind != "encoder"
        self._shapes: Shapes = BagShapes() if self._bag else self._engine.shapes(about.max_length)
        self._read = load_tokenizer(folder / about.tokenizer.path, about.max_length, windows.overlap)

    def warm_up(self) -> None:
        """Compute once, so that no request waits for what comes with the first.

        Where an engine compiles kernels for every shape, that is done for the lengths of most news.
        """
        shortest, longest = (min(length, self._about.max_length) for length in _WARM_LENGTHS)
        for shape in self._shapes.warm(shortest, longest):
            self._engine(np.full(shape, self._about.pad_id, np.int64), np.ones(shape, np.int64))

    def __call__(self, texts: list[str]) -> MemberOutput:
        """Read clean texts, each as if it had come alone; several windows are combined by the manifest's rule."""
        return self.submit(texts)()

    def submit(self, texts: list[str]) -> Callable[[], MemberOutput]:
        """Start on texts, and return what waits for the output. A GPU is only given the work; others compute now.

        Args:
            texts: clean, one at least

        Raises:
            Cancelled: nobody waits for the batch any more.
        """
        *before, last = _chunks(texts)
        parts = [self._submit(chunk)() for chunk in before]  # each to its end: what they hold together is bounded
        waiting = self._submit(last)
        if not parts:
            return waiting

        def result() -> MemberOutput:
            parts.append(waiting())
            return MemberOutput(
                np.concatenate([part.probabilities for part in parts]),
                np.concatenate([part.windows for part in parts]),
                np.concatenate([part.unknown for part in parts]),
                sum(part.real_tokens for part in parts),
                sum(part.computed_tokens for part in parts),
            )

        return result

    def close(self) -> None:
        """Give back what the engine holds. Nothing may be read afterwards."""
        self._engine.close()

    def _submit(self, texts: list[str]) -> Callable[[], MemberOutput]:
        cancellation.check()
        read, counts, unknown = self._read(texts)
        ids, places = (read, ...) if self._bag else _distinct(read)
        lengths = [len(sequence) for sequence in ids]
        groups = self._shapes.group(lengths)
        pending, computed = [], 0
        for padded, mask in batching.pad(ids, groups, self._about.pad_id, self._shapes):
            cancellation.check()
            pending.append(self._engine.submit(padded, mask))  # a GPU works while the next is padded
            computed += self._shapes.computed(*padded.shape)
        real = 0 if self._bag else sum(lengths)

        def result() -> MemberOutput:
            parts = [wait() for wait in pending]
            logits = np.empty((len(lengths), parts[0].shape[-1]), np.float32)
            logits[np.concatenate(groups)] = np.concatenate(parts)
            probabilities = windowing.combine(calibrate.softmax(logits)[places], counts, self._rule)
            return MemberOutput(self._calibrate(probabilities), counts, unknown, real, computed)

        return result


def load_tokenizer(path: Path, max_length: int, overlap: float) -> Read:
    """Return the function that makes ids of texts by a member's tokenizer file.

    Args:
        path: a tokenizer, features or terms
        max_length: tokens read at once; 0 means a bag
        overlap: the least share of a window that the next one reads again, 0 to 0.9
    """
    if not max_length:
        return partial(_read_bag, terms.load(path))
    return partial(_read_tokens, Tokens(path, max_length), overlap)


def _read_bag(bag: Ngrams | Terms, texts: list[str]) -> tuple[Sequence[Ids], Array, Array]:
    ids, counted = bag.read(texts)
    known, every = counted.T
    return ids, np.ones(len(texts), np.int64), 1 - np.where(every > 0, known, 1) / np.maximum(every, 1)


def _read_tokens(tokens: Tokens, overlap: float, texts: list[str]) -> tuple[Sequence[Ids], Array, Array]:
    ids, counts, subwords = tokens.read(texts, overlap)
    return ids, counts, np.maximum(1 - words(texts) / np.maximum(subwords, 1), 0)


def _distinct(ids: Sequence[Ids]) -> tuple[Sequence[Ids], Array]:
    """Return the different ones of token sequences, and where each stands among them, INT64 [n].

    A character that is repeated ten thousand times comes in hundreds of windows that are all alike.
    """
    places: dict[bytes | tuple[int, ...], int] = {}
    kept: list[Ids] = []
    at: list[int] = []
    for window in ids:
        place = places.setdefault(window.tobytes() if isinstance(window, np.ndarray) else tuple(window), len(kept))
        if place == len(kept):
            kept.append(window)
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
