"""Answers as lines, without a server."""

from newsdesk.clients.cli.formats import Format, header, line
from newsdesk.clients.errors import TextRefused
from newsdesk.clients.prediction import Prediction
from newsdesk.clients.rows import as_sent


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
        'index,label,a,"b,c",answered_by,windows,error,unsure\n',
    ]


def test_a_text_of_the_csv_is_no_formula() -> None:
    """Spreadsheets run cells that begin with these; numbers are numbers."""
    prediction = Prediction(7, "=cmd()", {"=cmd()": -0.5}, "@member")
    assert line(Format.csv, prediction, b"", ("=cmd()",)) == "7,'=cmd(),-0.5,'@member,1,,\n"
    assert line(Format.csv, TextRefused(0, "-1 is no text"), b"", ("a",)) == "0,,,,,'-1 is no text,\n"
    assert header(Format.csv, ("+a",)) == "index,label,'+a,answered_by,windows,error,unsure\n"
