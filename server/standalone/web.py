"""The HTTP side of the standalone runner: a subset of the Open Inference Protocol, by Python's own server.

It listens on loopback unless told otherwise, asks nobody who they are, and is no gateway.
"""

import re
import socket
from collections.abc import Callable
from concurrent.futures import TimeoutError as Late
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import msgspec

from newsdesk.server.runtime.classifier import Classifier
from newsdesk.server.standalone import protocol
from newsdesk.server.standalone.protocol import RequestError
from newsdesk.server.standalone.worker import QueueFull, Worker

MAX_BODY = 32 * 2**20
REQUEST_SECONDS = 60.0
_IDLE_SECONDS = 75


class Server(ThreadingHTTPServer):
    """One model on one port. `serve_forever` answers until `shutdown`."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], classifier: Classifier, model: str, version: str) -> None:
        self.classifier, self.model, self.version = classifier, model, version
        self.worker = Worker(classifier)
        super().__init__(address, _Handler)

    def server_bind(self) -> None:
        """Bind the socket, and look no name up."""
        # http.server asks the name service for the host's name here, which can take seconds; nobody reads it.
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()

    def infer(self, body: bytes) -> bytes:
        """Return the answer to a request's body.

        Raises:
            RequestError: it is refused, with the HTTP status.
        """
        asked = protocol.read(body)
        try:
            share = self.worker.answer(asked, REQUEST_SECONDS)
        except QueueFull:
            raise RequestError("too many requests wait: send it again in a moment", 503) from None
        except (TimeoutError, Late):
            raise RequestError(f"no answer within {REQUEST_SECONDS:.0f} s", 504) from None
        except Exception as error:
            raise RequestError(f"newsdesk could not compute: {error}", 500) from error
        return protocol.write(self.model, asked, self.classifier, *share)

    def statistics(self) -> bytes:
        """Return the names of all models, as the statistics extension does, without any figures."""
        return msgspec.json.encode({"model_stats": [{"name": self.model, "version": self.version}]})

    def about(self) -> bytes:
        """Return the model's metadata."""
        return protocol.metadata(self.model, self.version, self.classifier)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server
    timeout = _IDLE_SECONDS

    def do_GET(self) -> None:
        model = f"/v2/models/{re.escape(self.server.model)}(/versions/{re.escape(self.server.version)})?"
        about = {"name": "newsdesk", "version": "", "extensions": []}
        self._route(
            {
                r"/v2/health/(live|ready)": lambda: b"",
                f"{model}/ready": lambda: b"",
                r"/v2/models/stats": self.server.statistics,
                r"/v2/?": lambda: msgspec.json.encode(about),
                model: self.server.about,
            }
        )

    def do_POST(self) -> None:
        self.close_connection = True  # until the body is read whole: what is left of one is no request
        model = f"/v2/models/{re.escape(self.server.model)}(/versions/{re.escape(self.server.version)})?"
        self._route({f"{model}/infer": lambda: self.server.infer(self._body())})

    def _route(self, answers: dict[str, Callable[[], bytes]]) -> None:
        path = self.path.partition("?")[0]
        try:
            for pattern, answer in answers.items():
                if re.fullmatch(pattern, path):
                    self._send(200, answer())
                    return
            raise RequestError(f"nothing at {path}; this server has the model {self.server.model!r}", 404)
        except RequestError as error:
            self._send(error.status, msgspec.json.encode({"error": str(error)}))

    def _body(self) -> bytes:
        if "Inference-Header-Content-Length" in self.headers:
            raise RequestError("binary tensors are not spoken here, send plain JSON")
        length = self.headers.get("Content-Length", "")
        if not re.fullmatch(r"[0-9]{1,12}", length):
            raise RequestError(f"Content-Length is {length!r}, expected the body's length in bytes", 411)
        if int(length) > MAX_BODY:
            raise RequestError(f"{length} bytes, expected at most {MAX_BODY}", 413)
        body = self.rfile.read(int(length))
        self.close_connection = self.headers.get("Connection", "").lower() == "close"
        return body

    def _send(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: Any) -> None:
        """Write nothing: a line a request would fill a device's disk."""
