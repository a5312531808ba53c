"""Work that nobody waits for any more ends between two calls of an engine.

A long text is read in hundreds of windows, for a minute and more, while its caller has left, or its time is over.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from newsdesk.server.runtime import heartbeat

EVERY_SECONDS = 0.1
"""To ask Triton is a message to another process and back. A batch of usual length is computed before the first."""


class Cancelled(Exception):
    """All callers of a batch are gone."""


class _Watch:
    """For a process that computes one batch at a time."""

    def __init__(self) -> None:
        self.gone: Callable[[], bool] | None = None
        self.due = 0.0


_watch = _Watch()


@contextmanager
def watching(gone: Callable[[], bool]) -> Iterator[None]:
    """Have `check` ask whether all callers are gone.

    Args:
        gone: is asked every EVERY_SECONDS at most, while the work within goes on
    """
    _watch.gone, _watch.due = gone, time.monotonic() + EVERY_SECONDS
    try:
        yield
    finally:
        _watch.gone = None


def check() -> None:
    """Raise Cancelled where all callers are gone, asking now and then. It is a step of the work at hand, too.

    Raises:
        Cancelled: nobody waits for the batch.
    """
    heartbeat.beat()
    if _watch.gone is not None and time.monotonic() >= _watch.due:
        _watch.due = time.monotonic() + EVERY_SECONDS
        if _watch.gone():
            raise Cancelled
