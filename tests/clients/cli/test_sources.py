"""Files as texts, and answers as lines, without a server."""

import io
from pathlib import Path

import pytest

from newsdesk.clients.cli.formats import Format, header, line
from newsdesk.clients.cli.sources import Source, SourceError, as_sent
from newsdesk.clients.prediction import Prediction


def texts(name: str, data: bytes, *columns: str) -> list[str | bytes]:
    return list(Source(io.BytesIO(data), name, columns))


def test_lines_keep_their_bytes_and_their_number() -> None:
    assert texts("-", b"\xef\xbb\xbfone\r\n\ntwo \xff\nthree") == [b"one", b"", b"two \xff", b"three"]
    assert texts("a.txt", b"") == []


def test_csv_columns() -> None:
    data = '\ufefftitle,text,n\r\n"One, ""two""","three\nlines",1\nü,,2\n'.encode()
    assert texts("a.csv", data) == [b"three\nlines", b""]
    assert texts("a.csv", data, "title") == [b'One, "two"', "ü".encode()]
    assert texts("a.CSV", data, "title", "text") == [b'One, "two" three\nlines', "ü ".encode()]
    assert texts("a.csv", b"headline\nonly\n") == [b"only"]
    assert texts("a.csv", b"text\nnot utf-8 \xff\n") == [b"not utf-8 \xff"]
    assert texts("a.csv", b"text\n" + b"x" * 1_000_000 + b"\n") == [b"x" * 1_000_000]
    assert texts("a.csv", b"") == []


def test_jsonl_columns() -> None:
    data = b'{"text": "one", "title": "\\u00fc"}\n"two"\n'
    assert texts("a.jsonl", data) == [b"one", b"two"]
    assert texts("a.ndjson", b'{"a": "one", "b": "two"}\n', "b", "a") == [b"two one"]
    assert texts("a.jsonl", b'"\\ud800"') == ["\ud800"]


@pytest.mark.parametrize(
    ("name", "data", "columns", "words"),
    [
        ("a.parquet", b"", [], r"a\.parquet: expected a file of texts, one a line \(\.txt\), or \.csv or \.jsonl"),
        ("a.txt", b"", ["text"], r"a\.txt: a column is named"),
        ("a.csv", b"a,b\n1,2\n", [], r"a\.csv: no column text among a, b: name one with --text-column"),
        ("a.csv", b"a,b\n1,2\n", ["c"], r"a\.csv: no column c among a, b"),
        ("a.jsonl", b'"one"\n{"text', [], r"a\.jsonl: line 2 is not JSON"),
        ("a.jsonl", b'{"a": "b"}', [], r"a\.jsonl: line 1 has no text: name one with --text-column"),
        ("a.jsonl", b"3", [], r"a\.jsonl: line 1 has no text"),
        ("a.jsonl", b'{"text": 3}', [], r"a\.jsonl: line 1: text must be text, got \[3\]"),
        ("a.jsonl", b"\xff", [], r"a\.jsonl: line 1 is not JSON"),
    ],
)
def test_what_cannot_be_read_is_said(name: str, data: bytes, columns: list[str], words: str) -> None:
    with pytest.raises(SourceError, match=words):
        texts(name, data, *columns)


def test_position_follows_the_reading(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_bytes(b"one\ntwo\n")
    with file.open("rb") as opened:
        source = Source(opened, str(file))
        assert (source.position, source.size) == (0, 8)
        assert [source.position for _ in source] == [4, 8]


def test_undecodable_bytes_go_out_as_they_came() -> None:
    assert as_sent(b"ab\xff".decode("utf-8", "surrogateescape")) == b"ab\xff"
    assert as_sent("ü") == "ü".encode()
    assert as_sent("\ud800") == "\ud800"


def test_a_preview_obeys_no_escape_and_stays_short() -> None:
    prediction = Prediction(0, "Sports", {"Sports": 0.5}, "member")
    shown = line(Format.text, prediction, "\x1b[31mred\n\r\x07" + "x" * 200, ("Sports", "World"))
    assert shown == f"Sports 0.5000   [31mred   {'x' * 68}…\n"
    assert line(Format.text, prediction, b"\xff one", ("Sports",)) == "Sports 0.5000  \ufffd one\n"


def test_only_csv_has_a_header() -> None:
    assert [header(form, ("a", "b,c")) for form in Format] == [
        "",
        "",
        'index,label,a,"b,c",answered_by,windows,error\n',
    ]
