"""A full queue of Triton's, before the whole gateway: callers are told to come later, not that it is gone."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.server.gateway import gateways

REFUSAL = b'{"error":"[request id: <id_unknown>] Exceeds maximum queue size"}'


class RefusingHandler(BaseHTTPRequestHandler):
    """Refuses every inference as Triton does whose queue is full."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(503)
        self.send_header("Content-Length", str(len(REFUSAL)))
        self.end_headers()
        self.wfile.write(REFUSAL)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def full() -> Iterator[int]:
    with ThreadingHTTPServer(("127.0.0.1", 0), RefusingHandler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


def test_what_is_passed_through_ends_as_429_at_its_time_limit(full: int, tmp_path: Path) -> None:
    """Until then it is sent again, for room may come free. A number for a text goes to Triton's HTTP port."""
    number = {"name": "TEXT", "shape": [1, 1], "datatype": "BYTES", "data": [5]}
    with gateways.gateway(tmp_path, [full, 1, 1], request_timeout=0.5) as client:
        answer = client.post("/v2/models/ag_news/infer", json={"inputs": [number]})
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "1")
    assert answer.json()["type"] == "urn:newsdesk:problem:too-many-requests"
