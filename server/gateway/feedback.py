"""Callers' corrections: a line of JSON each, in a file a model, appended whole and never changed.

`newsdesk build --data` reads such a file. The last correction of a text counts.
"""

import contextlib
import errno
import fcntl
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from newsdesk.server.contract import CORRECTED_AT, MAX_TEXT_BYTES
from newsdesk.server.gateway.logs import now
from newsdesk.server.gateway.problems import Full, Unavailable

MOST_BYTES = 256 * 2**20
"""The largest size of a model's file."""
MOST_NOTE = 2000
"""Characters of a note."""
_LONGEST_LINE = 8 * MAX_TEXT_BYTES
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Feedback:
    """A folder of corrections, for this process and others that write there; its files are for their owner alone."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def append(self, model: str, corrections: Sequence[dict[str, Any]], about: dict[str, Any]) -> None:
        """Write corrections behind those of a model, all of them or none.

        Args:
            model: its name, which names the file
            corrections: a line each
            about: stands in each line, too

        Raises:
            Full: the file has its MOST_BYTES, or the disk has no room.
            Unavailable: the file cannot be written.
        """
        made = {CORRECTED_AT: now(time.time())}
        lines = b"".join(msgspec.json.encode(made | line | about) + b"\n" for line in corrections)
        path = self.folder / f"{model}.jsonl"
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise _problem(error) from error
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            _append(file, lines)
        except OSError as error:
            raise _problem(error) from error
        finally:
            os.close(file)


def _append(file: int, lines: bytes) -> None:
    """Write lines behind the last whole one. If not all of them fit, the file stays as it was."""
    end = _end_of_last_line(file)
    if end + len(lines) > MOST_BYTES:
        raise Full(
            f"The file of corrections has {end / 2**20:.0f} of at most {MOST_BYTES / 2**20:.0f} MiB, and takes no more "
            "until the operator moves it away."
        )
    try:
        written = os.write(file, lines)
        if written < len(lines):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.fsync(file)
    except OSError:
        with contextlib.suppress(OSError):
            os.ftruncate(file, end)
        raise


def _end_of_last_line(file: int) -> int:
    """Return where the last whole line ends; what a process that died left behind it is cut off."""
    size = os.fstat(file).st_size
    if not size or os.pread(file, 1, size - 1) == b"\n":
        return size
    start = max(size - _LONGEST_LINE, 0)
    end = start + os.pread(file, size - start, start).rfind(b"\n") + 1
    os.ftruncate(file, end)
    return end


def _problem(error: OSError) -> Full | Unavailable:
    if error.errno in _NO_ROOM:
        return Full("There is no room to keep corrections: the disk of the gateway is full.")
    return Unavailable("Corrections cannot be kept now: the gateway's folder for them cannot be written.")
