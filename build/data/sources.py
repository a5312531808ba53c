"""Read raw rows from the hub or from a file; nothing is judged here, only read."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from newsdesk.build.data import soft_columns
from newsdesk.build.errors import DataError
from newsdesk.build.recipe import Source, Where
from newsdesk.clients.rows import FileRow, Reader, RowsError, Words

SHOWN = 5
"""Rows that cannot be read, as many as are named."""
_WORDS = Words(
    column="--text-column and --label-column", delimiter="a first line such as `sep=;`", form="the file's suffix"
)


class RawRow(NamedTuple):
    """One row as it stands in its source. `text` keeps undecodable bytes as lone surrogates."""

    number: int
    text: str
    label: str
    cells: dict[str, str]
    soft: dict[str, float] = {}  # noqa: RUF012  read alone
    """Label → probability, of sum 1; empty where the label is certain."""


def read(source: Source) -> Iterator[RawRow]:
    """Yield the rows of a source that match its `keep`, in order.

    Raises:
        DataError: a column is missing, or, behind the last row, some cannot be read: a build that left them out would
            not say what it learned from.
    """
    unread: list[str] = []
    number = count = 0
    for row in _rows(source):
        if row.refusal or row.text is not None:
            count += 1
            if len(unread) < SHOWN:
                where = f"line {row.line}" if row.line else f"row {row.number}"
                unread.append(f"  {where}: {row.refusal or 'holds a str, expected an object'}")
            continue
        cells = {name: _string(value) for name, value in row.cells.items()}
        number += 1
        if number == 1:
            _check_columns(source, cells)
        if matches(cells, source.keep):
            soft = soft_columns.read(source.soft_columns, cells, f"{source.file or source.hub}, row {number}")
            label = max(soft, key=soft.__getitem__) if soft else cells.get(source.label_column, "")
            yield RawRow(number, _article(source, cells), label, cells, soft)
    if count:
        more = [] if count <= SHOWN else [f"  and {count - SHOWN:,} more"]
        rows = "1 row" if count == 1 else f"{count:,} rows"
        raise DataError("\n".join([f"{source.file}: {rows} cannot be read; mend or remove them:", *unread, *more]))


def header(source: Source) -> list[str]:
    """Return the names of a source's columns: those of its first row."""
    return [*next(iter(_rows(source)), FileRow(0, 0, {})).cells]


def title(source: Source, row: RawRow) -> str:
    """Return the headline, where the source has it in a column of its own."""
    apart = len(source.text_columns) > 1 and not row.cells.get(source.whole_text_column)
    return row.cells[source.text_columns[0]] if apart else ""


def matches(cells: dict[str, str], where: Where) -> bool:
    """Tell whether every column named holds one of the values wanted ("|" parts the values of a cell)."""
    return all(not set(cells.get(column, "").split("|")).isdisjoint(values) for column, values in where.items())


def _article(source: Source, cells: dict[str, str]) -> str:
    whole = cells.get(source.whole_text_column, "")
    return whole or " ".join(filter(None, (cells.get(column, "") for column in source.text_columns)))


def _named(source: Source) -> list[str]:
    """Return the columns that are read."""
    label = source.soft_columns.values() if source.soft_columns else [source.label_column]
    return [*source.text_columns, *filter(None, (*label, source.whole_text_column)), *source.keep]


def _check_columns(source: Source, cells: dict[str, str]) -> None:
    if missing := [column for column in _named(source) if column not in cells]:
        raise DataError(
            f"{source.file or source.hub}: no column {', '.join(map(repr, missing))}; it has "
            f"{', '.join(map(repr, cells))}. Name the right ones with --text-column and --label-column, or "
            "--soft-columns."
        )


def _rows(source: Source) -> Iterator[FileRow]:
    if source.hub:
        yield from _hub(source)
        return
    path = Path(source.file)
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    try:
        with path.open("rb") as file:
            yield from Reader(file, str(path), columns=_named(source), header=source.columns, words=_WORDS).rows()
    except (RowsError, OSError) as error:
        raise DataError(str(error)) from error


def _hub(source: Source) -> Iterator[FileRow]:
    import datasets

    try:
        rows = datasets.load_dataset(source.hub, split=source.split)
    except Exception as error:  # the hub's client raises many kinds; all of them mean that there are no rows
        raise DataError(
            f"data set {source.hub!r}, split {source.split!r}, could not be read from the hub ({error}). "
            "Without a hub, give files: newsdesk build --data train.csv --test-data test.csv"
        ) from error
    for number, row in enumerate(rows, start=1):
        yield FileRow(number, 0, row)


def _string(value: object) -> str:
    if isinstance(value, bytes):
        return value.decode("utf-8", "surrogateescape")
    return "" if value is None else str(value)
