"""Read raw rows from the hub or from a file; nothing is judged here, only read."""

import csv
import gzip
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from newsdesk.build.errors import DataError
from newsdesk.build.recipe import Source, Where


class RawRow(NamedTuple):
    """One row as it stands in its source. `text` keeps undecodable bytes as lone surrogates."""

    number: int
    text: str
    label: str
    cells: dict[str, str]


def read(source: Source) -> Iterator[RawRow]:
    """Yield the rows of a source that match its `keep`, in order. Raises DataError where a column is missing."""
    for number, cells in enumerate(_cells(source), start=1):
        if number == 1:
            _check_columns(source, cells)
        if matches(cells, source.keep):
            yield RawRow(number, _article(source, cells), cells.get(source.label_column, ""), cells)


def matches(cells: dict[str, str], where: Where) -> bool:
    """Tell whether every column named holds one of the values wanted ("|" parts the values of a cell)."""
    return all(not set(cells.get(column, "").split("|")).isdisjoint(values) for column, values in where.items())


def _article(source: Source, cells: dict[str, str]) -> str:
    whole = cells.get(source.whole_text_column, "")
    return whole or " ".join(filter(None, (cells.get(column, "") for column in source.text_columns)))


def _check_columns(source: Source, cells: dict[str, str]) -> None:
    named = source.label_column, source.whole_text_column
    wanted = [*source.text_columns, *filter(None, named), *source.keep]
    if missing := [column for column in wanted if column not in cells]:
        raise DataError(
            f"{source.file or source.hub}: no column {', '.join(map(repr, missing))}; it has "
            f"{', '.join(map(repr, cells))}. Name the right ones with --text-column and --label-column."
        )


def _cells(source: Source) -> Iterator[dict[str, str]]:
    if source.hub:
        return _hub(source)
    path = Path(source.file)
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    kind = path.name.removesuffix(".gz").rpartition(".")[2].lower()
    readers = {"csv": _csv, "jsonl": _jsonl, "ndjson": _jsonl, "parquet": _parquet}
    if kind not in readers:
        raise DataError(f"{path}: a .{kind} file was given; expected .csv, .jsonl, .ndjson or .parquet, plain or .gz")
    return readers[kind](path, source)


def _hub(source: Source) -> Iterator[dict[str, str]]:
    import datasets

    try:
        rows = datasets.load_dataset(source.hub, split=source.split)
    except Exception as error:  # the hub's client raises many kinds; all of them mean that there are no rows
        raise DataError(
            f"data set {source.hub!r}, split {source.split!r}, could not be read from the hub ({error}). "
            "Without a hub, give files: newsdesk build --data train.csv --test-data test.csv"
        ) from error
    for row in rows:
        yield {name: _string(value) for name, value in row.items()}


def _open(path: Path) -> io.TextIOWrapper:
    raw = gzip.open(path) if path.suffix == ".gz" else path.open("rb")  # noqa: SIM115 (the wrapper closes it)
    # surrogateescape: a bad byte must reach the report with its row, not stop the file
    return io.TextIOWrapper(raw, "utf-8-sig", errors="surrogateescape", newline="")


def _csv(path: Path, source: Source) -> Iterator[dict[str, str]]:
    csv.field_size_limit(2**31 - 1)
    with _open(path) as file:
        for row in csv.DictReader(file, source.columns or None):
            if row.get(None):
                raise DataError(
                    f"{path}: row {row} has more cells than the {len(row) - 1} columns; is a quote missing?"
                )
            yield {name: cell or "" for name, cell in row.items()}


def _jsonl(path: Path, source: Source) -> Iterator[dict[str, str]]:
    with _open(path) as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                raise DataError(f"{path}: line {number} is not JSON: {error}") from error
            if not isinstance(row, dict):
                raise DataError(f"{path}: line {number} holds a {type(row).__name__}; expected an object")
            yield {name: _string(value) for name, value in row.items()}


def _parquet(path: Path, source: Source) -> Iterator[dict[str, str]]:
    import pyarrow.parquet

    with pyarrow.parquet.ParquetFile(path) as file:
        for batch in file.iter_batches():
            for row in batch.to_pylist():
                yield {name: _string(value) for name, value in row.items()}


def _string(value: object) -> str:
    if isinstance(value, bytes):
        return value.decode("utf-8", "surrogateescape")
    return "" if value is None else str(value)
