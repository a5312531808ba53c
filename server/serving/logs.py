"""Logs that other processes write: bounded, and the one before kept."""

import contextlib
import os
import shutil
from pathlib import Path

MOST_BYTES = 64 * 2**20


def rotate(path: Path, most: int = MOST_BYTES) -> None:
    """Put a log that is larger than `most` bytes in place of `<name>.1`, and begin anew.

    It is copied and cut, since whoever appends to it has it open. Where it cannot be copied, on a full disk, it is cut
    all the same. What is written meanwhile is lost.
    """
    with contextlib.suppress(OSError):
        if path.stat().st_size <= most:
            return
        partial, before = path.with_name(f"{path.name}.partial"), path.with_name(f"{path.name}.1")
        try:
            shutil.copy2(path, partial)
            partial.replace(before)
        except OSError:
            partial.unlink(missing_ok=True)
        os.truncate(path, 0)
