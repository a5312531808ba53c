"""A request may take four times its size of the gateway's memory, and 64 MiB, whatever it holds."""

import json
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from newsdesk.server.serving.gateway import Gateway
from tests.server.gateway import gateways
from tests.server.gateway.conftest import Served
from tests.server.gateway.gateways import JSON
from tests.service.requests import oip

INFER = "/v2/models/ag_news/infer"
MIB = 2**20


@pytest.fixture(scope="module")
def alone(served: Served, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[httpx.Client, int]]:
    """A client of a gateway of its own, and its process."""
    folder = tmp_path_factory.mktemp("alone")
    launch = gateways.launch(folder, served.server.ports)
    process = Gateway(launch, folder / "gateway.log")
    process.start()
    try:
        gateways.until_listening(process)
        assert process._process is not None
        with gateways.client(launch.settings.local_url) as client:
            client.post("/v1/classify", json={"text": ["shares"] * 64})
            yield client, process._process.pid
    finally:
        process.ask_to_stop()
        process.wait()


def peak(process: int, forget: bool = False) -> int:
    """Return the most bytes that were resident since the last call with `forget`."""
    if forget:
        Path(f"/proc/{process}/clear_refs").write_text("5")
    (line,) = (line for line in Path(f"/proc/{process}/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def texts(*values: object) -> bytes:
    return json.dumps({"text": list(values)}, ensure_ascii=False).encode()


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/v1/classify", b'{"text": [' + b"1," * (19 * MIB // 10) + b"1]}", 413),
        ("/v1/classify", b'{"text": [' + b"1," * 10_000 + b"1]}", 422),
        ("/v1/classify", b'{"text": [' + b'"",' * (4 * MIB) + b'""]}', 413),
        ("/v1/classify", texts(*[{"title": "a", "description": "b", "more": 1}] * 3000), 422),
        ("/v1/classify", json.dumps({f"a{i}": i for i in range(20_000)}).encode(), 422),
        ("/v1/classify", texts("a" * (30 * MIB) + "😀"), 413),
        ("/v1/classify", texts(*["a" * (3 * MIB // 2) + "😀"] * 20), 200),
        ("/v1/classify", b"[" * (31 * MIB), 400),
        ("/graphql", b'{"query": "{ labels }", "variables": {"a": [' + b"[]," * (10 * MIB) + b"[]]}}", 413),
        ("/graphql", b'{"query": "' + b"a " * (15 * MIB) + b'"}', 413),
        (INFER, oip(["a" * (30 * MIB)]), 413),
        (INFER, b'{"inputs": [' + b"{}," * (10 * MIB) + b"{}]}", 413),
    ],
    ids=range(12),
)  # fmt: skip
def test_a_request_takes_four_times_its_size_at_most(
    alone: tuple[httpx.Client, int], path: str, body: bytes, status: int
) -> None:
    client, process = alone
    before = psutil.Process(process).memory_info().rss
    peak(process, forget=True)
    began = time.monotonic()
    answer = client.post(path, content=body, headers=JSON)
    assert answer.status_code == status, answer.text
    print(
        f"{len(body) / MIB:.1f} MiB in {time.monotonic() - began:.1f} s, {(peak(process) - before) / MIB:.0f} MiB more"
    )
    assert peak(process) - before <= 4 * len(body) + 64 * MIB
