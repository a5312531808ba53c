"""An event loop whose clock jumps to the next timer: sleeps take no time, and no machine is too slow for them."""

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any


class _Selector(selectors.SelectSelector):
    """Passes the time that the loop would wait."""

    now = 1000.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:  # only another thread can wake the loop
            return super().select(None)
        if not (ready := super().select(0)):
            self.now += max(timeout, 0) + 1e-6  # a timer is always a moment late
        return ready


class _Loop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._virtual = _Selector()
        super().__init__(self._virtual)

    def time(self) -> float:
        return self._virtual.now


def run(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run it as `asyncio.run` does. Nothing in it may sleep by another clock."""
    with asyncio.Runner(loop_factory=_Loop) as runner:
        return runner.run(coroutine)
