"""Sides that are measured in turn are compared round by round, and text by text."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from benchmarks.paired import Runs, Side, in_turn
from newsdesk.server.serving import load
from newsdesk.server.serving.load import LoadReading


def readings(clients: int, *per_second: float) -> list[LoadReading]:
    return [LoadReading(clients, 10, 0, rate, 1000 / rate, 2000 / rate) for rate in per_second]


def test_a_side_is_over_the_one_without_it_of_the_same_round() -> None:
    """The machine was twice as slow in the last round: medians over medians would say 0.50."""
    runs = Runs(
        {
            ("gateway, REST", 4): readings(4, 100, 100, 50),
            ("gateway, REST, shadow", 4): readings(4, 80, 50, 40),
            ("Triton, gRPC", 4): readings(4, 200, 200, 100),
        }
    )
    _, _, row, *_ = runs.compared(["shadow"])
    assert row == "| gateway, REST, shadow | 4 | × 0.80 | × 1.25 | × 1.25 | 0.50 to 0.80 |"
    assert sum("shadow" in line for line in runs.compared(["shadow"])) == 1
    assert "| gateway, REST | 4 | 100 | 10.00 | 20.0 | 0 |" in runs.table()
    assert runs.failures == 0


@contextmanager
def server(answer: Callable[[bytes], int]) -> Iterator[int]:
    """Serve a status for each body on a free port, which is yielded."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            status = answer(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        threading.Thread(target=http.serve_forever, daemon=True).start()
        yield http.server_port
        http.shutdown()


def side(port: int, bodies: list[bytes]) -> Side:
    return Side(port, load.encode("127.0.0.1", port, "/", bodies))


def test_each_text_is_asked_of_every_side_before_the_next() -> None:
    asked: list[tuple[str, bytes]] = []

    def answer(name: str, body: bytes) -> int:
        asked.append((name, body))
        time.sleep(0.2 if body == b"long" else 0.0)
        return 200

    bodies = [b"long", b"short", b"never"]
    with server(lambda body: answer("a", body)) as a, server(lambda body: answer("b", body)) as b:
        latencies = in_turn({"a": side(a, bodies), "b": side(b, bodies)}, 2)
    assert asked == [("a", b"long"), ("b", b"long"), ("b", b"short"), ("a", b"short")]
    assert all(of.shape == (2,) and of[0] >= 200 > of[1] for of in latencies.values())
    assert np.abs(latencies["a"] - latencies["b"]).max() < latencies["a"][0]


def test_a_request_that_fails_ends_it() -> None:
    bodies = [b"first", b"second"]
    with (
        server(lambda body: 500 if body == b"second" else 200) as port,
        pytest.raises(RuntimeError, match="a: request 2 of 2 failed"),
    ):
        in_turn({"a": side(port, bodies)}, 2)
