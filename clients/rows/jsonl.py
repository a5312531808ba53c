"""Rows of JSON Lines. A line that is no row is refused alone; blank lines are passed over."""

import json
from collections.abc import Iterator
from typing import Any

from newsdesk.clients.rows.lines import Line, Lines
from newsdesk.clients.rows.row import LONGEST_ROW, TOO_LONG, FileRow


class _Twice(dict[str, Any]):
    """An object with a name that stands in it more than once."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        seen: set[str] = set()
        self.twice = {name for name, _ in pairs if name in seen or seen.add(name)}  # type: ignore[func-returns-value]


def read(lines: Lines, columns: frozenset[str]) -> Iterator[FileRow]:
    """Yield the rows: objects, or texts alone. One with a name of `columns` twice is refused."""
    number = 0
    for line in lines:
        if line.data.isspace() and line.whole:
            continue
        number += 1
        yield _row(number, line, columns)


def _row(number: int, line: Line, columns: frozenset[str]) -> FileRow:
    def refused(why: str) -> FileRow:
        return FileRow(number, line.number, {}, why)

    if not line.whole:
        return refused(f"longer than {LONGEST_ROW // 2**20} MiB, {TOO_LONG}")
    try:
        value = json.loads(line.data.rstrip(b"\r\n").decode("utf-8", "surrogateescape"), object_pairs_hook=_object)
    except json.JSONDecodeError as error:
        return refused(f"not JSON: {error.msg} (character {error.pos})")
    except ValueError:
        return refused("holds a number of more digits than can be read")
    except RecursionError:
        return refused("nested too deeply")
    if isinstance(value, str):
        return FileRow(number, line.number, {}, text=value)
    if not isinstance(value, dict):
        return refused(f"holds a {type(value).__name__}, expected an object")
    if isinstance(value, _Twice) and (twice := sorted(value.twice & columns)):
        return refused(f"{twice[0]} stands twice in the object")
    return FileRow(number, line.number, value)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    return value if len(value) == len(pairs) else _Twice(pairs)
