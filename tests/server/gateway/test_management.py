"""A gateway before a server with two versions and a response cache."""

import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from newsdesk.server.gateway.keys import Role
from tests.launching import MODEL, Server, free_ports, write_repository
from tests.server.gateway import gateways
from tests.server.gateway.conftest import STAND_IN

ROLLBACK = "/v2/repository/models/ag_news/rollback"


@pytest.fixture
def operator(launch: Callable[..., Server], tmp_path: Path) -> Iterator[httpx.Client]:
    repository = write_repository(tmp_path / "models", STAND_IN.read_text())
    second = repository / "ag_news" / "2"
    shutil.copytree(repository / "ag_news" / "1", second)
    (second / "model.py").write_text(MODEL.replace('"stand-in"', '"second"'))
    (tmp_path / "state0").mkdir()
    key = gateways.key(tmp_path / "state0", Role.operator)
    port = str(free_ports()[0])
    options = ["--target", "openvino:int8", "--instances", "1", "--cache", "4MB", "--auth", "--gateway-port", port]
    launch(repository, options=options).until("Ctrl-C stops it")
    with gateways.client(f"http://127.0.0.1:{port}", key) as client:
        yield client


def test_cache_hits_live_and_a_rollback(operator: httpx.Client, tmp_path: Path) -> None:
    """Both on one server, which takes its time to start."""

    def answered_by() -> str:
        return operator.post("/v1/classify", json={"text": "Shares slide"}).json()["items"][0]["answered_by"]

    with operator.stream("GET", "/v1/metrics/live") as live:
        events = (json.loads(line.removeprefix("data: ")) for line in live.iter_lines() if line)
        next(events)
        assert {answered_by() for _ in range(20)} == {"second"}
        lookups: Counter[str] = Counter()
        while lookups.total() < 20:  # those of some seconds, where the machine is slow
            event = next(events)
            lookups.update({kind: event[f"cache_{kind}_per_second"] for kind in ("hits", "misses")})
    assert lookups["hits"] > lookups["misses"] > 0

    assert operator.get("/v1/models").json()["models"][0]["versions"] == ["2"]
    assert operator.post(ROLLBACK).json() == {"withdrawn": "2", "serves": "1"}
    assert operator.get("/v1/models").json()["models"][0]["versions"] == ["1"]
    assert answered_by() == "stand-in"
    for body in {"text": ["a match", ""]}, {"text": ["a match"]}, {"text": ["a match"], "members": True}:
        first, again = (operator.post("/v1/classify", json=body) for _ in range(2))
        assert first.status_code == 200, first.text
        assert again.json() == first.json()  # the cache gives back refusals without words, and what was asked for first
    again = operator.post(ROLLBACK)
    assert (again.status_code, again.json()["type"]) == (409, "urn:newsdesk:problem:conflict")
    assert "version 1 is the only one" in again.json()["detail"]
    assert operator.post(ROLLBACK.replace("ag_news", "other")).status_code == 404
    entries = gateways.logged(tmp_path / "state0" / "log" / "audit.jsonl")
    assert [(entry["action"], entry["outcome"][:22]) for entry in entries] == [
        ("rollback", "version 2 is withdrawn"),
        ("rollback", f"{tmp_path}"[:22]),
        ("rollback", "there is no such model"),
    ]
