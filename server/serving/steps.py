"""Work that takes time, in steps: the supervisor's loop goes on with several at once, and others wait for the end."""

import time
from collections.abc import Generator
from typing import TypeVar

Result = TypeVar("Result")
_PAUSE_SECONDS = 0.05


def finish(steps: Generator[None, None, Result]) -> Result:
    """Go on with steps to their end, and return what they return."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value
        time.sleep(_PAUSE_SECONDS)
