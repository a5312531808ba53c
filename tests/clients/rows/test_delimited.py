"""CSV: its dialect is recognised or asked for, and a row that is broken is refused alone, with its line."""

import io
import time

import pytest

from newsdesk.clients.rows import Reader, RowRefusal, RowsError
from newsdesk.server.contract import MAX_TEXT_BYTES
from tests.clients.rows.reading import reasons, texts

ROWS = b"Ferry sails, says port;harbour\nSoup; with onion;kitchen\n"


@pytest.mark.parametrize(
    "data",
    [
        b"text;label\nFerry sails, says port;harbour\nSoup is hot, again;kitchen\n",
        b"label\ttext\nharbour\tFerry sails, says port\nkitchen\tSoup is hot, again\n",
        b"label|text\nharbour|Ferry sails, says port\nkitchen|Soup is hot, again\n",
        b"sep=;\r\ntext;label\r\nFerry sails, says port;harbour\r\nSoup is hot, again;kitchen\r\n",
        b'"sep=^"\ntext^label\nFerry sails, says port^harbour\nSoup is hot, again^kitchen\n',
        b'label,text\nharbour,"Ferry sails, says port"\nkitchen,"Soup is hot, again"\n',
        b"\xef\xbb\xbftext;label\nFerry sails, says port;harbour\n\nSoup is hot, again;kitchen\n",
    ],
)
def test_the_dialect_is_recognised(data: bytes) -> None:
    assert texts("a.csv", data) == [b"Ferry sails, says port", b"Soup is hot, again"]


def test_columns_that_are_not_named_text_part_a_file_too() -> None:
    """By the rows, where the header alone does not say it: never one column with the label in it."""
    data = b"headline;section\nFerry sails, says port;harbour\nSoup is hot;kitchen\n"
    assert texts("a.csv", data, "headline") == [b"Ferry sails, says port", b"Soup is hot"]
    with pytest.raises(RowsError, match=r"a\.csv: no column text among headline, section: name one with --text-column"):
        texts("a.csv", data)
    with pytest.raises(RowsError, match="no column section among"):
        texts("a.csv", b"a,b\n1,2\n", "section")


def test_a_file_of_one_column_stays_one() -> None:
    assert texts("a.csv", b"headline\nonly; this\n") == [b"only; this"]
    assert texts("a.csv", b'text\n"Ferry, late"\nSoup\n') == [b"Ferry, late", b"Soup"]
    assert texts("a.csv", b"") == texts("a.csv", b"text\n") == []


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"News; today\nFerry sails\nSoup\n", "'News; today' is one column, or several parted by a semicolon"),
        (b"text^label\nFerry^harbour\n", r"'text\^label' is parted by no comma, semicolon, tab or pipe"),
    ],
)
def test_what_is_unclear_is_asked_for_and_not_guessed(data: bytes, words: str) -> None:
    with pytest.raises(RowsError, match=words + ".*--delimiter"):
        texts("a.csv", data)


@pytest.mark.parametrize("delimiter", ["^", "semicolon", "tab", "\\t", ";"])
def test_the_delimiter_can_be_said(delimiter: str) -> None:
    character = {"semicolon": ";", "tab": "\t", "\\t": "\t"}.get(delimiter, delimiter)
    data = f"text{character}label\nFerry{character}harbour\n".encode()
    assert texts("a.csv", data, delimiter=delimiter) == [b"Ferry"]
    assert texts("a.tsv", b"text\tlabel\nFerry, late\tharbour\n") == [b"Ferry, late"]
    with pytest.raises(RowsError, match="delimiter is 'ab', expected one character, or comma"):
        texts("a.csv", data, delimiter="ab")


def test_a_file_without_a_header_line() -> None:
    data = b'"3";"Ferry sails"\n"1";"Soup, hot"\n'
    assert texts("a.csv", data, "text", header=["label", "text"]) == [b"Ferry sails", b"Soup, hot"]
    with pytest.raises(RowsError, match="no delimiter parts its rows into the 2 cells of its columns"):
        texts("a.csv", b"3^Ferry\n1^Soup\n", header=["label", "text"])


