"""Structured logs, a JSON object a line, without texts unless asked for; and the audit log of who managed what."""

import logging
import os
import sys
import time
from contextlib import suppress
from contextvars import ContextVar
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

# uvicorn says this of each handshake that is refused with an answer, which our own line says.
_REFUSED_HANDSHAKE = "ASGI callable returned without completing handshake."
access = logging.getLogger("newsdesk.gateway")
request_id: ContextVar[str] = ContextVar("newsdesk_request_id", default="")
"""The id of the request that is being answered."""


class JsonLines(logging.Formatter):
    """The record's `fields`, as `log` gives them, beside time, level and what happened."""

    def format(self, record: logging.LogRecord) -> str:
        """Return a record as a line of JSON."""
        entry: dict[str, Any] = {
            "time": now(record.created),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            entry["traceback"] = self.formatException(record.exc_info)
        return msgspec.json.encode(entry).decode()


def configure() -> None:
    """Write every library's log as JSON to standard output; the supervisor keeps it in a file."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(JsonLines())
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("uvicorn.error").addFilter(lambda record: record.msg != _REFUSED_HANDSHAKE)
    logging.getLogger("newsdesk").setLevel(logging.INFO)  # uvicorn's lines on each WebSocket say no more than ours
    logging.raiseExceptions = False
    # A line holds nothing of these, and each costs a request its time to find out.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    logging._srcfile = None


def log(event: str, level: int = logging.INFO, exc_info: BaseException | None = None, **fields: Any) -> None:
    """Write a line: what happened, and its fields."""
    access.log(level, event, extra={"fields": fields}, exc_info=exc_info)


class AuditLog:
    """Appended to, never cut, readable for the owner alone. If it cannot be written, the log has the entry."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)

    def write(self, **entry: Any) -> None:
        """Append an entry with the time, and see it on disk."""
        line = msgspec.json.encode({"time": now(time.time()), **entry}) + b"\n"
        try:
            file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            try:
                os.write(file, line)
                os.fsync(file)
            finally:
                os.close(file)
        except OSError as error:
            log("the audit log cannot be written", logging.ERROR, error=str(error), entry=entry)


def now(seconds: float) -> str:
    """Return a time, `seconds` since 1970, as it stands in logs: ISO 8601 in UTC, to the millisecond."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
