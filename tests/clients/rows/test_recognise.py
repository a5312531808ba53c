"""A file is recognised by its first bytes: read, or refused by name."""

import codecs
import io
import zipfile
from pathlib import Path

import pyarrow as arrow
import pyarrow.parquet as parquet
import pytest

from newsdesk.clients.rows import Form, Reader, RowsError, UnknownKind, streams
from tests.clients.rows.reading import Pipe, named, packed, texts

CSV = b"text,label\nFerry sails,harbour\nSoup \xc3\xbc,kitchen\n"
EXPECTED = [b"Ferry sails", "Soup ü".encode()]


def table(**columns: object) -> bytes:
    file = io.BytesIO()
    parquet.write_table(arrow.table(columns), file)
    return file.getvalue()


def workbook() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(zipfile.ZipInfo("[Content_Types].xml"), "<Types/>")
        archive.writestr(zipfile.ZipInfo("xl/workbook.xml"), "<workbook/>")
    return file.getvalue()


@pytest.mark.parametrize(
    "data",
    [
        CSV,
        codecs.BOM_UTF8 + CSV,
        packed(CSV),
        packed(CSV[:20]) + packed(CSV[20:]),
        CSV.replace(b"\n", b"\r"),
        CSV.replace(b"\n", b"\r\n"),
        codecs.BOM_UTF16_LE + CSV.decode().replace(",", "\t").encode("utf-16-le"),
        codecs.BOM_UTF16_BE + CSV.decode().encode("utf-16-be"),
        CSV.decode().replace("\n", "\r").encode("utf-16-le"),
        packed(codecs.BOM_UTF16_LE + CSV.decode().encode("utf-16-le")),
        table(text=["Ferry sails", "Soup ü"]),
        packed(table(text=["Ferry sails", "Soup ü"])),
    ],
    ids=named,
)
def test_first_bytes_count_more_than_a_name(data: bytes) -> None:
    assert texts("a.csv", data) == EXPECTED
    piped = Reader(io.BufferedReader(Pipe(data, 7)), "-", form=Form.csv)  # type: ignore[arg-type]
    assert list(piped.texts()) == EXPECTED
    assert piped.size is None


@pytest.mark.parametrize("name", ["a.csv.gz", "a.CSV", "a.csv.GZ", "A.CSV.Gz", "a.Csv"])
def test_suffixes_in_any_case(name: str) -> None:
    assert texts(name, packed(CSV)) == EXPECTED


def test_parquet_suffixes() -> None:
    data = table(text=["Ferry sails", "Soup ü"])
    assert texts("a.parquet", data) == texts("a.parquet.gz", packed(data)) == texts("a.PARQUET.GZ", data) == EXPECTED
    with pytest.raises(RowsError, match=r"a\.parquet: not a Parquet file"):
        texts("a.parquet", CSV)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (workbook(), r"this is an Excel workbook \(.xlsx\): save it as CSV UTF-8"),
        (packed(workbook()), "Excel workbook"),
        (b"PK\x03\x04" + b"x" * 30, "this is a zip archive: unpack it"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", r"workbook \(.xls\)"),
        (b"\x28\xb5\x2f\xfd" + b"x" * 10, "compressed by zstd"),
        (b"%PDF-1.7", "this is a PDF"),
        (packed(packed(CSV)), "within a gzip file"),
    ],
    ids=named,
)
def test_what_nobody_reads_is_refused_by_name(data: bytes, words: str) -> None:
    for name in ("a.csv", "a.jsonl", "a.txt", "a.parquet"):
        with pytest.raises(UnknownKind, match=words):
            texts(name, data)


@pytest.mark.parametrize(
    ("name", "columns", "words"),
    [
        ("a.xlsx", [], r"a \.xlsx file is given, expected \.csv, .*--input-format says what it is"),
        ("a.txt", ["text"], r"a\.txt: a column is named, expected \.csv, .*--input-format"),
    ],
)
def test_names_that_say_nothing(name: str, columns: list[str], words: str) -> None:
    with pytest.raises(RowsError, match=words):
        texts(name, CSV, *columns)
    assert texts(name, CSV, form=Form.csv) == EXPECTED


def test_a_gzip_file_that_is_cut_or_corrupt_gives_what_came_before() -> None:
    data = packed(b"text\n" + b"".join(b"shares %d of %d\n" % (i, i * 7919 % 1000) for i in range(50_000)))
    broken = bytearray(data)
    broken[-8] ^= 255
    for damaged, words in ((data[: len(data) // 2], "cut short"), (bytes(broken), "corrupt")):
        reader = Reader(io.BytesIO(damaged), "a.csv.gz")
        texts = []
        with pytest.raises(RowsError, match=rf"a\.csv\.gz: the gzip file is {words}"):  # noqa: PT012
            for text in reader.texts():
                texts.append(text)
        assert len(texts) > 10_000
        assert texts[1] == b"shares 1 of 919"


def test_a_gzip_file_that_grows_out_of_all_proportion_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "_FREE", 2**20)
    with pytest.raises(RowsError, match="unpacks to more than 500 times its size"):
        texts("a.csv", packed(b"text\n" + b"x" * 2**24))
    assert len(texts("a.csv", packed(b"text\n" + b"shares up\n" * 100_000))) == 100_000


def test_text_that_ends_within_a_character_is_refused_alone() -> None:
    data = codecs.BOM_UTF16_LE + CSV.decode().encode("utf-16-le") + "Rain,weathe".encode("utf-16-le") + b"r"
    assert texts("a.csv", data)[:2] == EXPECTED


def test_position_follows_the_reading(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_bytes(b"one\n" * 100_000)
    with file.open("rb") as opened:
        reader = Reader(opened, str(file))
        positions = [reader.position for _ in reader.texts()]
    assert (reader.size, positions[-1]) == (400_000, 400_000)
    assert positions == sorted(positions)
    assert positions[0] < 200_000
