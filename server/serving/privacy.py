"""Keep a server's folders, logs, and texts in shared memory from the other users of its machine."""

import contextlib
import ctypes
import os
import platform
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

UMASK = 0o077
_NO_NEW_PRIVILEGES = 38
_SET_FILTER, _MITIGATIONS_AS_THEY_ARE = 1, 4
_LOAD, _IF_EQUAL, _IF_ANY_BIT, _RETURN = 0x20, 0x15, 0x45, 0x06
_ALLOW, _PRETEND = 0x7FFF0000, 0x00050000
_NUMBER, _ARCHITECTURE, _MODE = 0, 4, 24  # where they stand in what the kernel shows a filter
_SYSTEMS = {"x86_64": (0xC000003E, 91, 317), "aarch64": (0xC00000B7, 52, 277)}
"""Machine → the kernel's number of the architecture, of fchmod and of seccomp."""


class _Instruction(ctypes.Structure):
    _fields_ = (("code", ctypes.c_ushort), ("yes", ctypes.c_ubyte), ("no", ctypes.c_ubyte), ("k", ctypes.c_uint))


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.POINTER(_Instruction)))


def make_folder(folder: Path) -> None:
    """Make a folder for this user alone, and those above it that lack. One that is there stays as it is."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    for path in reversed(missing):
        with contextlib.suppress(FileExistsError):
            path.mkdir(0o700)


def close(state: Path) -> None:
    """Close to others what a server of before left open in a state folder.

    The folder itself is its owner's business: it may be one that others need.
    """
    for name in "run", "log", "prepared", "tuned", "graphs":
        with contextlib.suppress(OSError):
            (state / name).chmod(0o700)
    with contextlib.suppress(OSError):
        for file in (state / "log").iterdir():
            file.chmod(0o600)


@contextlib.contextmanager
def open_log(path: Path) -> Iterator[IO[bytes] | int]:
    """Yield a log that this user alone can read, to append to; where there is no room for one, what swallows all."""
    try:
        make_folder(path.parent)
        log = os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600), "ab")
    except OSError:
        yield subprocess.DEVNULL
        return
    with log:
        yield log


def keep_memory_private() -> Callable[[], None]:
    """Return what a new child must call (Popen's preexec_fn) so that neither it nor its children open a file to others.

    Triton's Python backend makes its shared memory, in which the texts are, readable for everybody by fchmod, whatever
    the umask. A filter in the kernel lets such a fchmod pass without effect. A kernel without such filters leaves that
    memory as Triton makes it.
    """
    library, numbers = ctypes.CDLL(None), _SYSTEMS.get(platform.machine())
    if numbers is None:
        return lambda: None
    architecture, fchmod, seccomp = numbers
    steps = [
        (_LOAD, 0, 0, _ARCHITECTURE),
        (_IF_EQUAL, 0, 5, architecture),
        (_LOAD, 0, 0, _NUMBER),
        (_IF_EQUAL, 0, 3, fchmod),
        (_LOAD, 0, 0, _MODE),
        (_IF_ANY_BIT, 0, 1, UMASK),
        (_RETURN, 0, 0, _PRETEND),
        (_RETURN, 0, 0, _ALLOW),
    ]
    instructions = (_Instruction * len(steps))(*(_Instruction(*step) for step in steps))
    program = _Program(len(steps), instructions)

    def apply() -> None:
        library.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0)
        library.syscall(seccomp, _SET_FILTER, _MITIGATIONS_AS_THEY_ARE, ctypes.byref(program))

    return apply
