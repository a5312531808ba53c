"""The contract of an engine: what runs a member's graph."""

from collections.abc import Callable
from typing import Protocol

from newsdesk.server.runtime.arrays import Array
from newsdesk.server.runtime.batching import Shapes

COMPILED = "NEWSDESK_COMPILED"
"""Variable of the environment: a folder in which graphs are kept as they were compiled, for the next process."""


class Engine(Protocol):
    """A graph, compiled and ready to run.

    It uses one thread unless told otherwise: processes, not threads, fill the cores. It is not shared between threads.
    """

    def shapes(self, most: int) -> Shapes:
        """Return how the texts of a member that reads `most` tokens at once are grouped for this engine."""
        ...

    def submit(self, ids: Array, mask: Array) -> Callable[[], Array]:
        """Start on a group and return what waits for its logits. A GPU's engine only queues it; others compute now.

        Args:
            ids: INT64 [texts, length], padded
            mask: INT64 [texts, length], 1 where a token is, 0 where padding is

        Returns:
            A function that gives the logits, FP32 [texts, labels].

        Raises:
            EngineError: a GPU's engine cannot queue it.
        """
        ...

    def close(self) -> None:
        """Give back what the engine holds. Nothing may be submitted afterwards."""
        ...

    def __call__(self, ids: Array, mask: Array) -> Array:
        """Run a group, as `submit` takes it, and return its logits, FP32 [texts, labels]."""
        return self.submit(ids, mask)()
