"""Callers see that the server is gone, slow, half dead or somebody else."""

import asyncio
import dataclasses
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import psutil
import pytest

from newsdesk.clients import (
    AccessDenied,
    AsyncClient,
    BadResponse,
    Client,
    DeadlineExceeded,
    RequestRefused,
    ServerFailed,
    ServerUnavailable,
    TooManyRequests,
)
from newsdesk.clients.errors import Interrupted, error_of
from newsdesk.clients.triton_http import HttpTransport
from tests.clients.triton_process import Triton
from tests.holding import Hold


@pytest.mark.parametrize("scheme", ["grpc", "http"])
def test_no_server_is_said_with_advice_and_before_the_deadline(scheme: str, nowhere: int) -> None:
    url = f"{scheme}://127.0.0.1:{nowhere}"
    advice = rf"^{url} does not answer: .*(refused|Connect call failed).* Is `newsdesk serve` running"
    for retries in (0, 50):  # none, and more than fit
        with Client(url, timeout=1, retries=retries) as client, pytest.raises(ServerUnavailable, match=advice):
            client.classify("match")

    async def call() -> None:
        async with AsyncClient(url, timeout=1, retries=50) as client:
            await client.classify(["match"] * 200)

    with pytest.raises(ServerUnavailable, match=advice):
        asyncio.run(call())


def test_a_slow_answer_exceeds_the_deadline(client: Client, url: str, hold: Hold) -> None:
    client.classify("match")
    for texts in (hold.text, [hold.text] * 200):
        with pytest.raises(DeadlineExceeded, match="has not answered in the time given: allow more with `timeout`"):
            client.classify(texts, timeout=0.3)

    async def call() -> None:
        async with AsyncClient(url) as aclient:
            await aclient.classify(hold.text, timeout=0.3)

    with pytest.raises(DeadlineExceeded):
        asyncio.run(call())
    hold.release()
    assert client.classify("match").label == "Sports"


@pytest.mark.parametrize("scheme", ["grpc", "http"])
def test_a_server_that_accepts_and_says_nothing(scheme: str) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        Client(f"{scheme}://127.0.0.1:{silent.getsockname()[1]}", timeout=0.5) as client,
        pytest.raises((DeadlineExceeded, ServerUnavailable)),
    ):
        client.classify("match")


def test_failures_of_the_model_and_wrong_models(client: Client, url: str) -> None:
    with pytest.raises(ServerFailed, match="the stand-in was told to fail"):
        client.classify("stand-in, fail")
    with (
        Client(url, model="ag_newz") as wrong,
        pytest.raises(RequestRefused, match="unknown model: 'ag_newz' is not found"),
    ):
        wrong.classify("match")
    assert client.classify("match").label == "Sports"


@pytest.mark.parametrize("status", [200, 404, 502])
def test_a_server_that_is_no_triton(status: int) -> None:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))  # or the end of the connection resets it
            body = b"<html>hello</html>"
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET

        def log_message(self, *arguments: object) -> None:
            pass

    expected = {200: BadResponse, 404: RequestRefused, 502: ServerUnavailable}[status]
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            with Client(f"http://127.0.0.1:{server.server_port}", retries=1) as client, pytest.raises(expected):
                client.classify("match")
        finally:
            server.shutdown()
            thread.join()


def test_calls_outlast_a_late_start_a_dead_process_and_a_restart(own_triton: Triton) -> None:
    ports = own_triton.ports
    clients = [Client(url, timeout=60, retries=100) for url in (ports.grpc_url, ports.http_url)]
    aclient = AsyncClient(ports.grpc_url, timeout=60, retries=100)

    def all_answer() -> None:
        for client in clients:
            assert client.classify("match").label == "Sports"
        assert asyncio.run(aclient.classify("match")).label == "Sports"

    own_triton.start()
    all_answer()
    # Triton goes on handing requests to the dead one of the two processes and fails them with an internal error.
    stubs = [process for process in psutil.Process(own_triton.pid).children() if "stub" in " ".join(process.cmdline())]
    stubs[0].kill()
    for _ in range(2):
        all_answer()
    own_triton.stop()
    for client in clients:
        with pytest.raises(ServerUnavailable):
            client.classify("match", timeout=0.5)
    own_triton.start()
    all_answer()
    for client in clients:
        client.close()


