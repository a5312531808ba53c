"""Deadlines, and the retries that fit in them."""

import random
import time

from newsdesk.clients.errors import DeadlineExceeded, NewsdeskError, ServerUnavailable, late

_FIRST_PAUSE = 0.05
_LONGEST_PAUSE = 2.0


class Deadline:
    """The moment a call must have ended by."""

    def __init__(self, seconds: float, url: str) -> None:
        self.end = time.monotonic() + seconds
        self.url = url

    def left(self) -> float:
        """Return the seconds left.

        Raises:
            DeadlineExceeded: there are none.
        """
        left = self.end - time.monotonic()
        if left <= 0:
            raise late(self.url)
        return left


class Retries:
    """At most `most` repetitions of a request while the server is unavailable: classifying is idempotent."""

    def __init__(self, most: int, deadline: Deadline) -> None:
        self._left = most
        self._deadline = deadline
        self._pause = _FIRST_PAUSE
        self._last: ServerUnavailable | None = None

    def pause(self, error: NewsdeskError) -> float:
        """Return the seconds to wait before the next try.

        They grow exponentially, with jitter, and are as many as the server asks; none where another server may answer.

        Raises:
            NewsdeskError: the error itself: a repetition cannot help, none is left, or none fits before the deadline.
        """
        if isinstance(error, DeadlineExceeded) and self._last is not None:
            raise self._last from error
        if not isinstance(error, ServerUnavailable):
            raise error
        self._last = error
        # Jitter upon what the server asks for, too: it asks everybody the same.
        pause = 0.0 if error.elsewhere else error.retry_after + self._pause * random.uniform(0.5, 1.0)
        try:
            enough = self._left > 0 and pause < self._deadline.left()
        except DeadlineExceeded:
            enough = False
        if not enough:
            raise error
        self._left -= 1
        if not error.elsewhere:
            self._pause = min(2 * self._pause, _LONGEST_PAUSE)
        return pause
