"""Requests in flight when a process ended: by itself, and before a real server whose processes end of a text."""

import asyncio
import itertools
import json
import re
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from newsdesk.clients import Prediction, ServerUnavailable, TextRefused
from newsdesk.clients.errors import Interrupted
from newsdesk.server.gateway import suspects
from newsdesk.server.gateway.problems import Poisonous
from newsdesk.server.gateway.suspects import Item, Suspects, Text
from tests.holding import until
from tests.launching import Callers, Server, free_ports, write_repository
from tests.server.gateway import gateways
from tests.server.gateway.conftest import STAND_IN
from tests.service.requests import oip

INFER = "/v2/models/ag_news/infer"


class PoisonedModel:
    """Two processes, of which one ends whenever it reads "poison"; it is replaced a moment later."""

    def __init__(self, heals: float = 0.05) -> None:
        self.counts = [0, 0]
        self.asked: list[tuple[Text, ...]] = []
        self.deaths, self._heals, self._dead = 0, heals, False

    async def count(self) -> tuple[int, int]:
        return self.counts[0], self.counts[1]

    async def ask(self, texts: Sequence[Text], alone: bool) -> list[Item]:
        self.asked.append(tuple(texts))
        assert len(texts) == 1 or not alone
        await asyncio.sleep(0.01)
        if "poison" in texts or self._dead:
            self.deaths += not self._dead
            self._die()
            raise ended()
        self.counts[0] += len(texts)
        return [Prediction(place, "Business", 1.0, {"Business": 1.0}, "m", 1) for place in range(len(texts))]

    def _die(self) -> None:
        if not self._dead:
            self._dead = True
            asyncio.get_running_loop().call_later(self._heals, self._heal)
        self.counts[1] += 1

    def _heal(self) -> None:
        self._dead, self.counts = False, [0, 0]


def ended(process: str = "ag_news_0_0") -> Interrupted:
    error = Interrupted("ended")
    error.process, error.sent = process, time.monotonic() - 0.01
    return error


@asynccontextmanager
async def watched(model: PoisonedModel) -> AsyncIterator[Suspects]:
    subject = Suspects(model.count)
    watching = asyncio.create_task(subject.watch())
    await asyncio.sleep(0)
    yield subject
    watching.cancel()


def later() -> float:
    return time.monotonic() + 5


def test_the_guilty_text_is_found_and_the_innocent_are_answered() -> None:
    async def run() -> None:
        model = PoisonedModel()
        model.counts = [100, 0]
        async with watched(model) as subject:
            texts = ["a", "poison", "b", "c"]
            items = await subject.texts(texts, model.ask, later())
            assert [isinstance(item, TextRefused) for item in items] == [False, True, False, False]
            assert [item.index for item in items] == [0, 1, 2, 3]
            assert "ended the model's process twice" in items[1].reason  # type: ignore[union-attr]
            assert model.deaths == 2
            assert model.asked == [("a", "poison", "b", "c"), ("a",), ("poison",), ("b",), ("c",)]
            assert subject.refusals(texts).keys() == {1}  # from now on at once
            assert await subject.texts(["a"], model.ask, later())

    asyncio.run(run())


def test_what_many_ask_at_once_is_no_guiltier_for_it() -> None:
    """One death with a text in flight three times, twice of them in one request: nobody is refused."""

    async def run() -> None:
        model = PoisonedModel()
        model.counts = [100, 0]
        async with watched(model) as subject:

            async def ask(texts: Sequence[Text], alone: bool) -> list[Item]:
                if not alone:
                    await asyncio.sleep(0.01)
                    model._die()
                    raise ended("")
                return await model.ask(texts, alone)

            many, single = await asyncio.gather(
                subject.texts(["a", "a"], ask, later()),
                subject.texts(["a"], ask, later()),
            )
            assert [type(item) for item in [*many, *single]] == [Prediction] * 3
            requests = iter([ended(""), ended("")])

            async def infer() -> str:
                await asyncio.sleep(0.01)
                for error in requests:
                    model._die()
                    raise error
                return "answered"

            answers = [subject.request(b"b", infer, later()) for _ in range(2)]
            assert await asyncio.gather(*answers) == ["answered"] * 2

    asyncio.run(run())


