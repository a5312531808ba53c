"""Workers that are processes of this machine, one a core, each with the model's members of its own."""

import multiprocessing
import os
import signal
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from newsdesk.server.machine import processes
from newsdesk.server.scoring.answers import ScoredTexts, Scorer, ScoringModel
from newsdesk.server.scoring.errors import ScoreError
from newsdesk.server.scoring.work import AHEAD, Key, Texts, ask

_ONE_THREAD = "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"
_held: list[Scorer] = []
"""This process's own, once it is a worker."""


class Processes:
    """`count` processes. They end with this one, however it ends."""

    def __init__(self, model: ScoringModel, count: int) -> None:
        self.count, self._model = count, model

    def answers(self, questions: Iterator[tuple[Key, Texts]]) -> Iterator[tuple[Key, ScoredTexts]]:
        """Yield the answers to the texts of each key, as they are there.

        Raises:
            ScoreError: a process was ended.
        """
        os.environ |= dict.fromkeys(_ONE_THREAD, "1")  # as the server's backend processes have it
        spawn = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(self.count, spawn, _begin, (self._model, os.getpid())) as pool:
            try:
                yield from ask(
                    questions, AHEAD * self.count, lambda texts: pool.submit(_answer, texts), _first, _result
                )
            except BrokenProcessPool as error:
                raise ScoreError(
                    "a worker process was ended, perhaps for want of memory (--workers takes a smaller number). What "
                    "is done is kept: run the same command again."
                ) from error
            finally:
                pool.shutdown(cancel_futures=True)


def _begin(model: ScoringModel, parent: int) -> None:
    processes.die_with_parent(parent=parent)()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C ends the parent, and the parent's end its workers
    _held[:] = [Scorer(model)]


def _answer(texts: Texts) -> ScoredTexts:
    return _held[0].answer(texts)


def _first(waiting: list[Any]) -> Future[ScoredTexts]:
    return next(iter(wait(waiting, return_when=FIRST_COMPLETED).done))


def _result(future: Future[ScoredTexts]) -> ScoredTexts:
    return future.result()
