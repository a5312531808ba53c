"""Pauses between the starts of what keeps dying."""

import time

STEADY_SECONDS = 15.0
_FIRST, _LONGEST = 0.2, 30.0


class Pauses:
    """Each is twice as long as the one before, up to half a minute; after a steady quarter of one they begin anew.

    What dies once, however often it has died earlier, is whole again within ten seconds.
    """

    def __init__(self) -> None:
        self._next = _FIRST
        self._works_since: float | None = None

    def works(self) -> None:
        """Note that it answers: from when this is said first after a death."""
        if self._works_since is None:
            self._works_since = time.monotonic()

    def next(self) -> float:
        """Return the seconds to wait before the next start."""
        if self._works_since is not None and time.monotonic() > self._works_since + STEADY_SECONDS:
            self._next = _FIRST
        self._works_since = None
        pause, self._next = self._next, min(2 * self._next, _LONGEST)
        return pause
