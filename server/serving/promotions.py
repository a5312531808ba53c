"""The versions that were promoted: a server that starts again with the flags of a roll-out which is over goes on so."""

from pathlib import Path

import msgspec

from newsdesk.server.runtime import manifest

_FILE = "promoted.json"


def note(state: Path, version: Path) -> None:
    """Note that a version folder was promoted.

    Raises:
        OSError: a full disk, or a folder that cannot be read.
    """
    held = _read(state) | {version.parent.name: _identity(version)}
    partial = state / f"{_FILE}.partial"
    partial.write_bytes(msgspec.json.encode(held))
    partial.replace(state / _FILE)


def holds(state: Path, version: Path) -> bool:
    """Return whether this very version folder was promoted, and none after it."""
    try:
        return _read(state).get(version.parent.name) == _identity(version)
    except OSError:
        return False


def _identity(version: Path) -> str:
    """Return a version's number and what it holds: another one may come under the same number."""
    return f"{version.name} {manifest.digest(version / manifest.FILE)}"


def _read(state: Path) -> dict[str, str]:
    try:
        return msgspec.json.decode((state / _FILE).read_bytes(), type=dict[str, str])
    except (OSError, msgspec.DecodeError):
        return {}
