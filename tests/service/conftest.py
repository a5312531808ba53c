"""The shipped model on the real server, started once by `newsdesk serve`."""

from collections.abc import Iterator

import pytest
import tritonclient.grpc
import tritonclient.http

from benchmarks import servers


@pytest.fixture(scope="session")
def server() -> Iterator[servers.Server]:
    with servers.newsdesk() as running:
        yield running


@pytest.fixture
def grpc(server: servers.Server) -> Iterator[tritonclient.grpc.InferenceServerClient]:
    with tritonclient.grpc.InferenceServerClient(f"127.0.0.1:{server.grpc_port}") as client:
        yield client


@pytest.fixture
def http(server: servers.Server) -> Iterator[tritonclient.http.InferenceServerClient]:
    with tritonclient.http.InferenceServerClient(f"127.0.0.1:{server.http_port}", concurrency=8) as client:
        yield client
