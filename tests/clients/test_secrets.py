"""Errors and reprs name what is wrong with a key or an address, and show no secret."""

import traceback

import pytest
from typer.testing import CliRunner

from newsdesk.clients import AsyncClient, Client
from newsdesk.clients.cli.app import app
from newsdesk.clients.transports import parse

SECRET = "nd_sesame"
HTTP = "gateway+http://127.0.0.1:1"


@pytest.mark.parametrize(
    ("tail", "says"),
    [
        ("\n", "U+000A at place 10 of 10"),
        ("\r\nX-Evil: 1", "U+000D at place 10"),
        ("\x00", "U+0000"),
        (" ", "U+0020"),
        ("ключ", "U+043A"),
        ("…", "U+2026"),
        ("\ud800", "U+D800"),
    ],
)
def test_a_key_that_no_header_can_carry_is_refused_unseen(
    monkeypatch: pytest.MonkeyPatch, tail: str, says: str
) -> None:
    def expect(make: object) -> None:
        with pytest.raises(ValueError, match="the API key") as refused:
            make()  # type: ignore[operator]
        shown = "".join(traceback.format_exception(refused.value))
        assert says in str(refused.value)
        assert SECRET not in shown.replace(f'"{SECRET}', "")  # this file's own lines may stand in it
        assert refused.value.__cause__ is None

    key = SECRET + tail
    for url in HTTP, "http://127.0.0.1:1":
        expect(lambda url=url: Client(url, api_key=key))
        expect(lambda url=url: AsyncClient(url, api_key=key))
    if tail not in ("\x00", "\ud800"):  # which no variable can hold
        monkeypatch.setenv("NEWSDESK_API_KEY", key)
        expect(lambda: Client(HTTP))
        for command in ["classify", "match", "--url", HTTP], ["models", "--url", HTTP]:
            ran = CliRunner().invoke(app, command)
            assert ran.exit_code == 2
            assert says in ran.output
            assert SECRET not in ran.output


@pytest.mark.parametrize(
    "url",
    [
        f"http://user:{SECRET}@127.0.0.1:8000",
        f"grpc://{SECRET}@127.0.0.1:8001",
        f"http://user:pass/{SECRET}@127.0.0.1:8000",
        f"http://127.0.0.1:8000?key={SECRET}",
        f"http://127.0.0.1:8000#{SECRET}",
        f"http://user:{SECRET}@[::1",
        f"https//user:{SECRET}@127.0.0.1",
        f"http://user:{SECRET}@127.0.0.1:80a",
    ],
)
def test_a_url_with_a_secret_is_refused_without_it(url: str) -> None:
    with pytest.raises(ValueError, match="expected grpc://host:port") as refused:
        Client(url)
    assert SECRET not in str(refused.value)
    assert refused.value.__cause__ is None
    ran = CliRunner().invoke(app, ["classify", "match", "--url", url])
    assert (ran.exit_code, SECRET in ran.output) == (2, False)


def test_no_repr_shows_the_key() -> None:
    client = Client(HTTP, api_key=SECRET)
    address = parse(HTTP, "ag_news", SECRET)
    for shown in repr(client), repr(client._settings), repr(address), str(AsyncClient(HTTP, api_key=SECRET)):
        assert SECRET not in shown
