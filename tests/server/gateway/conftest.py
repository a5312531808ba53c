"""One served stand-in with a gateway that asks for keys, and one more gateway before it that is open."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from playwright.sync_api import Browser, Page
from tritonclient.grpc import service_pb2_grpc

from newsdesk.server.gateway.keys import Role
from tests.holding import until
from tests.launching import Server, free_ports, write_repository
from tests.server.gateway import browsers, gateways, rpcs
from tests.server.gateway.browsers import Watched

STAND_IN = Path(__file__).parents[2] / "clients" / "standin_model.py"


@dataclass
class Served:
    """A `newsdesk serve` with its gateway, which asks for keys, and a key of each role."""

    server: Server
    url: str
    keys: dict[str, str]

    def client(self, role: str) -> httpx.Client:
        return gateways.client(self.url, self.keys[role])


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    state = tmp_path_factory.mktemp("gateway") / "state"
    state.mkdir()
    (state / "secret").write_text(gateways.SECRET)
    keys = {role.name: gateways.key(state, role) for role in Role}
    port = str(free_ports()[0])
    options = ["--target", "openvino:int8", "--instances", "2", "--gateway-port", port, "--auth"]
    options += ["--jwt-secret-file", str(state / "secret"), "--max-texts", "300", "--jwt-admin"]
    repository = write_repository(tmp_path_factory.mktemp("models"), STAND_IN.read_text())
    server = Server(repository, state, options=options).start()
    try:
        server.until("Ctrl-C stops it")
        yield Served(server, f"http://127.0.0.1:{port}", keys)
    finally:
        server.dismiss()


@pytest.fixture(scope="session")
def reader(served: Served) -> Iterator[httpx.Client]:
    with served.client("reader") as client:
        yield client


@pytest.fixture(scope="session")
def open_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The repository of `open_gateway`, with the folder `feedback` in it."""
    return write_repository(tmp_path_factory.mktemp("open"))


@pytest.fixture(scope="session")
def open_gateway(served: Served, open_folder: Path) -> Iterator[httpx.Client]:
    """Without authentication, limited to 1 MiB a body; it takes feedback."""
    settings = {"max_body_mib": 1, "feedback": open_folder / "feedback"}
    with gateways.gateway(open_folder, served.server.ports, **settings) as client:
        until(lambda: client.get("/health/ready").status_code == 200)
        yield client


@pytest.fixture(scope="module")
def front(served: Served, tmp_path_factory: pytest.TempPathFactory) -> Iterator[rpcs.Front]:
    folder, port = tmp_path_factory.mktemp("rpc"), free_ports()[0]
    keys = [gateways.key(folder, role) for role in (Role.reader, Role.operator)]
    with gateways.gateway(
        folder, served.server.ports, auth=True, max_body_mib=1, grpc_port=port, request_timeout=10.0
    ) as client:
        client.headers.update(rpcs.headers(keys[0]))
        yield rpcs.Front(f"127.0.0.1:{port}", client, folder, *keys)


@pytest.fixture
def stub(front: rpcs.Front) -> Iterator[Callable[..., Any]]:
    """Return method, message → answer, as a reader."""
    with grpc.insecure_channel(front.address) as channel:
        made = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        yield lambda method, message, key=front.key, **more: getattr(made, method)(
            message, metadata=rpcs.bearer(key), timeout=20, **more
        )


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with browsers.chromium() as driver:
        if driver is None:
            pytest.skip("the playwright package brings no browser: apt-get install chromium")
        yield driver


@pytest.fixture
def watched(browser: Browser, served: Served, open_gateway: httpx.Client) -> Iterator[Watched]:
    watching = Watched(browser)
    yield watching
    for context in browser.contexts:
        context.close()
    assert watching.errors == []
    ours = (f"{served.url}/", str(open_gateway.base_url.join("/")), "blob:")
    assert [url for url in watching.requests if not url.startswith(ours)] == []


@pytest.fixture
def page(watched: Watched, open_gateway: httpx.Client) -> Page:
    return watched.open(str(open_gateway.base_url))
