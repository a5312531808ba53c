from collections.abc import Iterator
from pathlib import Path

import pytest

from newsdesk.clients import Client
from tests.clients.triton_process import Ports, Triton


@pytest.fixture(scope="session")
def triton(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ports]:
    """A tritonserver with the stand-in model, for the whole session."""
    server = Triton(tmp_path_factory.mktemp("triton"))
    try:
        server.start()
        server.wait()
        yield server.ports
    finally:
        server.stop()


@pytest.fixture
def own_triton(tmp_path: Path) -> Iterator[Triton]:
    """A server for one test to start, hurt and stop."""
    server = Triton(tmp_path)
    yield server
    server.stop()


@pytest.fixture(params=["grpc", "http"])
def url(request: pytest.FixtureRequest, triton: Ports) -> str:
    return triton.grpc_url if request.param == "grpc" else triton.http_url


@pytest.fixture
def client(url: str) -> Iterator[Client]:
    with Client(url, timeout=20) as client:
        yield client
