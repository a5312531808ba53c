"""JSON Lines and plain lines: a line that is no row is refused alone."""

import pytest

from newsdesk.clients.rows import RowsError
from newsdesk.server.contract import MAX_TEXT_BYTES
from tests.clients.rows.reading import named, reasons, texts


def test_columns() -> None:
    data = b'{"text": "one", "title": "\\u00fc"}\n"two"\n'
    assert texts("a.jsonl", data) == [b"one", b"two"]
    assert texts("a.ndjson", b'{"a": "one", "b": "two"}\n{"a": null, "b": "3"}\n', "b", "a") == [b"two one", b"3 "]
    assert texts("a.jsonl", b'"\\ud800"') == ["\ud800"]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b'{"text": null}', "text is null"),
        (b'{"text": 3}', "text must be text, got 3"),
        (b'{"title": "x"}', "no text among title: name one with --text-column"),
        (b"3", "holds a int, expected an object"),
        (b"[1]", "holds a list, expected an object"),
        (b"null", "holds a NoneType"),
        (b"[" * 10_000, "nested too deeply"),
        (b'{"text": "x", "n": ' + b"9" * 5000 + b"}", "a number of more digits than can be read"),
        (b'{"text', "not JSON: Unterminated string"),
        (b'{"text": "a", "text": "b"}', "text stands twice"),
        (b'{"text": "' + b"x" * (MAX_TEXT_BYTES + 1) + b'"}', "262,145 bytes, expected a text of at most 256 KiB"),
        (b'{"text": "' + b"x" * 5_000_000 + b'"}', "longer than 1 MiB, expected a text of at most 256 KiB"),
    ],
    ids=named,
)
def test_a_line_that_is_no_row_is_refused_alone(line: bytes, words: str) -> None:
    texts = reasons("a.jsonl", b'{"text": "one"}\n\n' + line + b'\n  \n{"text": "two"}\n\n')
    assert (texts[0], texts[2], len(texts)) == (b"one", b"two", 3)
    assert str(texts[1]).startswith("line 3")
    assert words in str(texts[1])


def test_one_latin_1_byte_spoils_its_own_text_alone() -> None:
    assert texts("a.jsonl", b'{"text": "caf\xe9"}\n{"text": "two"}\n') == [b"caf\xe9", b"two"]


def test_a_column_that_the_first_row_lacks_is_a_wrong_option() -> None:
    with pytest.raises(RowsError, match=r"a\.jsonl: no column text among a: name one with --text-column"):
        texts("a.jsonl", b'{"a": "b"}\n')


def test_lines_keep_their_bytes_and_their_number() -> None:
    assert texts("-", b"\xef\xbb\xbfone\r\n\ntwo \xff\nthree") == [b"one", b"", b"two \xff", b"three"]
    assert texts("a.txt", b"") == []
    lines = reasons("a.txt", b"one\n" + b"x" * 8_000_000 + b"\n" + b"y" * MAX_TEXT_BYTES + b"\r\n")
    assert lines == [b"one", "line 2: 8,000,001 bytes, expected a text of at most 256 KiB", b"y" * MAX_TEXT_BYTES]
