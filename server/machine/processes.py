"""Processes as /proc shows them, told apart by pid and start time: a reused pid is never taken for the one before."""

import contextlib
import ctypes
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

# psutil tells a start by the wall clock: once that was set, no living server would be the one that its folder names.
_PROC = Path("/proc")
_PR_SET_PDEATHSIG = 1
_TICKS = os.sysconf("SC_CLK_TCK")
_GONE = frozenset("ZXx")
_STOPPED, _TRACED = "T", "t"
_CERTIFICATES = ("CERTIFICATE", "CLIENT_CERTIFICATE", "CLIENT_KEY")
_PATHS = (
    "PATH", "LD_LIBRARY_PATH", "PYTHONPATH", "SSL_CERT_FILE", "SSL_CERT_DIR", "TMPDIR",
    *(f"OTEL_EXPORTER_OTLP{part}_{name}" for part in ("", "_TRACES") for name in _CERTIFICATES),
)  # fmt: skip
"""Variables that hold paths, with colons between."""


@dataclass(frozen=True)
class Process:
    """A process, which may be no more."""

    pid: int
    start: int
    """Clock ticks since boot."""

    @property
    def state(self) -> str:
        """The letter of /proc: R, S, D, T (stopped), Z (dead, not yet reaped); "X" where it is no more."""
        try:
            pid, state, _, start, _ = _stat(self.pid)
        except OSError:
            return "X"
        return state if (pid, start) == (self.pid, self.start) else "X"

    @property
    def alive(self) -> bool:
        """Whether it is there, and not dead."""
        return self.state not in _GONE

    @property
    def working(self) -> bool:
        """Alive and not stopped by a signal. A profiler holds it for milliseconds; held for long, it fails a probe."""
        return self.state not in _GONE | {_STOPPED}

    @property
    def held(self) -> bool:
        """Stopped by a signal, or by a profiler or a debugger."""
        return self.state in (_STOPPED, _TRACED)

    @property
    def stopped(self) -> bool:
        """Stopped by a signal."""
        return self.state == _STOPPED

    @property
    def cpu_seconds(self) -> float:
        """Time that its threads have computed; 0 where it is no more."""
        try:
            pid, _, _, start, ticks = _stat(self.pid)
        except OSError:
            return 0.0
        return ticks / _TICKS if (pid, start) == (self.pid, self.start) else 0.0

    @property
    def arguments(self) -> list[str]:
        """Its command line; empty where it is no more."""
        try:
            raw = (_PROC / str(self.pid) / "cmdline").read_bytes()
        except OSError:
            return []
        return raw.decode(errors="replace").split("\0")

    def yield_to_others(self, nice: int) -> None:
        """Have its threads, and those that they start, compute when others need the cores less: at `nice`, up to 19."""
        with contextlib.suppress(OSError):
            for thread in (_PROC / str(self.pid) / "task").iterdir():
                os.setpriority(os.PRIO_PROCESS, int(thread.name), nice)

    def kill(self) -> None:
        """End it at once, where it is alive."""
        if self.alive:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)


def myself() -> Process:
    """Return this process."""
    return find(os.getpid())


def find(pid: int) -> Process:
    """Return a living process, or one that is dead and not reaped.

    Raises:
        OSError: there is no such process.
    """
    return Process(pid, _stat(pid)[3])


def children(parent: int, comm: str) -> set[Process]:
    """Return the living children of a process whose name (the kernel's, 15 characters) is `comm`."""
    processes = set()
    for entry in _PROC.iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError, ValueError):
                pid, state, above, start, _ = _stat(int(entry.name))
                if above == parent and state not in _GONE and (entry / "comm").read_text().strip() == comm[:15]:
                    processes.add(Process(pid, start))
    return processes


def pid_namespace() -> int:
    """Return the number of this process's namespace of process ids."""
    return (_PROC / "self/ns/pid").stat().st_ino


def die_with_parent(*also: Callable[[], None], parent: int = 0) -> Callable[[], None]:
    """Return what a new child must call (Popen's preexec_fn) to be killed as soon as the thread that started it ends.

    Start such a child from the main thread only: the kernel watches the thread, not the process.

    Args:
        also: are called after that
        parent: the id of that thread's process; 0 means this one
    """
    prctl, parent = ctypes.CDLL(None).prctl, parent or os.getpid()

    def apply() -> None:
        prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
        if os.getppid() != parent:  # it ended before the call
            os._exit(1)
        for act in also:
            act()

    return apply


def environment_apart() -> dict[str, str]:
    """Return the variables of a child that neither imports nor reads anything from the directory that it runs in.

    What the caller wrote relative to its own directory keeps its meaning.
    """
    absolute = {name: _absolute(os.environ[name]) for name in _PATHS if os.environ.get(name)}
    return {**os.environ, **absolute, "PYTHONSAFEPATH": "1"}


def _absolute(paths: str) -> str:
    return os.pathsep.join(os.path.abspath(path) for path in paths.split(os.pathsep) if path)


def _stat(pid: int) -> tuple[int, str, int, int, int]:
    """Return pid, state, parent, start and ticks computed. The name in between may hold spaces and parentheses."""
    head, _, tail = (_PROC / str(pid) / "stat").read_text().rpartition(")")
    fields = tail.split()
    return int(head.split(" ", 1)[0]), fields[0], int(fields[1]), int(fields[19]), int(fields[11]) + int(fields[12])
