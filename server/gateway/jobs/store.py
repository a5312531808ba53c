"""The jobs of a state folder, and the bounds of what is kept: jobs of a caller, bytes of all, hours behind the end."""

import errno
import fcntl
import os
import secrets
import shutil
import time
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from newsdesk.server.gateway.jobs.record import Folder, Record
from newsdesk.server.gateway.problems import Full, NotFound, Problem, TooMany, Unavailable
from newsdesk.server.gateway.settings import GatewaySettings

_MIB = 2**20
_HOUR = 3600
_AGAIN_SECONDS = 60
_FULL_DISK = errno.ENOSPC, errno.EDQUOT


class Incoming:
    """A file that is being taken. Raises Full where there is no room for it."""

    def __init__(self, store: "Store", folder: Folder, caller: str) -> None:
        self.folder, self.caller, self.size = folder, caller, 0
        self._store = store

    def open(self) -> BinaryIO:
        """Return the file, empty, to write to."""
        return _Bounded(self, self.folder.input.open("w+b"))  # type: ignore[return-value]

    def grow(self, size: int) -> None:
        """Count `size` bytes that are to be written.

        Raises:
            Full: there is no room for them.
        """
        self._store.check_room(size)
        self.size += size

    def discard(self) -> None:
        """Take no job of it, and remove it."""
        self._store.forget(self)
        self.folder.remove()


class _Bounded:
    """A file whose writing is bounded; a full disk is a Full, too."""

    def __init__(self, incoming: Incoming, file: BinaryIO) -> None:
        self._incoming, self._file = incoming, file
        self.seek, self.close = file.seek, file.close

    def write(self, data: bytes) -> int:
        self._incoming.grow(len(data))
        try:
            return self._file.write(data)
        except OSError as error:
            raise problem_of(error) from error


class Store:
    """The jobs, for one event loop and one gateway: whoever has not `open`ed it may neither take jobs nor show them."""

    def __init__(self, folder: Path, settings: GatewaySettings) -> None:
        self._folder, self._most_bytes = folder, settings.max_jobs_mib * _MIB
        self._most, self._seconds = settings.max_jobs, settings.job_hours * _HOUR
        self._records: dict[str, Record] = {}
        self._incoming: set[Incoming] = set()
        self._lock: int | None = None

    def open(self) -> bool:
        """Read the jobs of the folder, unless another gateway has it. Returns whether it is open."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(self._folder / ".lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(lock)
            return False
        for path in sorted(self._folder.glob("*/")):
            if record := Folder(path).read():
                record.state = "waiting" if record.state == "running" else record.state
                self._records[record.id] = record
            else:
                shutil.rmtree(path, ignore_errors=True)
        self._lock = lock
        return True

    def close(self) -> None:
        """Let another gateway have the folder."""
        if self._lock is not None:
            os.close(self._lock)
        self._lock = None

    def of(self, caller: str) -> list[Record]:
        """Return a caller's jobs, the oldest first.

        Raises:
            Unavailable: the store is not open.
        """
        self._check_open()
        return sorted(
            (record for record in self._records.values() if record.caller == caller), key=lambda record: record.created
        )

    def find(self, id: str, caller: str) -> Record:
        """Return a caller's job.

        Raises:
            NotFound: there is none, or it is another's.
            Unavailable: the store is not open.
        """
        self._check_open()
        record = self._records.get(id)
        if record is None or record.caller != caller:
            raise NotFound(f"There is no job {id!r:.80} of yours: it was cancelled, or its time is over.")
        return record

    def next(self) -> Record | None:
        """Return the oldest job that is not at its end."""
        return min(
            (record for record in self._records.values() if not record.ended),
            key=lambda record: record.created,
            default=None,
        )

    def folder(self, id: str) -> Folder:
        """Return where a job lies, or would."""
        return Folder(self._folder / id)

    def receive(self, caller: str) -> Incoming:
        """Return where a caller's file is to be put.

        Raises:
            TooMany: the caller has as many jobs as are kept for one.
            Full: the disk has no room.
            Unavailable: the store is not open.
        """
        self._check_open()
        count = sum(job.caller == caller for job in self._records.values())
        count += sum(job.caller == caller for job in self._incoming)
        if count >= self._most:
            raise TooMany(
                f"You have {count} jobs, the most that are kept for a caller: DELETE /v1/jobs/<id> of those "
                "whose results you have.",
                _AGAIN_SECONDS,
            )
        folder = self.folder(secrets.token_hex(12))
        try:
            folder.path.mkdir(mode=0o700)
        except OSError as error:
            raise problem_of(error) from error
        incoming = Incoming(self, folder, caller)
        self._incoming.add(incoming)
        return incoming

    def forget(self, incoming: Incoming) -> None:
        """Count a file no more among those that are being taken."""
        self._incoming.discard(incoming)

    def add(self, incoming: Incoming, record: Record) -> None:
        """Have a job whose file has come, and whose record is written, be answered."""
        self.forget(incoming)
        self._records[record.id] = record

    def forget_job(self, id: str) -> None:
        """Know of a job no more; its files are still there."""
        self._records.pop(id, None)

    def remove_old(self) -> None:
        """Remove the jobs whose time is over."""
        since = time.time() - self._seconds
        for record in [old for old in self._records.values() if old.ended and old.ended < since]:
            self.forget_job(record.id)
            self.folder(record.id).remove()

    def check_room(self, more: int) -> None:
        """Check that there is room for `more` bytes.

        Raises:
            Full: there is none.
        """
        held = sum(self.folder(id).bytes for id in list(self._records))
        held += sum(incoming.size for incoming in list(self._incoming))
        if held + more > self._most_bytes:
            raise Full(
                f"The files of all jobs take {held // _MIB} MiB, at most {self._most_bytes // _MIB} may be kept "
                "(--max-jobs-mib). DELETE /v1/jobs/<id> of those whose results you have, or send it later."
            )

    def _check_open(self) -> None:
        if self._lock is None:
            raise Unavailable("The jobs are another gateway's of this state folder, or not read yet. Ask again.")


def problem_of(error: OSError) -> Problem:
    """Return what a caller is told of a file that cannot be written."""
    if error.errno in _FULL_DISK:
        return Full("The server's disk is full, and what is sent cannot be kept. Send it later, or less at once.")
    return Problem("The file cannot be kept. The server's log has more under this request_id.")


def remove_quietly(path: Path) -> None:
    """Remove a file where that can be done."""
    with suppress(OSError):
        path.unlink()
