"""A text that ends processes, before a real server."""

import itertools
import json
import re
import time
from collections import Counter
from collections.abc import Iterator
from functools import partial
from typing import Any

import httpx
import pytest

from tests.holding import until
from tests.launching import Callers, Server, free_ports, write_repository
from tests.server.gateway import gateways
from tests.server.gateway.conftest import STAND_IN
from tests.service.requests import oip

INFER = "/v2/models/ag_news/infer"


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, httpx.Client]]:
    """A server that may be broken, and a client of its gateway."""
    state, port = tmp_path_factory.mktemp("suspects") / "state", str(free_ports()[0])
    options = ["--target", "openvino:int8", "--instances", "2", "--gateway-port", port]
    repository = write_repository(tmp_path_factory.mktemp("models"), STAND_IN.read_text())
    server = Server(repository, state, options=options).start()
    try:
        server.until("Ctrl-C stops it")
        with gateways.client(f"http://127.0.0.1:{port}") as client:
            yield server, client
    finally:
        server.dismiss()


class Bystanders(Callers):
    """Eight threads that classify one text after another, by REST and by the Open Inference Protocol."""

    def __init__(self, client: httpx.Client) -> None:
        super().__init__(*[partial(self._ask, i) for i in range(8)])
        self._client, self.outcomes = client, Counter[str]()

    def _ask(self, first: int) -> None:
        for i in itertools.count(first, 8):
            if self._over.is_set():
                return
            text = f"shares {i}"
            if first % 2:
                answer = self._client.post("/v1/classify", json={"text": text})
                label = answer.json().get("items", [{}])[0].get("label", answer.text)
            else:
                answer = self._client.post(INFER, content=oip([text]))
                label = next((output["data"][0] for output in answer.json().get("outputs", ())), answer.text)
            self.outcomes[label] += 1
            time.sleep(0.002)


def deaths(server: Server) -> int:
    """Return how often a process ended: where the server did, those under it may be missed first."""
    ends = r"backend process [^\n]*died[^\n]*; starting fresh ones(?:\n[^\n]*tritonserver died)?|tritonserver died"
    return len(re.findall(ends, server.text()))


def by_rest(client: httpx.Client, text: str) -> tuple[int, str]:
    answer = client.post("/v1/classify", json={"text": [text, "shares"]})
    guilty, innocent = answer.json()["items"]
    assert innocent["label"] == "Business"
    return answer.status_code, guilty["error"]


def by_oip(client: httpx.Client, text: str) -> tuple[int, str]:
    answer = client.post(INFER, content=oip([text]))
    return answer.status_code, answer.json()["detail"]


def by_graphql(client: httpx.Client, text: str) -> tuple[int, str]:
    query = "query ($texts: [String!]!) { classify(texts: $texts) { error } }"
    answer = client.post("/graphql", json={"query": query, "variables": {"texts": [text]}})
    return answer.status_code, answer.json()["data"]["classify"][0]["error"]


def by_file(client: httpx.Client, text: str) -> tuple[int, str]:
    lines = json.dumps({"text": text}) + '\n{"text": "shares"}\n'
    answer = client.post("/v1/classify/file", content=lines, headers=gateways.LINES)
    guilty, innocent = map(json.loads, answer.text.splitlines())
    assert innocent["label"] == "Business"
    return answer.status_code, guilty["error"]


@pytest.mark.parametrize(
    ("way", "others", "status", "text"),
    [
        (by_rest, [by_graphql, by_file], 200, "stand-in, end the process"),
        (by_oip, [], 422, "stand-in, end the server"),
    ],
    ids=["a process, by REST", "the server, by the OIP"],
)
def test_a_poison_ends_it_twice_at_most_and_nobody_else_loses_anything(
    own: tuple[Server, httpx.Client], way: Any, others: list[Any], status: int, text: str
) -> None:
    server, client = own
    before = deaths(server)
    with Bystanders(client) as bystanders:
        until(lambda: bystanders.outcomes["Business"] > 50)
        outcome, reason = way(client, text)
        assert (outcome, "ended the model's process twice" in reason) == (status, True), reason
        for other in way, *others:  # it is not tried again
            assert "ended the model's process twice" in other(client, text)[1]
        answered = bystanders.outcomes["Business"]
        until(lambda: bystanders.outcomes["Business"] > answered + 50)
    assert set(bystanders.outcomes) == {"Business"}, bystanders.outcomes
    until(lambda: deaths(server) - before == 2 and re.search("(healed|restarted) in [^\n]*\n$", server.text()))
    assert deaths(server) - before == 2, server.text()
    assert len(server.stubs()) >= 2
    assert client.get("/health/ready").status_code == 200
