"""Connections that take their time, bring too much, or are too many, before an application that only answers."""

import contextlib
import resource
import socket
import threading
import time
from collections.abc import Iterator
from functools import partial
from typing import Any

import httpx
import pytest
import uvicorn
from websockets.sync.client import connect

from newsdesk.server.gateway import connections
from newsdesk.server.gateway.connections import Connections, Http, WebSockets
from tests.holding import until

GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n"
MOST = 40


async def answering(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        while (await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": "here"})
        return
    if scope["path"] == "/whole":
        while (await receive()).get("more_body"):
            pass
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    patched = pytest.MonkeyPatch()
    patched.setattr(connections, "HEAD_SECONDS", 0.5)
    within = Connections(MOST)
    protocols: dict[str, Any] = {"http": partial(Http, within=within), "ws": partial(WebSockets, within=within)}
    config = uvicorn.Config(answering, port=0, loop="uvloop", lifespan="off", log_config=None, **protocols)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    until(lambda: server.started)
    yield server.servers[0].sockets[0].getsockname()[1]
    server.should_exit = True
    thread.join()
    patched.undo()


@contextlib.contextmanager
def connected(port: int, first: bytes = b"") -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        with contextlib.suppress(ConnectionError):
            connection.sendall(first)
        yield connection


def rest(connection: socket.socket) -> bytes:
    """Return what comes until the other side ends the connection."""
    received = b""
    with contextlib.suppress(ConnectionError):
        while part := connection.recv(65536):
            received += part
    return received


def answers(port: int) -> bool:
    return httpx.get(f"http://127.0.0.1:{port}/", trust_env=False).text == "ok"


@pytest.mark.parametrize(
    "sent",
    [
        GET + b"".join(b"X-%d: %s\r\n" % (i, b"x" * 1000) for i in range(70)) + b"\r\n",
        GET + b"X: " + b"x" * 70_000 + b"\r\n\r\n",
        GET + b"X: " + b"x" * 2**22,
        b"GET /" + b"x" * 70_000 + b" HTTP/1.1\r\n\r\n",
    ],
    ids=["many headers", "one header", "a header without an end", "a path"],
)
def test_a_head_is_64_kib_at_most(port: int, sent: bytes) -> None:
    with connected(port, sent) as connection:
        answer = rest(connection)
    assert answer.startswith(b"HTTP/1.1 431 ") or not answer  # a reset overtakes it where more was on its way
    assert answers(port)


def test_a_large_head_is_answered(port: int) -> None:
    headers = {f"X-{i}": "x" * 1000 for i in range(60)}
    assert httpx.get(f"http://127.0.0.1:{port}/", headers=headers, trust_env=False).status_code == 200


def test_trailers_are_part_of_the_head(port: int) -> None:
    body = b"POST /whole HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n"
    with connected(port, body + b"X: " + b"x" * 2**21) as connection:
        assert b"200" not in rest(connection)
    assert answers(port)


def test_a_head_that_does_not_come_is_not_waited_for(port: int) -> None:
    with connected(port) as silent, connected(port, GET) as half, connected(port, GET + b"\r\n" + GET) as second:
        assert rest(half).startswith(b"HTTP/1.1 408 ")
        assert rest(silent).startswith(b"HTTP/1.1 408 ")
        assert rest(second).count(b"HTTP/1.1 ") == 2


def test_a_body_that_nobody_reads_is_not_waited_for(port: int) -> None:
    with connected(port, b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 50\r\n\r\nx") as connection:
        assert rest(connection).endswith(b"ok")


def test_a_connection_may_rest_between_requests(port: int) -> None:
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
        assert client.get("/").text == "ok"
        time.sleep(0.8)
        assert client.get("/").text == "ok"
        assert len(client._transport._pool.connections) == 1  # type: ignore[attr-defined]


def test_half_sent_heads_keep_nobody_out(port: int) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(3 * MOST):
            stack.enter_context(connected(port, GET))
        assert answers(port)


def test_requests_under_way_are_not_ended_for_others(port: int) -> None:
    head = b"POST /whole HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n"
    with contextlib.ExitStack() as stack:
        busy = [stack.enter_context(connected(port, head + b"x")) for _ in range(MOST - 1)]
        with connect(f"ws://127.0.0.1:{port}/", proxy=None) as socket_of_another:
            with connected(port, GET + b"\r\n") as refused:
                assert rest(refused) == b""
            socket_of_another.send("?")
            assert socket_of_another.recv() == "here"
        for connection in busy:
            connection.sendall(b"y")
            assert connection.recv(1000).startswith(b"HTTP/1.1 200 ")
    until(lambda: answers(port))


def test_what_has_ended_counts_no_more() -> None:
    within = Connections(2)

    class AbortedTransport:
        aborted = False

        def get_extra_info(self, name: str) -> Any:
            return ("127.0.0.1", 1) if name == "peername" else None

        def abort(self) -> None:
            self.aborted = True

    class BusyProtocol:
        idle = False

        def __init__(self) -> None:
            self.transport: Any = AbortedTransport()

    first, second, third, fourth = (BusyProtocol() for _ in range(4))
    within.enter(first)
    within.enter(second)
    within.enter(third)
    assert [held.transport.aborted for held in (first, second, third)] == [False, False, True]
    within.leave(third)
    within.leave(first)
    second.idle = True
    within.enter(fourth)
    assert not second.transport.aborted
    within.leave(second)
    within.leave(fourth)
    assert within._by_address == {}


def test_as_many_files_as_the_system_lets_it() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 1000), hard))
        connections.raise_files_limit()
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
