"""The SDK before a real gateway: who it says that it is, and what it makes of the gateway's problems."""

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from newsdesk.clients import (
    AccessDenied,
    AsyncClient,
    BadResponse,
    Client,
    NewsdeskError,
    RequestRefused,
    ServerUnavailable,
    TextRefused,
    TooManyRequests,
)
from newsdesk.server.gateway.keys import KeyFile, Role
from tests.clients.conftest import gateway_url
from tests.clients.triton_process import Ports, write_repository
from tests.server.gateway import gateways


def test_a_key_or_a_token_opens_it(closed: tuple[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    url, folder = closed
    key = gateways.key(folder, Role.reader)
    for secret in (key, gateways.token()):
        with Client(url, api_key=secret) as client:
            assert client.classify("match").label == "Sports"

    async def ask() -> str:
        async with AsyncClient(url, api_key=key) as client:
            return (await client.classify("match")).label

    assert asyncio.run(ask()) == "Sports"
    # The gateway passes the Open Inference Protocol on, and asks for the key there, too.
    with Client(url.removeprefix("gateway+"), api_key=key) as client:
        assert client.classify(["match", ""])[0].label == "Sports"  # type: ignore[union-attr]
    monkeypatch.setenv("NEWSDESK_API_KEY", key)
    with Client(url) as client:
        assert client.classify("match").label == "Sports"
    with Client(url, api_key="") as client, pytest.raises(AccessDenied):
        client.classify("match")
    assert key not in repr(Client(url)._settings)


def test_no_key_and_a_revoked_one_are_told_what_to_do(closed: tuple[str, Path]) -> None:
    url, folder = closed
    advice = r"refuses the caller \(401\): .* `newsdesk keys create` makes one"
    key = gateways.key(folder, Role.reader)
    KeyFile(folder / "keys.json").revoke(key.split("_")[1])
    for secret in (None, key, "nd_nonsense"):
        for form in (url, url.removeprefix("gateway+")):
            with Client(form, api_key=secret) as client, pytest.raises(AccessDenied, match=advice):
                client.classify("match")


def test_a_rate_limit_is_waited_for_and_told(triton: Ports, tmp_path: Path) -> None:
    folder = write_repository(tmp_path)
    with gateways.gateway(folder, triton.both, rate_limit="2/second") as served:
        url = gateway_url(served)
        with Client(url, timeout=60) as client:
            start = time.monotonic()
            assert [client.classify("match").label for _ in range(5)] == ["Sports"] * 5
            assert time.monotonic() - start > 1.5
    with gateways.gateway(folder, triton.both, rate_limit="2/minute") as served:
        url = gateway_url(served)
        with Client(url, retries=0) as client, pytest.raises(TooManyRequests, match="asks to come later") as caught:
            [client.classify("match") for _ in range(3)]
        assert caught.value.retry_after >= 1
        with Client(url, timeout=20) as client, pytest.raises(TooManyRequests):  # a minute does not fit
            client.classify("match")


def test_a_body_that_is_too_large_is_refused(closed: tuple[str, Path]) -> None:
    url, folder = closed
    with Client(url, api_key=gateways.key(folder, Role.reader)) as client:
        with pytest.raises(RequestRefused, match=r"\(413\).*1 MiB"):
            client.classify("x" * 3_000_000)
        with pytest.raises(RequestRefused, match=r"\(413\).*at most 3 are taken"):
            client.classify(["match"] * 4)
        assert client.classify(["match"] * 3)


def test_another_model_is_not_there(gateway: str) -> None:
    with Client(gateway, model="ag_newz") as client, pytest.raises(RequestRefused, match="it serves ag_news"):
        client.classify("match")


def test_a_gateway_whose_server_is_gone_is_unavailable(tmp_path: Path) -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
        with gateways.gateway(tmp_path, [port, port], request_timeout=0.5) as served:
            with Client(gateway_url(served), retries=1) as client, pytest.raises(NewsdeskError) as caught:
                client.classify("match")
            assert isinstance(caught.value, ServerUnavailable)


MODELS = b'{"models": [{"name": "ag_news", "labels": ["a", "b"], "members": [{"name": "one"}]}]}'


@pytest.fixture
def answering() -> Iterator[Callable[[int, bytes, str], str]]:
    """Return (status, body, retry-after) → URL of a server that names a model, and answers so whatever is asked."""
    servers: list[ThreadingHTTPServer] = []

    def start(status: int, body: bytes, retry_after: str) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._say(200, MODELS)

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                self._say(status, body)

            def _say(self, status: int, body: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.send_header("Retry-After", retry_after)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *arguments: object) -> None:
                pass

        servers.append(ThreadingHTTPServer(("127.0.0.1", 0), Handler))
        threading.Thread(target=servers[-1].serve_forever).start()
        return f"gateway+http://127.0.0.1:{servers[-1].server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(
    "body",
    [
        b"no JSON",
        b"[]",
        b'{"items": 3}',
        b'{"items": []}',
        b'{"items": [{"label": "a"}]}',
        b'{"items": [{"label": "a", "probabilities": {"c": 1.0}, "answered_by": "one", "windows": 1}]}',
        b'{"items": [{"label": "c", "probabilities": {"a": 1.0, "b": 0}, "answered_by": "one", "windows": 1}]}',
        b'{"items": [{"error": "no"}, {"error": "no"}]}',
    ],
)
def test_what_is_no_answer_is_a_bad_response(answering: Callable[[int, bytes, str], str], body: bytes) -> None:
    with Client(answering(200, body, "0")) as client, pytest.raises(BadResponse):
        client.classify("match")


@pytest.mark.parametrize(
    ("status", "kind", "seconds"),
    [(403, AccessDenied, 0), (422, RequestRefused, 0), (429, TooManyRequests, 7), (503, ServerUnavailable, 7)],
)
def test_problem_details_become_errors(
    answering: Callable[[int, bytes, str], str], status: int, kind: type[NewsdeskError], seconds: float
) -> None:
    url = answering(status, b'{"title": "T", "detail": "the gateway\'s own words"}', "7")
    with Client(url, retries=0) as client, pytest.raises(kind, match="the gateway's own words") as caught:
        client.classify("match")
    assert type(caught.value) is kind
    assert getattr(caught.value, "retry_after", 0) == seconds


def test_a_retry_after_that_is_a_date_is_left_alone(answering: Callable[[int, bytes, str], str]) -> None:
    url = answering(503, b"{}", "Wed, 21 Oct 2065 07:28:00 GMT")
    with Client(url, retries=1) as client, pytest.raises(ServerUnavailable):
        client.classify("match")


@pytest.mark.parametrize(
    ("url", "options", "words"),
    [
        ("http://host", {"ca_file": "a.pem"}, "not encrypted, expected http"),
        ("grpc://host", {"cert_file": "a.pem", "key_file": "b.pem"}, "not encrypted, expected grpcs"),
        ("grpcs://host", {"cert_file": "a.pem"}, "expected both, or none"),
        ("gateway://host", {}, "or gateway"),
    ],
)
def test_what_does_not_go_together_is_a_value_error(url: str, options: dict[str, str], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Client(url, **options)  # type: ignore[arg-type]


def test_texts_that_json_cannot_carry_are_refused_at_their_places(gateway: str) -> None:
    with Client(gateway) as client:
        answers = client.classify([b"\xff", "match", b"shares \xfe", "chip", ""])
        assert [isinstance(answer, TextRefused) for answer in answers] == [True, False, True, False, True]
        assert all(isinstance(answer, TextRefused) for answer in client.classify([b"\xff", b"\xfe"]))
