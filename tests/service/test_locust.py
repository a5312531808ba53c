"""Both locustfiles, headless, against the shipped model; and what the objective and a wrong answer end in."""

import json
import threading
from argparse import Namespace
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import requires, version
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

from benchmarks.locust import __main__ as runner
from benchmarks.servers import Server
from tests.server.gateway import gateways

LABELS = ["World", "Sports", "Business", "Sci/Tech"]


def runner_options(folder: Path, **options: Any) -> Namespace:
    few = {"profile": "steady", "users": 3, "seconds": 3, "rate": 15.0, "p99_ms": 20_000.0, "most_failures": 0.0}
    return Namespace(**{**few, "texts": None, "reports": folder, **options})


@pytest.fixture(scope="module")
def gateway(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    ports = [server.http_port, server.grpc_port]
    with gateways.gateway(tmp_path_factory.mktemp("locust"), ports) as client:
        yield str(client.base_url).rstrip("/")


@pytest.fixture
def liar() -> Iterator[str]:
    """Yield the address of a gateway whose probabilities sum to 0.9."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._say({"labels": LABELS})

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            shares = dict.fromkeys(LABELS, 0.1) | {"World": 0.6}
            self._say({"items": [{"index": 0, "label": "World", "probabilities": shares}]})

        def _say(self, what: Any) -> None:
            body = json.dumps(what).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        threading.Thread(target=listening.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{listening.server_port}"
        listening.shutdown()


def test_rest_users_are_answered_and_the_report_is_written(gateway: str, tmp_path: Path) -> None:
    code, figures = runner.run("rest", gateway, runner_options(tmp_path))
    assert code == 0
    assert figures.failures == 0
    assert figures.requests > 5
    assert 0 < figures.p50_ms <= figures.p99_ms
    assert "<html" in (tmp_path / "rest-steady.html").read_text()


def test_grpc_users_are_answered_under_gevent(server: Server, tmp_path: Path) -> None:
    code, figures = runner.run("triton", f"127.0.0.1:{server.grpc_port}", runner_options(tmp_path))
    assert (code, figures.failures) == (0, 0)
    assert figures.requests > 5


def test_open_arrivals_keep_to_their_rate(server: Server, tmp_path: Path) -> None:
    asked = runner_options(tmp_path, profile="open", seconds=4)
    code, figures = runner.run("triton", f"127.0.0.1:{server.grpc_port}", asked)
    assert (code, figures.failures) == (0, 0)
    assert 30 < figures.requests < 90  # of 60 expected, with a standard deviation of 8


def test_an_objective_that_is_not_kept_is_the_exit_code(gateway: str, tmp_path: Path) -> None:
    code, figures = runner.run("rest", gateway, runner_options(tmp_path, p99_ms=0.5, seconds=2))
    assert code == 1
    assert figures.failures == 0


def test_wrong_answers_are_failures(liar: str, tmp_path: Path) -> None:
    code, figures = runner.run("rest", liar, runner_options(tmp_path, seconds=1))
    assert code == 1
    assert figures.failures == figures.requests > 0


@pytest.mark.parametrize("package", ["locust", "tritonclient"])
def test_what_is_installed_is_what_locust_and_triton_s_http_client_both_ask_for(package: str) -> None:
    asked = [Requirement(requirement) for requirement in requires(package) or ()]
    shared = [
        requirement
        for requirement in asked
        if requirement.name in ("geventhttpclient", "gevent", "numpy", "protobuf", "grpcio")
    ]
    assert any(requirement.name == "geventhttpclient" for requirement in shared)
    for requirement in shared:
        assert requirement.specifier.contains(version(requirement.name)), requirement
