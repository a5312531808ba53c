"""Parquet: a value that is wrong is refused alone, and nothing is built that a file only declares."""

import io
import subprocess
import sys
from pathlib import Path

import pyarrow as arrow
import pyarrow.parquet as parquet
import pytest

from newsdesk.clients.rows import Reader, RowsError
from tests.clients.rows.reading import reasons, texts


def file_of(table: arrow.Table, **how: object) -> bytes:
    file = io.BytesIO()
    parquet.write_table(table, file, **how)  # type: ignore[arg-type]
    return file.getvalue()


def repeated(text: str, times: int) -> arrow.Table:
    return arrow.table({"text": arrow.DictionaryArray.from_arrays(arrow.array([0] * times, "int32"), [text])})


@pytest.mark.parametrize("type", ["string", "large_string", "string_view", "dictionary"])
def test_columns_of_text(type: str) -> None:
    held = arrow.array(["one", "zwei ü", None, "x" * 300_000])
    column = held.dictionary_encode() if type == "dictionary" else held.cast(getattr(arrow, type)())
    data = file_of(arrow.table({"text": column, "title": ["a", None, "c", "d"]}), row_group_size=2)
    rows = reasons("a.parquet", data)
    assert rows[:2] == [b"one", "zwei ü".encode()]
    assert rows[2] == "row 3: text is null, expected a text"
    assert "row 4: text is too long, expected a text of at most 256 KiB" in str(rows[3])
    assert texts("a.parquet", data, "title", "text")[:3] == [b"a one", " zwei ü".encode(), b"c "]


def test_bytes_that_are_no_utf8_spoil_their_own_row() -> None:
    bad = arrow.Array.from_buffers(
        arrow.string(), 3, arrow.array([b"one", b"caf\xe9", b"three"], arrow.binary()).buffers()
    )
    for column in (bad, arrow.DictionaryArray.from_arrays([0, 1, 2], bad)):
        assert texts("a.parquet", file_of(arrow.table({"text": column}))) == [b"one", b"caf\xe9", b"three"]


@pytest.mark.parametrize(
    ("table", "columns", "words"),
    [
        (arrow.table({"text": [1]}), [], "column text is int64, expected text"),
        (arrow.table({"a": ["x"]}), [], "no column text among a: name one with --text-column"),
        (arrow.Table.from_arrays([["x"], ["y"]], ["text", "text"]), [], "column text stands 2 times in the file"),
        (repeated("x", 200_000), [], "the file declares 200,000 rows in"),
    ],
)
def test_what_cannot_be_read_is_said(table: arrow.Table, columns: list[str], words: str) -> None:
    with pytest.raises(RowsError, match=words):
        texts("a.parquet", file_of(table), *columns)
    other = arrow.Table.from_arrays([["x"], ["y"], ["z"]], ["a", "text", "a"])
    assert texts("a.parquet", file_of(other)) == [b"y"]


def test_a_file_that_is_cut_or_corrupt_is_one_error() -> None:
    data = file_of(arrow.table({"text": [f"shares {i}" for i in range(5000)]}), row_group_size=1000)
    broken = bytearray(data)
    broken[len(data) // 2 : len(data) // 2 + 600] = b"\xff" * 600
    for damaged in (data[:-20], data[: len(data) // 2], b"PAR1", b"PAR1" + bytes(100) + b"PAR1", bytes(broken)):
        with pytest.raises(RowsError, match=r"a\.parquet: "):
            texts("a.parquet", damaged)


BOMBS = {
    "a value of 10 MB 256 times": file_of(repeated("x" * 10_000_000, 256), compression="zstd"),
    "the same without a dictionary in its schema": file_of(
        arrow.table({"text": ["x" * 10_000_000] * 256}), compression="zstd", store_schema=False
    ),
    "values without a dictionary": file_of(
        arrow.table({"text": ["x" * 2_000_000] * 40}), compression="zstd", use_dictionary=False, write_batch_size=1
    ),
    "one page of 80 MB": file_of(
        arrow.table({"text": ["x" * 80_000] * 1000}), compression="zstd", use_dictionary=False, data_page_size=10**9
    ),
    "values of deltas": file_of(
        arrow.table({"text": ["x" * 200_000] * 200}),
        use_dictionary=False,
        column_encoding={"text": "DELTA_BYTE_ARRAY"},
        data_page_version="2.0",
    ),
    "rows and rows": file_of(repeated("shares", 3_000_000), compression="zstd", row_group_size=10**9),
}
MEASURE = """
import io, resource, sys
from newsdesk.clients.rows import Reader, RowsError
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
list(Reader(open(sys.argv[1], "rb"), "warm.parquet").texts())
before = peak()
for path in sys.argv[2:]:
    try:
        for text in Reader(open(path, "rb"), path).texts():
            pass
    except RowsError as error:
        print(str(error).partition(": ")[2], file=sys.stderr)
    print(peak() - before)
"""


def test_memory_is_bounded_whatever_a_file_declares(tmp_path: Path) -> None:
    """At most four times its size and 64 MB. Without the bounds the first of them takes 2.4 GB."""
    (tmp_path / "warm").write_bytes(file_of(arrow.table({"text": ["one"]})))
    ordinary = file_of(arrow.table({"text": [f"shares {i} of {i * 7919 % 100_003}" for i in range(200_000)]}))
    files = [*BOMBS.values(), ordinary, b"text\n" + b"x" * 8_000_000 + b"\n" + b"y" * 20_000_000]
    paths = [tmp_path / f"{place}.csv" for place in range(len(files))]
    for path, data in zip(paths, files, strict=True):
        path.write_bytes(data)
    command = [sys.executable, "-c", MEASURE, str(tmp_path / "warm"), *map(str, paths)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    for path, grown in zip(paths, result.stdout.split(), strict=True):
        assert float(grown) < 64 + 4 * path.stat().st_size / 2**20, (path, result.stdout)
    for words in ("write it with smaller pages", "an encoding of deltas", "declares 3,000,000 rows in"):
        assert words in result.stderr


def test_rows_have_all_cells_for_whoever_wants_them() -> None:
    table = arrow.table({"text": ["one"], "label": [3], "n": [None]})
    (row,) = Reader(io.BytesIO(file_of(table)), "a.parquet", columns=["text", "label"]).rows()
    assert row.cells == {"text": b"one", "label": 3, "n": None}
