"""Freed memory goes back to the system.

The C library keeps freed memory below the last block that is in use. Whatever outlives a batch may be that block, so a
process would be larger after one batch than after another by as much as the batch took.
"""

import ctypes
import time

_EVERY_SECONDS = 1.0
"""Activations are asked for again by the next batch: to have them zeroed anew after each would cost more."""


class HeapTrimmer:
    """Gives freed memory of this process back to the system, now and then."""

    def __init__(self) -> None:
        # glibc's, as what it mends is.
        self._trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        self._due = 0.0

    def trim(self) -> None:
        """Give freed memory back, if it is time. Takes some milliseconds."""
        if self._trim and time.monotonic() >= self._due:
            self._trim(0)
            self._due = time.monotonic() + _EVERY_SECONDS
