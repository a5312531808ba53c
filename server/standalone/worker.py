"""One thread that answers everybody: whatever waits is computed together."""

import queue
import threading
from concurrent.futures import Future
from typing import NamedTuple

import numpy as np

from newsdesk.server.contract import MAX_BATCH
from newsdesk.server.runtime.classifier import BatchAnswers, Classifier
from newsdesk.server.standalone.protocol import RequestContent

_MOST_WAITING = 1024


class Share(NamedTuple):
    """BatchAnswers to a batch, and where those to one request stand in it."""

    answers: BatchAnswers
    own: slice


class QueueFull(Exception):
    """As many requests wait as may."""


class Worker:
    """Tokenizers and engines are no friends of threads: this one alone uses the classifier."""

    def __init__(self, classifier: Classifier) -> None:
        self._classifier = classifier
        self._waiting: queue.Queue[tuple[RequestContent, Future[Share]]] = queue.Queue(_MOST_WAITING)
        threading.Thread(target=self._work, name="worker", daemon=True).start()

    def answer(self, asked: RequestContent, timeout: float) -> Share:
        """Answer a request, within `timeout` seconds.

        Raises:
            Full: as many requests wait as may.
            TimeoutError: there is no answer in time.
            Exception: whatever the classifier raised.
        """
        promised: Future[Share] = Future()
        try:
            self._waiting.put_nowait((asked, promised))
        except queue.Full:
            raise QueueFull from None
        return promised.result(timeout)

    def _work(self) -> None:
        kept: tuple[RequestContent, Future[Share]] | None = None
        while True:
            batch, count = [kept or self._waiting.get()], 0
            kept = None
            count = len(batch[0][0].texts)
            while not self._waiting.empty():
                kept = self._waiting.get()
                if count + len(kept[0].texts) > MAX_BATCH:
                    break
                batch.append(kept)
                count += len(kept[0].texts)
                kept = None
            self._together(batch)

    def _together(self, batch: "list[tuple[RequestContent, Future[Share]]]") -> None:
        texts = [text for asked, _ in batch for text in asked.texts]
        try:
            answers = self._classifier.classify(texts, np.concatenate([asked.qualities for asked, _ in batch]))
        except Exception as error:  # the thread must outlive whatever an engine raises
            for _, promised in batch:
                promised.set_exception(error)
            return
        start = 0
        for asked, promised in batch:
            promised.set_result(Share(answers, slice(start, start + len(asked.texts))))
            start += len(asked.texts)