def test_a_row_of_more_or_fewer_cells_is_refused_with_its_line() -> None:
    data = b"text,label\nFerry sails, late,harbour\nSoup,kitchen\nRain\n\nSun,weather\n"
    texts = reasons("a.csv", data)
    assert [texts[place] for place in (1, 3)] == [b"Soup", b"Sun"]
    assert str(texts[0]).startswith("line 2: 3 cells, expected the 2 of the header: is a quote missing")
    assert "--delimiter" in str(texts[0])
    assert str(texts[2]).startswith("line 4: 1 cell, expected the 2")


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        (
            b'"Ferry sails,harbour\n"Rain",weather\n',
            "the quote that opens in line 3 closes in the middle of a cell in line 4",
        ),
        (b'"Ferry sails,harbour\nRain,weather\n', "the quote that opens in line 3 closes nowhere"),
        (b'"Ferry sails,harbour\nRain falls",weather\n', "the quote that opens in line 3 swallows rows up to line 4"),
        (b'"Ferry "Anna" sails",harbour\nRain,weather\n', "a quote closes in the middle of a cell"),
        (b'Ferry sails",harbour\nRain,weather\n', "a quote stands in the middle of a cell"),
        (b"Ferry\rsails,harbour\nRain,weather\n", "a carriage return stands in the middle"),
    ],
)
def test_a_quote_that_swallows_rows_is_named_with_its_line(broken: bytes, words: str) -> None:
    """And what it would swallow is read."""
    texts = reasons("a.csv", b"text,label\nSoup,kitchen\n" + broken)
    assert texts[0] == b"Soup"
    assert words in str(texts[1])
    assert str(texts[1]).startswith("line 3: ")
    assert texts[2] == b"Rain" or str(texts[2]).startswith("line 4: a quote stands in the middle")
    assert len(texts) == 3


def test_quoted_line_breaks_are_no_fault() -> None:
    prose = 'First, a line.\nThen, 5,000 more; and\n\n"quoted", too.\n'
    data = 'title,text\r\n"One, ""two""","three\nlines"\r\nü,"{}"\r\n'.format(prose.replace('"', '""')).encode()
    assert texts("a.csv", data) == [b"three\nlines", prose.encode()]
    assert texts("a.csv", data, "title", "text")[0] == b'One, "two" three\nlines'
    poem = b"a line of a long article\n" * 200
    assert texts("a.csv", b"title,text\n" + b"x,y\n" * 20 + b'x,"' + poem + b'"\n')[-1] == poem


def test_a_cell_far_longer_than_the_others_of_its_only_column_is_found() -> None:
    rows = b"a short headline\n" * 2000
    texts = reasons("a.csv", b"text\n" + rows + b'"an open one\n' + rows + b'the last one"\n')
    assert "swallows rows" in str(texts[2000])
    assert str(texts[2000]).startswith("line 2002: ")
    assert len(texts) == 4002
    assert texts[2001:4001] == [b"a short headline"] * 2000


def test_two_columns_of_one_name_are_refused_where_one_is_read() -> None:
    with pytest.raises(RowsError, match=r"column text stands 2 times in the header"):
        texts("a.csv", b"text,label,text\na,b,c\n")
    assert texts("a.csv", b"text,x,x\na,b,c\n") == [b"a"]


def test_bytes_that_are_no_utf8_go_out_as_they_came() -> None:
    assert texts("a.csv", b"text,label\ncaf\xe9,kitchen\n") == [b"caf\xe9"]


@pytest.mark.parametrize("quoted", [b"", b'"'])
def test_a_cell_that_is_too_long_is_refused_alone(quoted: bytes) -> None:
    for size in (MAX_TEXT_BYTES + 1, 5 * 2**20):
        broken = b" ".join([b"word"] * (size // 5 + 1))
        data = b"text,label\nSoup,kitchen\n" + quoted + broken + quoted + b",harbour\nRain,weather\n"
        texts = reasons("a.csv", data)
        assert (texts[0], texts[2], len(texts)) == (b"Soup", b"Rain", 3)
        assert "expected a text of at most 256 KiB" in str(texts[1])


def test_a_cell_of_many_lines_that_is_too_long_is_refused_alone() -> None:
    article = b"a line, of an article\n" * 100_000
    texts = reasons("a.csv", b'text,label\n"' + article + b'",harbour\nRain,weather\n')
    assert "lines 2 to 100002 are longer than 1 MiB" in str(texts[0])
    assert texts[1:] == [b"Rain"]


def test_hostile_quotes_take_no_quadratic_time() -> None:
    data = b"text,label\n" + b'x","\n' * 60_000
    start = time.process_time()
    refusals = list(Reader(io.BytesIO(data), "a.csv").texts())
    assert all(isinstance(text, RowRefusal) for text in refusals)
    assert time.process_time() - start < 60  # quadratic time would be hours
