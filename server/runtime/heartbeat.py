"""A backend process shows that it works on, so that one which hangs is told from one that reads a long text.

Each process keeps a file of three numbers, in nanoseconds of the monotonic clock: when the work at hand made its last
step, 0 while there is none; when a thread that has nothing else to do last looked; and how long a step may take. A look
needs the interpreter, so that code which never gives it back is seen as well.
"""

import contextlib
import os
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from newsdesk.server.runtime.arrays import Array

VARIABLE = "NEWSDESK_HEARTBEATS"
"""Variable of the environment: the folder of the files, each called by the process's id."""
_STEP, _LOOK, _BOUND = range(3)
_COUNT = 3
_LOOK_SECONDS = 1.0


@dataclass(frozen=True)
class Heartbeat:
    """The seconds that a process shows.

    Attributes:
        step: since the last step of the work at hand, None while there is none
        look: since the last look
        bound: that a step may take
    """

    step: float | None
    look: float
    bound: float


class _Heart:
    def __init__(self) -> None:
        self.times: Array | None = None
        self.stopped = threading.Event()
        self.thread: threading.Thread | None = None


_heart = _Heart()


def start(bound: float, environment: Mapping[str, str] = os.environ) -> None:
    """Begin to show this process's work. Nothing happens where nobody watches, or the disk is full.

    Args:
        bound: seconds that each step takes at most unless it hangs
        environment: names the folder (VARIABLE)
    """
    folder = environment.get(VARIABLE, "")
    if not folder:
        return
    with contextlib.suppress(OSError), open(Path(folder) / str(os.getpid()), "w+b") as file:
        os.posix_fallocate(file.fileno(), 0, 8 * _COUNT)  # a page that no disk holds would end the process
        _heart.times = np.memmap(file, np.int64, "r+", shape=(_COUNT,))
        _heart.times[_BOUND] = int(bound * 1e9)
        _heart.times[_LOOK] = time.monotonic_ns()
        _heart.stopped.clear()
        _heart.thread = threading.Thread(target=_look, args=(_heart.times,), name="heartbeat", daemon=True)
        _heart.thread.start()


def stop() -> None:
    """End the thread before the interpreter ends."""
    _heart.stopped.set()
    if _heart.thread is not None:
        _heart.thread.join()
    _heart.thread = _heart.times = None


@contextlib.contextmanager
def working() -> Iterator[None]:
    """Have `beat` show the steps of the work within."""
    times = _heart.times
    if times is None:
        yield
        return
    times[_STEP] = time.monotonic_ns()
    try:
        yield
    finally:
        times[_STEP] = 0


def beat() -> None:
    """Show that the work at hand is a step further."""
    if _heart.times is not None and _heart.times[_STEP]:
        _heart.times[_STEP] = time.monotonic_ns()


def read(folder: Path, pid: int) -> Heartbeat | None:
    """Return a process's heartbeat, None where it shows none."""
    try:
        step, look, bound = (int(at) for at in np.frombuffer((folder / str(pid)).read_bytes(), np.int64))
    except (OSError, ValueError):
        return None
    now = time.monotonic_ns()
    return Heartbeat((now - step) / 1e9 if step else None, (now - look) / 1e9, bound / 1e9) if look else None


def _look(times: Array) -> None:
    while not _heart.stopped.wait(_LOOK_SECONDS):
        times[_LOOK] = time.monotonic_ns()
