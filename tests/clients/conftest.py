import socket
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from newsdesk.clients import Client
from tests.clients.triton_process import Ports, Triton, write_repository
from tests.server.gateway import gateways


def gateway_url(served: httpx.Client) -> str:
    return f"gateway+{served.base_url}"


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
def nowhere() -> Iterator[int]:
    """A loopback port that refuses connections: bound, so that nobody else takes it, but not listening."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


@pytest.fixture
def own_triton(tmp_path: Path) -> Iterator[Triton]:
    """A server for one test to start, hurt and stop."""
    server = Triton(tmp_path)
    yield server
    server.stop()


@pytest.fixture(scope="session")
def gateway(triton: Ports, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of an open gateway before the session's server."""
    folder = write_repository(tmp_path_factory.mktemp("gateway"))
    with gateways.gateway(folder, triton.both) as served:
        yield gateway_url(served)


@pytest.fixture(scope="session")
def closed(triton: Ports, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """The URL of a gateway that asks for keys and takes 1 MiB or 3 texts at once, and the folder of its keys and of
    `feedback`."""
    folder = write_repository(tmp_path_factory.mktemp("closed"))
    secret = folder / "secret"
    secret.write_text(gateways.SECRET)
    settings = {"auth": True, "jwt_secret_file": secret, "max_body_mib": 1, "max_texts": 3}
    settings["feedback"] = folder / "feedback"
    with gateways.gateway(folder, triton.both, **settings) as served:
        yield gateway_url(served), folder


@pytest.fixture(params=["grpc", "http", "gateway"])
def any_url(request: pytest.FixtureRequest, triton: Ports) -> str:
    if request.param == "gateway":
        return request.getfixturevalue("gateway")
    return triton.grpc_url if request.param == "grpc" else triton.http_url


@pytest.fixture(params=["grpc", "http"])
def url(request: pytest.FixtureRequest, triton: Ports) -> str:
    return triton.grpc_url if request.param == "grpc" else triton.http_url


@pytest.fixture
def client(url: str) -> Iterator[Client]:
    with Client(url, timeout=20) as client:
        yield client
