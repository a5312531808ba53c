"""A job as it stands on disk: its record, the file that is read and the lines that are written."""

import os
import shutil
from pathlib import Path
from typing import Any, BinaryIO, Literal

import msgspec
from msgspec import Struct

from newsdesk.server.contract import Quality
from newsdesk.server.gateway.plane import CallOptions

State = Literal["waiting", "running", "done", "failed"]


class Record(Struct, kw_only=True):
    """The state of a job. Times are in seconds since 1970."""

    id: str
    caller: str
    """Its caller, as logs and rate limits name them; nobody else sees it."""
    model: str
    form: str
    delimiter: str
    columns: list[str]
    top_k: int | None
    quality: Quality | None
    members: bool
    uncertainty: bool
    created: float
    state: State = "waiting"
    total: int | None = None
    """Rows of the file, once they are counted."""
    rows: int = 0
    refused: int = 0
    size: int = 0
    """Bytes of the result that hold the answers to `rows`. Bytes behind them are of a run that was ended."""
    ended: float | None = None
    problem: dict[str, Any] | None = None

    @property
    def asked(self) -> CallOptions:
        """The caller's wishes for each text."""
        return CallOptions(self.top_k, self.quality, self.members, self.uncertainty)

    def shown(self) -> dict[str, Any]:
        """Return what the caller is told of it."""
        return {
            "id": self.id,
            "state": self.state,
            "model": self.model,
            "rows": self.rows,
            "total": self.total,
            "refused": self.refused,
            "created": self.created,
            "ended": self.ended,
            "problem": self.problem,
        }


class Folder:
    """The folder of a job."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.input, self.result, self._record = path / "input", path / "result.jsonl", path / "job.json"

    def read(self) -> Record | None:
        """Return the record, None where the job was not taken to its end."""
        try:
            return msgspec.json.decode(self._record.read_bytes(), type=Record)
        except (OSError, msgspec.DecodeError):
            return None

    def write(self, record: Record) -> None:
        """Write the record, whole or not at all."""
        partial = self.path / ".job.json.partial"
        with partial.open("wb") as file:
            file.write(msgspec.json.encode(record))
            file.flush()
            os.fsync(file.fileno())
        partial.replace(self._record)

    def open_result(self, size: int) -> BinaryIO:
        """Return the result to write on, of which `size` bytes stay."""
        file = self.result.open("r+b" if self.result.exists() else "w+b")
        file.truncate(size)
        file.seek(size)
        return file

    def remove(self) -> None:
        """Remove all of it."""
        shutil.rmtree(self.path, ignore_errors=True)

    @property
    def bytes(self) -> int:
        """Bytes of its files."""
        return sum(file.stat().st_size for file in (self.input, self.result) if file.exists())