def test_a_suspect_goes_alone_when_it_comes_again_and_is_cleared_by_an_answer() -> None:
    async def run() -> None:
        model = PoisonedModel()
        model.counts = [100, 0]
        async with watched(model) as subject:

            async def ask(texts: Sequence[Text], alone: bool) -> list[Item]:
                if not alone:
                    model._die()
                    raise ended("")  # the whole server, of another's doing
                return await model.ask(texts, alone)

            assert len(await subject.texts(["a", "b"], ask, later())) == 2
            assert subject._strikes == {}
            with pytest.raises(Poisonous):
                await subject.request(b"poison", lambda: model.ask(["poison"], True), later())
            assert model.deaths == 2
            with pytest.raises(Poisonous):
                await subject.request(b"poison", lambda: model.ask(["poison"], True), later())
            assert model.deaths == 2

    asyncio.run(run())


def test_who_meets_a_process_that_is_known_to_be_dead_is_no_suspect() -> None:
    async def run() -> None:
        model = PoisonedModel(heals=60)
        async with watched(model) as subject:
            subject._died(ended())
            answers = iter([ended(), ended(), None])

            async def ask() -> str:
                error = next(answers)
                if error is None:
                    return "answered"
                error.sent = time.monotonic()
                raise error

            assert await subject.request(b"a", ask, later()) == "answered"
            assert subject._strikes == {}

    asyncio.run(run())


def test_a_suspect_waits_for_the_model_to_be_whole_within_its_deadline() -> None:
    async def run() -> None:
        model = PoisonedModel(heals=60)
        async with watched(model) as subject:
            with pytest.raises(ServerUnavailable):
                await subject.texts(["poison"], model.ask, time.monotonic() + 0.3)
            assert model.asked == [("poison",)]

    asyncio.run(run())


def test_nobody_is_tried_before_the_server_is_there_again() -> None:
    """A request sent over a connection to the one that has just ended would break, and be taken for guilty."""

    async def run() -> None:
        model, there, looks = PoisonedModel(), True, 0

        async def count() -> tuple[int, int]:
            nonlocal looks
            looks += 1
            if there:
                return 0, 0
            raise ServerUnavailable("away")

        model.count = count  # type: ignore[method-assign]
        async with watched(model) as subject:
            with pytest.raises(Interrupted):
                await subject._elsewhere(lambda: fail(ended("")))
            there = False
            trial = asyncio.create_task(subject._alone(b"own", lambda: model.ask(["a"], True), later()))
            before = looks
            while looks < before + 3:
                await asyncio.sleep(0)
            assert model.asked == []
            there = True
            assert await trial
            assert subject._strikes == {}

    asyncio.run(run())


async def fail(error: Exception) -> None:
    raise error


def test_who_meets_a_process_that_was_never_replaced_is_not_guilty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody replaces it for longer than suspects wait: each second request meets it, the others are answered."""
    monkeypatch.setattr(suspects, "_PATIENCE", 0.1)

    async def run() -> None:
        model = PoisonedModel()
        async with watched(model) as subject:
            failing = itertools.cycle((True, True, False))

            async def ask(texts: Sequence[Text], alone: bool) -> list[Item]:
                if next(failing):
                    error = ended()
                    error.sent = time.monotonic()
                    raise error
                return await model.ask(texts, alone)

            items = await subject.texts(["a", "b", "c"], ask, later())
            assert all(isinstance(item, Prediction) for item in items)
            assert subject._strikes == {}

    asyncio.run(run())


def test_suspects_are_forgotten_after_a_while_and_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(suspects, "time", SimpleNamespace(monotonic=lambda: clock.now))
    monkeypatch.setattr(suspects, "_HELD_MOST", 3)
    subject = Suspects(PoisonedModel().count)
    for text in "abcde":
        subject._strike(suspects.key(text), 2)
    assert len(subject._strikes) == 3
    assert subject.refusals(["a", "e"]).keys() == {1}
    clock.now += suspects.HELD_SECONDS + 1
    assert subject.refusals(["e"]) == {}


def test_texts_are_measured_in_bytes() -> None:
    subject = Suspects(PoisonedModel().count)
    most = 256 * 1024
    assert subject.refusals(["x" * most, "é" * (most // 2), b"x" * most, "😀" * (most // 4)]) == {}
    refused = subject.refusals(["x" * (most + 1), "é" * (most // 2 + 1), b"x" * (most + 1)])
    assert [item.reason.split(" ")[0] for item in refused.values()] == [str(most + 1), str(most + 2), str(most + 1)]  # type: ignore[union-attr]


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
