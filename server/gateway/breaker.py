"""The circuit breaker: once the model is gone for good, callers are told at once instead of at their deadlines.

A healing takes seconds, and requests wait for it, unseen by their callers. So what counts is requests that failed at
the end of all their retries. It closes by itself, when the prober, or anybody, is answered.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from newsdesk.clients.errors import DeadlineExceeded, ServerUnavailable, TooManyRequests
from newsdesk.server.gateway.problems import Unavailable

_FAILURES = 5
_RECENT_SECONDS = 5.0


class Breaker:
    """The circuit breaker of one model, for one event loop."""

    def __init__(self) -> None:
        self._failures = 0
        self._answered = float("-inf")

    @property
    def age(self) -> float:
        """Seconds since the model last answered a real request."""
        return time.monotonic() - self._answered

    @property
    def ready(self) -> bool:
        """Whether the model has answered lately."""
        return self.age < _RECENT_SECONDS

    @property
    def open(self) -> bool:
        """Whether so many requests in a row have failed, and nothing was answered, that asking is of no use."""
        return self._failures >= _FAILURES and not self.ready

    def answered(self) -> None:
        """Note that the model has just answered a real request."""
        self._answered, self._failures = time.monotonic(), 0

    def check(self) -> None:
        """Let requests pass while it is closed.

        Raises:
            Unavailable: it is open.
        """
        if self.open:
            raise Unavailable(
                f"The model has not answered {self._failures} requests in a row: the gateway asks on by itself, and "
                "passes requests on again once it is answered. Send it again later."
            )

    @contextmanager
    def counting(self) -> Iterator[None]:
        """Count a request that ends unanswered after all its retries."""
        try:
            yield
        except TooManyRequests:
            raise
        except (ServerUnavailable, DeadlineExceeded):
            self._failures += 1
            raise
