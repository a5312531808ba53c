"""Answers to the texts of messages, however long the server is away; a text that makes the server fail fails alone."""

import random
import threading
from collections.abc import Sequence
from typing import Protocol

from newsdesk.clients.articles import Text
from newsdesk.clients.chunk import Item
from newsdesk.clients.errors import Interrupted, NewsdeskError, ServerUnavailable, TextRefused
from newsdesk.clients.prediction import Prediction
from newsdesk.clients.streams.report import warn
from newsdesk.server.contract import Quality

_FIRST_PAUSE, _LONGEST_PAUSE = 0.2, 30.0
_TRIES = 3
"""Times that a text may make the server fail, alone, until it counts as the reason."""
_PROBE = "Is anybody there?"


class Abandoned(Exception):
    """The consumer ends, and these texts are left to another."""


class StreamClassifier(Protocol):
    """The part of `Client` that is needed here."""

    def classify(self, text: list[Text], *, quality: Quality | None) -> list[Item]:
        """Answer texts in their order."""


class RetryPauses:
    """Growing pauses with jitter, which end where the consumer ends."""

    def __init__(self, ended: threading.Event, longest: float = _LONGEST_PAUSE) -> None:
        self._ended, self._next, self._longest = ended, _FIRST_PAUSE, longest

    def pause(self, least: float = 0.0) -> None:
        """Wait for the next pause, and `least` seconds.

        Raises:
            Abandoned: the consumer ends.
        """
        seconds = least + self._next * random.uniform(0.5, 1.0)
        self._next = min(2 * self._next, self._longest)
        if self._ended.wait(seconds):
            raise Abandoned


class Answering:
    """Asks a server until it answers."""

    def __init__(self, client: StreamClassifier, quality: Quality | None) -> None:
        self._client, self._quality = client, quality
        self._ended = threading.Event()

    def abandon(self) -> None:
        """End all waiting."""
        self._ended.set()

    def answer(self, texts: Sequence[Text]) -> list[Prediction | str]:
        """Return for each text its prediction, or why there is none for good.

        Raises:
            Abandoned: the consumer ends.
        """
        pauses, tries = RetryPauses(self._ended), 0
        while True:
            try:
                items = self._client.classify(list(texts), quality=self._quality)
                return [item.reason if isinstance(item, TextRefused) else item for item in items]
            except NewsdeskError as error:
                if _suspicious(error):
                    if len(texts) > 1:
                        half = len(texts) // 2
                        return self.answer(texts[:half]) + self.answer(texts[half:])
                    tries += 1
                    if tries >= _TRIES and self._answers_others():
                        return [f"the server failed on it {tries} times, and answers others: {error}"]
                warn(f"{error} The texts wait.")
                pauses.pause(error.retry_after if isinstance(error, ServerUnavailable) else 0.0)

    def _answers_others(self) -> bool:
        """Whether it is not the server that fails on whatever it is asked."""
        try:
            return bool(self._client.classify([_PROBE], quality=self._quality))
        except NewsdeskError:
            return False


def _suspicious(error: NewsdeskError) -> bool:
    """Whether a text may be why: not where the server is only away or busy."""
    return not isinstance(error, ServerUnavailable) or isinstance(error, Interrupted)