def test_a_changed_model_is_noticed_and_read_anew(client: Client, monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    client.classify("match")
    model = client._models[""]
    assert model is not None
    client._models[""] = dataclasses.replace(model, labels=("Real", "Fake"))
    with pytest.raises(BadResponse, match="the server has changed its model"):
        client.classify("match")
    assert client.classify("match").label == "Sports"


@pytest.mark.parametrize(
    ("statuses", "kind"),
    [
        (("INVALID_ARGUMENT", 400), RequestRefused),
        (("NOT_FOUND", 404), RequestRefused),
        (("UNAUTHENTICATED", 401), AccessDenied),
        (("PERMISSION_DENIED", 403), AccessDenied),
        ((413, 422), RequestRefused),
        (("RESOURCE_EXHAUSTED", 429), TooManyRequests),
        (("INTERNAL", 500), ServerFailed),
        (("UNAVAILABLE", 503), ServerUnavailable),
        (("DEADLINE_EXCEEDED", 504), DeadlineExceeded),
        (("DATA_LOSS", 418), ServerFailed),
    ],
)
def test_the_table_of_statuses(statuses: tuple[str | int, int], kind: type[Exception]) -> None:
    for status in statuses:
        assert type(error_of(status, "why", "grpc://host:8001")) is kind


@pytest.mark.parametrize("status", ["INTERNAL", 500])
def test_a_dead_backend_process_counts_as_unavailable(status: str | int) -> None:
    message = "Failed to process the request(s): Stub process 'ag_news_0_1' is not healthy."
    error = error_of(status, message, "grpc://host:8001")
    assert isinstance(error, ServerUnavailable)
    assert isinstance(error, Interrupted)
    assert error.process == "ag_news_0_1"


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        ("Stream removed (Socket closed)", Interrupted),
        ("recvmsg:Connection reset by peer", Interrupted),
        ("failed to connect to all addresses; last error: UNKNOWN: Connection refused", ServerUnavailable),
        ("failed to connect to all addresses; last error: recvmsg:Connection reset by peer (104)", ServerUnavailable),
        ("Request for unknown model: 'ag_news' has no available versions", ServerUnavailable),
    ],
)
def test_what_was_in_flight_is_told_from_what_was_never_sent(message: str, kind: type[Exception]) -> None:
    assert type(error_of("UNAVAILABLE", message, "grpc://host:8001")) is kind


def test_what_was_in_flight_is_not_sent_again_where_the_caller_does_that(own_triton: Triton, hold: Hold) -> None:
    own_triton.start()
    own_triton.wait()

    async def call() -> None:
        async with AsyncClient(own_triton.ports.grpc_url, timeout=20, repeat_interrupted=False) as client:
            await client.classify("match")
            before = time.monotonic()
            held = asyncio.create_task(client.classify(hold.text))
            await asyncio.to_thread(hold.until_computing)
            killed = time.monotonic()
            psutil.Process(own_triton.pid).kill()
            with pytest.raises(Interrupted) as interrupted:
                await held
            assert before <= interrupted.value.sent <= killed
            refused: BaseException | None = interrupted.value
            end = time.monotonic() + 30
            while isinstance(refused, Interrupted):  # the connection that is being closed may take another call
                assert time.monotonic() < end
                (refused,) = await asyncio.gather(client.classify("match", timeout=0.5), return_exceptions=True)
            assert isinstance(refused, ServerUnavailable)

    asyncio.run(call())


def test_http_transport_keeps_to_its_connection(url: str, client: Client) -> None:
    for _ in range(20):
        client.classify("match")
    transport = client._here().transport
    if isinstance(transport, HttpTransport):
        assert transport._web._pool.num_connections == 1
