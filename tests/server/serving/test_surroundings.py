"""The surroundings of `newsdesk serve`: another folder's files, nohup, IPv6."""

import asyncio
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from newsdesk.clients import AsyncClient, Client
from newsdesk.server.machine import addresses
from tests.launching import Server, free_ports, write_repository
from tests.server.gateway import gateways
from tests.server.gateway.conftest import STAND_IN

Launch = Callable[..., Server]
READY = "Ctrl-C stops it"
FEW_FILES = ["sh", "-c", 'ulimit -Sn 300 && ulimit -Hn 5000 && exec "$@"', "sh"]
NEWSDESK = str(Path(sys.executable).with_name("newsdesk"))


def test_files_where_it_is_started_are_not_imported_and_nohup_holds(launch: Launch, tmp_path: Path) -> None:
    """The gateway, tritonserver's backend processes and what `prepare` starts import nothing from the folder."""
    folder = tmp_path / "of a user"
    (folder / "newsdesk").mkdir(parents=True)
    for name in "secrets.py", "queue.py", "numpy.py", "newsdesk/__init__.py":
        (folder / name).write_text(f'raise RuntimeError("{name} of the working directory was imported")')
    (folder / "secret").write_text(gateways.SECRET)
    port = str(free_ports()[0])
    options = ["--target", "openvino:int8", "--instances", "2", "--gateway-port", port, "--auth"]
    options += ["--jwt-secret-file", "secret", "--keys", "keys.json"]
    key = gateways.key(folder, gateways.Role.reader)
    server = launch(
        write_repository(tmp_path / "models"),
        options=options,
        folder=folder,
        program=[*FEW_FILES, "nohup", NEWSDESK, "serve"],
    )
    server.until(READY)
    for child in server.family():
        lines = Path(f"/proc/{child.pid}/limits").read_text().splitlines()
        soft, hard = next(line.split()[3:5] for line in lines if line.startswith("Max open files"))
        assert (soft, int(soft) > 300) == (hard, True)
    server.process.send_signal(signal.SIGHUP)
    server.stubs()[0].kill()
    server.until("healed")
    for credential in key, gateways.token():
        with gateways.client(f"http://127.0.0.1:{port}", credential) as caller:
            answer = caller.post("/v1/classify", json={"text": "shares"})
        assert (answer.status_code, answer.json()["items"][0]["label"]) == (200, "Business")
    server.process.send_signal(signal.SIGTERM)
    assert server.wait() == 0


@pytest.mark.skipif(not addresses.has_ipv6(), reason="this machine has no IPv6 loopback")
@pytest.mark.parametrize("host", ["::1", "::"])
def test_ipv6_listens_when_asked(launch: Launch, tmp_path: Path, host: str) -> None:
    port = free_ports()[0]
    options = ["--target", "openvino:int8", "--instances", "2", "--gateway-port", str(port), "--insecure"]
    options += ["--host", host, "--gateway-host", host, "--expose", "triton"]
    server = launch(
        write_repository(tmp_path / "models", STAND_IN.read_text(), ("stand-in", "careful")), options=options
    )
    output = server.until(READY)
    http, grpc, metrics = server.ports
    assert f"gRPC [{host}]:{grpc}, metrics [{host}]:{metrics}, gateway [{host}]:{port}" in output
    urls = f"grpc://[::1]:{grpc}", f"http://[::1]:{http}", f"gateway+http://[::1]:{port}"

    async def ask(url: str) -> str:
        async with AsyncClient(url) as client:
            return (await client.classify("match")).label

    for url in urls:
        with Client(url, timeout=20) as client:
            assert client.classify("match").label == "Sports"
        assert asyncio.run(ask(url)) == "Sports"
    assert httpx.get(f"http://[::1]:{metrics}/metrics").status_code == 200
    server.stubs()[0].kill()  # the supervisor asks over IPv6, too
    server.until("healed")
