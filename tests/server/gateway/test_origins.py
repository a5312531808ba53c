"""Pages of elsewhere call nothing here, by whatever name; programs and the gateway's own page do."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from newsdesk.server.gateway.settings import GatewaySettings
from tests.server.gateway import gateways

LISTED = "https://desk.example"


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    settings: dict[str, Any] = {"cors_origin": (LISTED,), "request_timeout": 0.2}
    settings["allowed_host"] = "desk.example", "Desk.internal"
    with gateways.gateway(tmp_path_factory.mktemp("origins"), [1, 1, 1], **settings) as client:
        yield client


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost:{port}", 200),
        ("127.0.0.1", 200),
        ("LOCALHOST.", 200),
        ("[::1]:8080", 200),
        ("10.0.0.7:8080", 200),  # no name can be made to be an address
        ("desk.example", 200),
        ("desk.internal:8080", 200),
        ("evil.example", 421),
        ("localhost.evil.example:8080", 421),
        ("127.0.0.1.evil.example", 421),
        ("evil.example:{port}", 421),
        ("[::1", 421),
        ("@", 421),
    ],
)
def test_hosts(client: httpx.Client, host: str, status: int) -> None:
    """DNS rebinding: whatever is asked for, and by whatever method."""
    host = host.format(port=client.base_url.port)
    for method, path in ("GET", "/health/live"), ("GET", "/"), ("POST", "/v1/classify"):
        answer = client.request(method, path, headers={"Host": host})
        assert (answer.status_code == 421) == (status == 421), f"{path}: {answer.text}"
    if status == 421:
        assert answer.json()["type"] == "urn:newsdesk:problem:misdirected"
        assert "--allowed-host" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("headers", "refused"),
    [
        ({}, False),
        ({"Sec-Fetch-Site": "same-origin", "Origin": "http://{host}"}, False),
        ({"Sec-Fetch-Site": "same-origin", "Origin": "https://behind.a.proxy"}, False),
        ({"Origin": "http://{host}"}, False),
        ({"Origin": LISTED, "Sec-Fetch-Site": "cross-site"}, False),
        ({"Sec-Fetch-Site": "none"}, False),
        ({"Origin": "https://evil.example"}, True),
        ({"Origin": "null"}, True),
        ({"Origin": "http://localhost:1", "Sec-Fetch-Site": "same-site"}, True),
        ({"Sec-Fetch-Site": "cross-site"}, True),
        ({"Sec-Fetch-Site": "same-site"}, True),
        ({"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"}, True),
        ({"Origin": LISTED + ".evil.example"}, True),
    ],
)
def test_cross_site(client: httpx.Client, headers: dict[str, str], refused: bool) -> None:
    """Every POST, DELETE and WebSocket alike; a form of another page needs no preflight, and no key on loopback."""
    host = f"127.0.0.1:{client.base_url.port}"
    filled = {name: value.format(host=host) for name, value in headers.items()}
    for method, path in (
        ("POST", "/v1/classify"),
        ("POST", "/v1/classify/file"),
        ("POST", "/graphql"),
        ("POST", "/v2/models/ag_news/infer"),
        ("POST", "/v2/repository/models/ag_news/load"),
        ("DELETE", "/v1/keys/000000000000"),
    ):
        answer = client.request(method, path, headers=filled)
        assert ("may not call" in answer.text) == refused, f"{path}: {answer.text}"
        assert not refused or answer.status_code == 403
    assert client.get("/health/live", headers=filled).status_code == 200
    url = str(client.base_url.join("/v1/stream")).replace("http:", "ws:")
    if refused:
        with pytest.raises(InvalidStatus) as turned_away:
            connect(url, additional_headers=filled, proxy=None)
        assert turned_away.value.response.status_code == 403
    else:
        with connect(url, additional_headers=filled, proxy=None):
            pass


def test_which_gateways_look_at_the_host(tmp_path: Path) -> None:
    def checks(**options: object) -> bool:
        return GatewaySettings(keys=tmp_path / "keys.json", **options).checks_hosts  # type: ignore[arg-type]

    assert checks()
    assert checks(auth=True)
    assert not checks(host="0.0.0.0")  # which asks for keys: a page has none
    assert checks(host="0.0.0.0", insecure=True)
    assert checks(host="0.0.0.0", allowed_host=("desk.example",))
