"""Pauses between the starts of what keeps dying."""

import time

_FIRST, _LONGEST = 0.2, 30.0
_STEADY_SECONDS = 60.0


class Pauses:
    """Each is twice as long as the one before, up to half a minute; after a steady minute they begin anew."""

    def __init__(self) -> None:
        self._next = _FIRST
        self._began = time.monotonic()

    def began(self) -> None:
        """Note a start."""
        self._began = time.monotonic()

    def next(self) -> float:
        """Return the seconds to wait before the next start."""
        if time.monotonic() > self._began + _STEADY_SECONDS:
            self._next = _FIRST
        pause, self._next = self._next, min(2 * self._next, _LONGEST)
        return pause
