"""Triton's statistics tell whether the model itself has answered anybody."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

from newsdesk.server.serving.endpoint import Endpoint
from newsdesk.server.serving.settings import Settings
from newsdesk.server.serving.triton import Triton
from newsdesk.server.serving.workspace import Workspace


@contextmanager
def triton(answer: Any, folder: Path) -> Iterator[Endpoint]:
    """Yield the client of a server that answers everything alike."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps(answer).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            settings = Settings(model_repository=folder, state=folder, http_port=server.server_address[1])
            yield Endpoint(Triton(settings, Workspace(folder), folder / "log"), "ag_news")
        finally:
            server.shutdown()
            thread.join()


def counted(success: int, cache_hits: int) -> dict[str, Any]:
    """Return the statistics of a version. Triton counts an answer of its cache as a success, too."""
    counts = {"success": success, "fail": 3, "cache_hit": cache_hits, "cache_miss": success - cache_hits}
    return {"inference_stats": {name: {"count": count, "ns": 10**9} for name, count in counts.items()}}


def test_answers_of_the_cache_are_no_sign_of_life(tmp_path: Path) -> None:
    """The cache gave 100 of 120 answers: the model gave 20, and where only the cache answers it has given none."""
    with triton({"model_stats": [counted(120, 100)]}, tmp_path) as asked:
        assert asked.answered(5) == 20
    with triton({"model_stats": [counted(7, 7)]}, tmp_path) as asked:
        assert asked.answered(5) == 0


def test_every_version_counts(tmp_path: Path) -> None:
    with triton({"model_stats": [counted(5, 1), counted(30, 10)]}, tmp_path) as asked:
        assert asked.answered(5) == 24
