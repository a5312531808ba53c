"""The results: a CSV file with a line a cell, that a run which was cut off goes on from."""

import csv
import fcntl
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

Line = dict[str, Any]


class Results:
    """Lines of figures, each known by its key: the first fields. They are written as they come."""

    def __init__(self, file: Path, key: Iterable[str]) -> None:
        self.file, self._key = file, tuple(key)
        self.lines = _read(file)

    def has(self, key: Line) -> bool:
        return any(key.items() <= line.items() for line in self.lines)

    def put(self, line: Line) -> None:
        """Keep a line, in the place of one with its key, and write all, with what another run wrote meanwhile."""
        key = {name: line[name] for name in self._key}
        self.file.parent.mkdir(parents=True, exist_ok=True)
        folder = os.open(self.file.parent, os.O_RDONLY)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            self.lines = [kept for kept in _read(self.file) if not key.items() <= kept.items()] + [line]
            names = dict.fromkeys(name for kept in self.lines for name in kept)
            with self.file.open("w", encoding="utf-8", newline="") as out:
                lines = csv.DictWriter(out, [*names], lineterminator="\n")
                lines.writeheader()
                lines.writerows(self.lines)
        finally:
            os.close(folder)


def _read(file: Path) -> list[Line]:
    if not file.exists():
        return []
    with file.open(encoding="utf-8", newline="") as lines:
        return [{name: _value(cell) for name, cell in line.items()} for line in csv.DictReader(lines)]


def _value(cell: str) -> Any:
    for kind in (int, float):
        try:
            return kind(cell)
        except ValueError:
            pass
    return cell or None
