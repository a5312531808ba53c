"""Wild requests, each followed by a good one: none ends a process, through the gateway or at Triton's own ports.

Triton's own ports are asked for nothing that is known to end it: nothing stands before them that could refuse it.
"""

import json
from collections import Counter
from collections.abc import Iterator

import grpc
import httpx
import pytest

from benchmarks.servers import Server
from newsdesk.server.machine import processes
from newsdesk.server.serving.triton import STUB
from tests.server.gateway import gateways
from tests.service import requests
from tests.service.test_fuzz import METHOD, outcome, valid_grpc
from tests.service.wild import GOOD, Wild

INFER = "/v2/models/ag_news/infer"
SEED, FEW, MANY = 24, 150, 5000
_EXPECTED = 200, 400, 404, 413, 422, 504


@pytest.fixture(scope="module")
def front(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    with gateways.gateway(tmp_path_factory.mktemp("front"), [server.http_port, server.grpc_port]) as client:
        yield client


def family(server: Server) -> set[processes.Process]:
    """Return tritonserver and its backend processes."""
    (triton,) = processes.children(server.pid, "tritonserver")
    return {triton, *processes.children(triton.pid, STUB)}


def through_the_gateway(front: httpx.Client, seed: int, count: int) -> Counter[int]:
    wild, statuses = Wild(seed, fatal=True), Counter[int]()
    for number in range(count):
        body, headers = wild.over_http()
        answer = front.post(INFER, content=body, headers=headers)
        statuses[answer.status_code] += 1
        assert answer.status_code in (200, 400, 404, 413, 422, 504), (
            number,
            answer.status_code,
            answer.text,
            body,
            headers,
        )
        assert front.post(INFER, content=requests.oip([GOOD])).json()["outputs"][0]["data"], (number, body, headers)
    return statuses


def at_tritons_ports(server: Server, seed: int, count: int) -> Counter[str]:
    wild, outcomes = Wild(seed, fatal=False), Counter[str]()
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        infer = channel.unary_unary(METHOD)
        for number in range(count // 2):
            message = wild.over_grpc()
            code, details = outcome(infer, message)
            outcomes[code.name] += 1
            assert code not in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED), (
                number,
                details,
                message,
            )
            assert infer(valid_grpc(), timeout=20), (number, message)
            body, headers = wild.over_http()
            status, _ = requests.post(server.http_port, body, headers)
            outcomes[str(status)] += 1
            assert requests.post(server.http_port, requests.oip([GOOD]))[0] == 200, (number, body, headers)
    return outcomes


def test_a_request_whose_own_time_passes_is_told_so_at_once(front: httpx.Client) -> None:
    """It is not sent again until the gateway's time limit."""
    body = json.loads(requests.oip([GOOD])) | {"parameters": {"timeout": 1}}
    answer = front.post(INFER, json=body, timeout=15)
    assert (answer.status_code, answer.json()["type"]) == (504, "urn:newsdesk:problem:deadline-exceeded")


@pytest.mark.parametrize(
    ("seed", "count"), [(SEED, FEW), pytest.param(SEED + 1, MANY, marks=pytest.mark.long)], ids=["few", "many"]
)
def test_nothing_ends_a_process(server: Server, front: httpx.Client, seed: int, count: int) -> None:
    before = family(server)
    statuses, outcomes = through_the_gateway(front, seed, count), at_tritons_ports(server, seed, count)
    print(f"{count} requests through the gateway, {dict(statuses)}; {count} at Triton's ports, {dict(outcomes)}")
    assert statuses[200] > count / 50
    assert outcomes["OK"] > count / 50
    assert family(server) == before
