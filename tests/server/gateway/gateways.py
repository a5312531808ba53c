"""Gateways for the tests, as `newsdesk serve` starts them, and their callers."""

import contextlib
import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import jwt
import typer
from click.testing import Result
from typer.testing import CliRunner

from newsdesk.server.gateway.keys import KeyFile, Role
from newsdesk.server.gateway.settings import GatewaySettings, Launch
from newsdesk.server.serving.gateway import Gateway
from newsdesk.server.serving.keys import keys
from tests.launching import free_ports
from tests.server.gateway.forked import Forked

SECRET = "a secret of the tests, long enough for HS256"
JSON = {"Content-Type": "application/json"}
LINES = {"Content-Type": "application/x-ndjson"}


def until_listening(gateway: Gateway | Forked) -> None:
    while not gateway.live():
        time.sleep(0.05)


def launch(folder: Path, ports: Sequence[int] = (1, 1, 1), **settings: Any) -> Launch:
    """Return what starts a gateway of its own settings before a Triton at `ports`."""
    options = {"keys": folder / "keys.json", "port": free_ports()[0], "grpc_port": 0} | settings
    return Launch(
        settings=GatewaySettings(**options),
        grpc_url=f"grpc://127.0.0.1:{ports[1]}",
        http_url=f"http://127.0.0.1:{ports[0]}",
        repository=folder,
        source=folder,
        state=folder,
        run=folder,
        audit_log=folder / "audit.jsonl",
        models={"ag_news": 2},
        default="ag_news",
    )


@contextlib.contextmanager
def gateway(folder: Path, ports: list[int], **settings: Any) -> Iterator[httpx.Client]:
    """Start such a gateway, and yield a client of it."""
    started = launch(folder, ports, **settings)
    process = Forked(started, folder / "gateway.log")
    process.start()
    try:
        until_listening(process)
        with client(started.settings.local_url) as caller:
            yield caller
    finally:
        process.stop()


def client(url: str, key: str = "", **headers: str) -> httpx.Client:
    authorization = {"Authorization": f"Bearer {key}"} if key else {}
    return httpx.Client(base_url=url, headers=authorization | headers, timeout=60, trust_env=False)


def queued(client: httpx.Client, texts: int) -> bool:
    """Return whether so many texts are on their way to the model."""
    return f'newsdesk_gateway_queued_texts{{model="ag_news"}} {texts}.0' in client.get("/metrics").text


def key(folder: Path, role: Role, days: float | None = None) -> str:
    return KeyFile(folder / "keys.json").create(f"{role.name} of the tests", role, days)[1]


def token(secret: Any = SECRET, algorithm: str = "HS256", headers: Any = None, **claims: Any) -> str:
    payload = {"sub": "somebody", "exp": time.time() + 600} | claims
    return jwt.encode({k: v for k, v in payload.items() if v is not None}, secret, algorithm, headers)


def newsdesk_keys(*arguments: str) -> Result:
    """Run `newsdesk keys` within this process."""
    app = typer.Typer()
    app.command()(keys)
    return CliRunner(env={"COLUMNS": "80", "TERM": "dumb"}).invoke(app, list(arguments))


def logged(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]
