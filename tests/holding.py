"""A text that the stand-in of tests/clients/standin_model.py computes for as long as a test holds it."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")


def until(reached: Callable[[], T], what: Callable[[], object] = str, seconds: float = 120) -> T:
    """Wait until something is so, however busy the machine is, and return it; a failure shows `what`."""
    deadline = time.monotonic() + seconds
    while not (value := reached()):
        assert time.monotonic() < deadline, what()
        time.sleep(0.01)
    return value


@dataclass(frozen=True)
class Hold:
    """A folder that a backend process shows its computing in, and a test its leave to go on."""

    folder: Path

    @property
    def text(self) -> str:
        """The text that every process which is asked for it computes until the release."""
        return f"stand-in, hold {self.folder}"

    @property
    def stalling(self) -> str:
        """The text that only the first process which is asked for it computes so; others answer at once."""
        return f"stand-in, stall at {self.folder}"

    def until_computing(self, processes: int = 1) -> None:
        """Wait until so many processes compute it."""
        until(lambda: len(list(self.folder.glob("computing-*"))) >= processes)

    def release(self) -> None:
        (self.folder / "released").touch()
