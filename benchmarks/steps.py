"""Measure a batch's time in the process that answers: each step of each member on its own, then the whole."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np

from newsdesk.server.contract import QUALITIES
from newsdesk.server.runtime import batching
from newsdesk.server.runtime.classifier import Classifier
from newsdesk.server.runtime.engines import Engine
from newsdesk.server.runtime.grids import Grid
from newsdesk.server.runtime.manifest import Manifest, Member
from newsdesk.server.runtime.ngrams import Ngrams
from newsdesk.server.runtime.request import read
from newsdesk.server.runtime.tokens import Tokens

ROUNDS = 3
_T = TypeVar("_T")


def measure(
    described: Manifest, folder: Path, loaded: dict[str, Engine], classifier: Classifier, articles: Sequence[str],
    together: int,
) -> dict[str, float]:  # fmt: skip
    """Return step → microseconds an article, of articles that come `together`, every member asked for every one.

    The rest is what the whole took beyond the steps: calibrating, combining, and putting windows together.
    """
    parts = [[text.encode() for text in articles[at : at + together]] for at in range(0, len(articles), together)]
    cleaned = [[read(text) for text in part] for part in parts]
    steps = {"decode and clean": _best(lambda: [[read(text) for text in part] for part in parts])[0]}
    for about in described.members:
        for name, seconds in _member(about, described.windows.overlap, folder, loaded[about.name], cleaned):
            steps[f"{about.name}: {name}"] = seconds
    best = QUALITIES.index("best")
    whole, _ = _best(lambda: [classifier.classify(part, np.full(len(part), best)) for part in cleaned])
    steps["softmax, calibrate, combine, and the rest"] = whole + steps["decode and clean"] - sum(steps.values())
    return {name: 1e6 * seconds / len(articles) for name, seconds in steps.items()}


def _member(
    about: Member, overlap: float, folder: Path, engine: Engine, cleaned: list[list[str]]
) -> list[tuple[str, float]]:
    bag = about.kind == "ngrams"
    shapes = batching.BagShapes() if bag else engine.shapes(about.max_length)
    tokenizer = folder / about.tokenizer.path
    if bag:
        encode: Callable[[list[str]], Sequence] = Ngrams.load(tokenizer).encode
    else:
        tokens = Tokens(tokenizer, about.max_length)
        encode = lambda part: tokens.windows(part, overlap)[0]  # noqa: E731

    def pad(ids: Sequence) -> list[tuple[np.ndarray, np.ndarray]]:
        return [*batching.pad(ids, shapes.group([len(row) for row in ids]), about.pad_id, shapes)]

    reading, encoded = _best(lambda: [encode(part) for part in cleaned])
    grouping, batches = _best(lambda: [pad(ids) for ids in encoded])
    queueing = waiting = float("inf")
    for _ in range(ROUNDS + 1):
        queued = waited = 0.0
        for batch in batches:
            began = time.perf_counter()
            pending = [engine.submit(*padded) for padded in batch]
            between = time.perf_counter()
            for result in pending:
                result()
            queued, waited = queued + between - began, waited + time.perf_counter() - between
        if queued + waited < queueing + waiting:
            queueing, waiting = queued, waited
    if isinstance(shapes, Grid):  # a GPU's: `submit` only queues
        ran = [("copy to page-locked memory, launch", queueing), ("wait for the engine", waiting)]
    else:
        ran = [("engine", queueing + waiting)]
    named = "n-grams" if bag else "tokenise"
    return [(named, reading), ("group and pad", grouping), *ran]


def _best(work: Callable[[], _T]) -> tuple[float, _T]:
    """Return the seconds of the best round, after one that warms up, and what it gave."""
    outcome, best = work(), float("inf")
    for _ in range(ROUNDS):
        began = time.perf_counter()
        outcome = work()
        best = min(best, time.perf_counter() - began)
    return best, outcome
