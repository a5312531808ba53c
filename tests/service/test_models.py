"""Two models of their own names and labels behind one server: neither is served in the other's stead, nor waits for it.

One is rolled over and the other's backend process is killed while callers ask both without a pause.
"""

import asyncio
import json
import shutil
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import expect

from newsdesk.clients import AsyncClient, Client, NewsdeskError, RequestRefused
from newsdesk.server.machine import versions
from tests import tiny
from tests.launching import Callers, Server, free_ports
from tests.server.gateway import browsers

NEWSDESK = Path(sys.executable).with_name("newsdesk")
QUEUES = ["Cards", "Loans", "Cash", "Fraud"]
"""The labels of the second model, whose words vote by the same places."""
EXPECTED = {"desk": "Business", "bank-queues": "Cash"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    repository = tmp_path_factory.mktemp("models")
    tiny.write_model(repository, tiny.write, "desk")
    tiny.write_model(repository, partial(tiny.write, labels=QUEUES), "bank-queues")
    state = tmp_path_factory.mktemp("serving") / "state"
    options = ["--target", "onnxruntime:fp32", "--instances", "2", "--gateway-port", str(free_ports()[0])]
    running = Server(repository, state, options=options).start()
    running.until("Ctrl-C stops it")
    yield running
    running.dismiss()


@pytest.fixture(scope="module")
def url(server: Server) -> str:
    return f"gateway+http://127.0.0.1:{server.options[-1]}"


def stubs_of(server: Server, model: str) -> list[int]:
    return [stub.pid for stub in server.stubs() if any(f"/{model}/" in part for part in stub.arguments)]


class CallersOfModels(Callers):
    """Threads that ask each model through the gateway until they are told to stop."""

    def __init__(self, url: str) -> None:
        self._client = Client(url)
        self.outcomes: Counter[tuple[str, str]] = Counter()
        super().__init__(*[partial(self._ask, model) for model in EXPECTED for _ in range(2)])

    def __exit__(self, *_: object) -> None:
        super().__exit__()
        self._client.close()

    def _ask(self, model: str) -> None:
        while not self._over.is_set():
            try:
                outcome = self._client.classify("market shares", model=model).label
            except NewsdeskError as error:
                outcome = repr(error)
            self.outcomes[model, outcome] += 1
            time.sleep(0.005)

    def until_answered(self, model: str, count: int) -> None:
        """Wait for so many more answers of a model."""
        until = self.outcomes[model, EXPECTED[model]] + count
        deadline = time.monotonic() + 30
        while self.outcomes[model, EXPECTED[model]] < until:
            assert time.monotonic() < deadline, self.outcomes
            time.sleep(0.02)


def test_one_is_rolled_over_and_one_is_killed_and_no_request_fails(server: Server, url: str) -> None:
    folder = server.repository / "desk"
    with CallersOfModels(url) as asking:
        for model in EXPECTED:
            asking.until_answered(model, 20)
        before = set(stubs_of(server, "bank-queues"))
        shutil.copytree(folder / "1", folder / "2.partial")
        (folder / "2.partial").rename(folder / "2")
        rolling = threading.Thread(target=versions.reload, args=[server.state, "desk"])
        rolling.start()
        next(stub for stub in server.stubs() if stub.pid in before).kill()
        server.until("bank-queues: healed")
        rolling.join()
        server.until("desk: loaded")
        assert "desk: healed" not in server.text()
        for model in EXPECTED:
            asking.until_answered(model, 20)
    assert set(asking.outcomes) == set(EXPECTED.items()), asking.outcomes
    assert len(set(stubs_of(server, "bank-queues")) - before) == 2
    with Client(url) as client:
        ran = subprocess.run(
            [NEWSDESK, "rollback", "--model", "desk", "--model-repository", server.repository, "--state", server.state],
            capture_output=True,
            text=True,
            check=False,
        )
        assert "the running server serves version 1" in ran.stdout, ran.stderr
        assert client.classify("a goal", model="desk").label == "Sports"


def test_each_answers_with_its_own_labels_over_every_protocol(server: Server, url: str) -> None:
    for address in url, f"grpc://127.0.0.1:{server.ports[1]}", f"http://127.0.0.1:{server.ports[0]}":
        with Client(address) as client:
            assert sorted(client.models()) == ["bank-queues", "desk"]
            assert client.labels(model="bank-queues") == tuple(QUEUES)
            for model, label in EXPECTED.items():
                assert client.classify("shares", model=model).label == label
                assert [item.label for item in client.classify(["shares"] * 3, model=model)] == [label] * 3  # type: ignore[union-attr]
            with pytest.raises(RequestRefused, match=r"serves several models: .*Name one"):
                client.classify("shares")
        assert asyncio.run(_asked(address)) == ["Cash", "Business"]
        with Client(address, model="desk", micro_batching=True) as client:
            assert client.classify("shares").label == "Business"
            assert client.classify("shares", model="bank-queues").label == "Cash"


async def _asked(address: str) -> list[str]:
    async with AsyncClient(address, model="bank-queues") as client:
        return [(await client.classify("shares")).label, (await client.classify("shares", model="desk")).label]


def test_the_gateway_asks_for_a_name_and_takes_it_on_each_route(server: Server, url: str) -> None:
    with httpx.Client(base_url=url.removeprefix("gateway+"), trust_env=False) as http:
        body = {"text": "shares"}
        refused = http.post("/v1/classify", json=body)
        assert refused.status_code == 400
        assert "2 are served: bank-queues, desk. Name one" in refused.json()["detail"]
        for model, label in EXPECTED.items():
            for path in f"/v1/models/{model}/classify", f"/v1/classify?model={model}":
                assert http.post(path, json=body).json()["items"][0]["label"] == label
            lines = http.post(
                f"/v1/models/{model}/classify/file", content="text\nshares\n", headers={"Content-Type": "text/csv"}
            )
            assert json.loads(lines.text)["label"] == label
            asked = {"query": f'{{ classify(texts: ["shares"], model: "{model}") {{ label }} }}'}
            assert http.post("/graphql", json=asked).json()["data"]["classify"][0]["label"] == label
            assert http.get(f"/v2/models/{model}/ready").status_code == 200
            assert http.get(f"/v1/models/{model}").json()["name"] == model
            assert http.get(f"/v1/models/{model}/labels").json()["labels"][2] == label
        listed = http.get("/v1/models").json()["models"]
        assert [(model["name"], model["default"], model["ready"]) for model in listed] == [
            ("bank-queues", False, True),
            ("desk", False, True),
        ]
        assert listed[0]["labels"] == QUEUES
        assert listed[0]["qualities"] == ["fast", "balanced", "best"]
        unknown = http.post("/v1/models/topics/classify", json=body)
        assert (unknown.status_code, "served are: bank-queues, desk" in unknown.json()["detail"]) == (404, True)
        assert 'newsdesk_gateway_texts_total{model="desk",outcome="answered"}' in http.get("/metrics").text


def test_one_is_unloaded_by_itself_and_loaded_again(server: Server, url: str) -> None:
    versions.unload(server.state, "bank-queues")
    try:
        with httpx.Client(base_url=url.removeprefix("gateway+"), trust_env=False) as http, Client(url) as client:
            assert client.classify("shares", model="desk").label == "Business"
            listed = {model["name"]: model for model in http.get("/v1/models").json()["models"]}
            assert (listed["bank-queues"]["versions"], listed["desk"]["versions"]) == ([], ["1"])
            assert http.get("/health/ready").status_code == 200  # it was taken out on demand
    finally:
        versions.reload(server.state, "bank-queues")
    with Client(url) as client:
        assert client.classify("shares", model="bank-queues").label == "Cash"


def test_the_page_offers_both_and_asks_the_one_that_is_chosen(server: Server, url: str) -> None:
    with browsers.chromium() as browser:
        if browser is None:
            pytest.skip("the playwright package brings no browser: apt-get install chromium")
        watched = browsers.Watched(browser)
        page = watched.open(url.removeprefix("gateway+"))
        choice = page.get_by_label("Model")
        expect(choice.locator("option")).to_have_text(["bank-queues", "desk"])
        for model, label in EXPECTED.items():
            choice.select_option(model)
            expect(page.locator("#model")).to_contain_text(label)
            with page.expect_request(f"**/v1/models/{model}/classify"):
                browsers.classify(page, "shares")
            expect(page.locator("#article-label")).to_have_text(label)
        assert watched.errors == []
