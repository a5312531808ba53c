"""Tell a file's form by its first bytes before its name: names lie, and a wrong form loses rows."""

import codecs
import re
import tempfile
from enum import StrEnum
from pathlib import PurePath
from typing import BinaryIO, cast

from newsdesk.clients.rows.errors import RowsError, UnknownKind, Words
from newsdesk.clients.rows.streams import (
    BLOCK_BYTES,
    Changed,
    CountedStream,
    Unpacked,
    buffered,
    from_carriage_returns,
    from_encoding,
)


class Form(StrEnum):
    """csv: a header and cells. jsonl: an object a line. txt: a text a line."""

    csv = "csv"
    jsonl = "jsonl"
    parquet = "parquet"
    txt = "txt"


SUFFIXES = {
    "": Form.txt,
    ".txt": Form.txt,
    ".csv": Form.csv,
    ".tsv": Form.csv,
    ".jsonl": Form.jsonl,
    ".ndjson": Form.jsonl,
    ".parquet": Form.parquet,
}
GZIP, PARQUET = b"\x1f\x8b", b"PAR1"
_UTF8 = codecs.BOM_UTF8
_BOMS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_WORKBOOK = "an Excel workbook (.xlsx): save it as CSV UTF-8"
_OTHERS = (
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old Office file, such as a workbook (.xls): save it as CSV UTF-8"),
    (b"BZh", "compressed by bzip2: unpack it, or pack it with gzip"),
    (b"\xfd7zXZ\x00", "compressed by xz: unpack it, or pack it with gzip"),
    (b"\x28\xb5\x2f\xfd", "compressed by zstd: unpack it, or pack it with gzip"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive: unpack it"),
    (b"Rar!\x1a\x07", "a RAR archive: unpack it"),
    (b"%PDF-", "a PDF: save its texts as CSV UTF-8"),
    (b"\x89PNG\r\n\x1a\n", "a picture (PNG)"),
    (b"\xff\xd8\xff", "a picture (JPEG)"),
    (b"ARROW1\0\0", "an Arrow file: save it as Parquet"),
    (b"SQLite format 3\0", "an SQLite database: export its table as CSV UTF-8"),
)
_ZERO_SHARE = 0.4
"""The share of zeros at every other place from which a text is Latin in UTF-16 without a mark."""


def form_of(name: str, words: Words) -> tuple[Form, str]:
    """Return the form that a file's name says, packed or not, and the delimiter that it says.

    Raises:
        RowsError: it says none.
    """
    suffix = PurePath(re.sub(r"\.gz$", "", name, flags=re.IGNORECASE)).suffix.lower()
    if suffix not in SUFFIXES:
        raise RowsError(
            f"a {suffix} file is given, expected .csv, .tsv, .jsonl, .ndjson, .parquet, or .txt with a text a line, "
            f"plain or .gz; {words.form} says what it is"
        )
    return SUFFIXES[suffix], "\t" if suffix == ".tsv" else ""


def opened(counted: CountedStream) -> tuple[BinaryIO, bool]:
    """Return what to read the rows of, and whether it is Parquet (which can be sought in).

    Rows are in UTF-8, with newlines at the ends of their lines.

    Raises:
        UnknownKind: the file is of another kind, which the message names.
        RowsError: it cannot be unpacked.
    """
    if counted.head.startswith(GZIP):
        counted = CountedStream(buffered(Unpacked(counted)))
        if counted.head.startswith(GZIP):
            raise UnknownKind("a gzip file within a gzip file: unpack it")
    head, file = counted.head, buffered(counted)
    if head.startswith(PARQUET):
        return _on_disk(file), True
    _refuse(head)
    encoding = next((encoding for mark, encoding in _BOMS if head.startswith(mark)), "") or _unmarked(head)
    if encoding:
        file = buffered(Changed(file, from_encoding(encoding)))
        head = head.replace(b"\0", b"")
    elif head.startswith(_UTF8):
        file.read(len(_UTF8))
    if b"\r" in head and b"\n" not in head:
        file = buffered(Changed(file, from_carriage_returns))
    return file, False


def _refuse(head: bytes) -> None:
    if head.startswith(b"PK\x03\x04"):
        office = any(part in head for part in (b"[Content_Types].xml", b"_rels/", b"xl/", b"docProps/"))
        raise UnknownKind(f"this is {_WORKBOOK}" if office else "this is a zip archive: unpack it")
    for start, kind in _OTHERS:
        if head.startswith(start):
            raise UnknownKind(f"this is {kind}")


def _unmarked(head: bytes) -> str:
    """Return which UTF-16 this is without a byte order mark; "" for any other text."""
    even, odd = head[0:4096:2], head[1:4096:2]
    zeros = even.count(0) / max(len(even), 1), odd.count(0) / max(len(odd), 1)
    if max(zeros) < _ZERO_SHARE or min(zeros) > _ZERO_SHARE / 4:
        return ""
    return "utf-16-be" if zeros[0] > zeros[1] else "utf-16-le"


def _on_disk(file: BinaryIO) -> BinaryIO:
    copy = tempfile.TemporaryFile()  # noqa: SIM115 - whoever reads it closes it
    while block := file.read(BLOCK_BYTES):
        copy.write(block)
    copy.seek(0)
    return cast(BinaryIO, copy)
