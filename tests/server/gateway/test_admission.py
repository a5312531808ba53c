"""Admission by callers and by cost, short before long, and nobody waits for ever."""

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import httpx
import pytest

from newsdesk.server.gateway import admission
from newsdesk.server.gateway.admission import LONG, Portion, Queue, Turns, portions
from newsdesk.server.gateway.keys import Role
from newsdesk.server.gateway.problems import Late, TooMany
from tests import virtual_time
from tests.holding import Hold, until
from tests.server.gateway import gateways
from tests.server.gateway.conftest import Served

HOUR = 3600.0


def test_a_request_is_cut_by_cost_and_a_long_text_stands_alone() -> None:
    texts = ["short"] * 100 + ["x" * (LONG + 1)] + ["short"] * 3
    cut = portions(texts, "balanced")
    assert [(portion.start, portion.end, portion.long) for portion in cut] == [
        (0, 64, False), (64, 100, False), (100, 101, True), (101, 104, False),
    ]  # fmt: skip
    assert not any(portion.long for portion in portions(texts, "fast"))
    assert len(portions(["x" * 1000] * 64, "best")) == 11
    assert portions([], None) == []


class QueuedCallers:
    """Turns, and in which order callers got theirs."""

    def __init__(self, turns: Turns) -> None:
        self.turns, self.order, self.tasks = turns, [], []
        self._over: dict[str, asyncio.Event] = {}

    def ask(self, who: str, cost: int = 600_000, long: bool = False, behind: bool = False) -> asyncio.Task[None]:
        """Have a caller ask, and keep its turn until `end`."""
        name = f"{who}{sum(name_over.startswith(who) for name_over in self._over)}"
        over = self._over[name] = asyncio.Event()

        async def turn() -> None:
            admission.caller.set(who)
            admission.behind.set(behind)
            async with self.turns.turn(Portion(0, 1, cost, long), time.monotonic() + HOUR):
                self.order.append(name)
                await over.wait()

        self.tasks.append(asyncio.create_task(turn()))
        return self.tasks[-1]

    async def end(self, *names: str) -> None:
        for name in names:
            self._over[name].set()
        await asyncio.sleep(0.01)

    async def end_all(self) -> None:
        while not all(task.done() for task in self.tasks):
            await self.end(*self.order)


def run(coroutine: Callable[[QueuedCallers], Coroutine[Any, Any, None]], instances: int = 2) -> list[str]:
    async def within() -> list[str]:
        callers = QueuedCallers(Turns(instances))
        await coroutine(callers)
        await asyncio.wait_for(callers.end_all(), 20)
        return callers.order

    return virtual_time.run(within())


def test_turns_go_round_by_what_callers_took() -> None:
    """However much one has asked for before, the other's few are taken between; and cheap ones more often."""

    async def asked(callers: QueuedCallers) -> None:
        for _ in range(20):
            callers.ask("a")
        await asyncio.sleep(0.01)
        for _ in range(4):
            callers.ask("b", 300_000)

    order = run(asked)
    assert order[:3] == ["a0", "a1", "a2"]
    assert set(order[3:10]) >= {"b0", "b1", "b2", "b3"}


def test_who_was_alone_is_not_charged_for_it() -> None:
    async def asked(callers: QueuedCallers) -> None:
        for i in range(30):
            callers.ask("a", 1_900_000)
            await callers.end(f"a{i}")
        callers.ask("a", 1_900_000)
        await asyncio.sleep(0.01)
        for who in "bababa":
            callers.ask(who, 1_900_000)

    assert run(asked)[31:] == ["b0", "b1", "a31", "b2", "a32", "a33"]  # what it has under way counts


def test_long_texts_leave_a_process_free_and_are_not_batched_with_others() -> None:
    async def asked(callers: QueuedCallers) -> None:
        callers.ask("a", long=True)
        callers.ask("a", long=True)
        await asyncio.sleep(0.05)
        assert callers.order == ["a0"]
        callers.ask("b")
        await asyncio.sleep(0.05)
        assert callers.order == ["a0", "b0"]
        await callers.end("a0")
        callers.ask("b", 100)
        await asyncio.sleep(0.05)
        assert callers.order == ["a0", "b0", "b1"]  # short ones first, while they come
        await callers.end("b0", "b1")
        await asyncio.sleep(0.05)
        assert callers.order == ["a0", "b0", "b1", "a1"]

    assert len(run(asked)) == 4


def test_what_goes_behind_goes_when_nobody_else_waits() -> None:
    async def asked(callers: QueuedCallers) -> None:
        callers.ask("a")
        callers.ask("b")
        callers.ask("job", 1000, behind=True)
        callers.ask("job", 1000, behind=True)
        await asyncio.sleep(0.01)
        assert callers.order == ["a0"]  # there is room for the job, and it has none while somebody waits
        await callers.end("a0")
        assert callers.order == ["a0", "b0", "job0"]  # one for each backend process, however small they are
        await callers.end("job0")
        assert callers.order[3:] == ["job1"]

    run(asked, instances=1)


def test_what_goes_behind_goes_at_last_under_any_load(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission, "_BEHIND_PATIENCE", 0.05)

    async def asked(callers: QueuedCallers) -> None:
        callers.ask("job", 1000, behind=True)
        for _ in range(3):
            callers.ask("a", 2_000_000)
        job = callers.ask("job", 1000, behind=True)
        while "job1" not in callers.order:
            await asyncio.sleep(0.01)
        assert "a1" not in callers.order  # which waits before it
        await callers.end("job0", "job1")
        await job

    run(asked)


def test_short_ones_do_not_starve_a_long_one() -> None:
    """Under short ones without a gap: they are held back, until those under way are answered, or for a second."""

    async def asked(callers: QueuedCallers) -> None:
        callers.ask("b", 1000)
        callers.ask("a", long=True)
        began = time.monotonic()
        shorts = 0
        while "a0" not in callers.order:
            shorts += 1
            callers.ask("b", 1000)  # answered only when the next is under way
            await asyncio.sleep(0.02)
            await callers.end(*[name for name in callers.order if name.startswith("b")][:-1])
            assert time.monotonic() < began + 10
        await asyncio.sleep(0.05)
        first = callers.order.index("a0")
        assert first > 10
        assert len(callers.order) > first + 10  # the last were held back, and go on beside the long one

    run(asked)


def test_what_is_given_up_waits_no_longer() -> None:
    async def asked(callers: QueuedCallers) -> None:
        callers.ask("a", 2_000_000)
        await asyncio.sleep(0.01)
        waiting = [callers.ask("a", 2_000_000) for _ in range(5)]
        waiting += [callers.ask("a", long=True) for _ in range(5)]
        last = callers.ask("b")
        await asyncio.sleep(0.01)
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        await callers.end("a0")
        assert callers.order == ["a0", "b0"]
        callers.tasks = [last]

    run(asked)


def test_a_turn_that_does_not_come_in_time() -> None:
    async def asked(callers: QueuedCallers) -> None:
        callers.ask("a", 2_000_000)
        await asyncio.sleep(0)
        with pytest.raises(Late, match="send less"):
            async with callers.turns.turn(Portion(0, 1, 10**6, False), time.monotonic() + 0.05):
                pass

    assert run(asked) == ["a0"]


def test_the_queue_keeps_a_share_for_each_caller() -> None:
    async def within() -> list[str]:
        queue, outcomes = Queue(100), []

        async def ask(who: str, load: int) -> None:
            admission.caller.set(who)
            try:
                async with queue.place(load, wait=False):
                    outcomes.append(f"{who} {load}")
                    await asyncio.sleep(HOUR)
            except TooMany:
                outcomes.append(f"{who} is refused {load}")

        tasks = []
        for who, load in [("a", 90), ("a", 20), ("b", 30), ("b", 20), ("b", 10), ("c", 90), ("c", 20), ("d", 10)]:
            tasks.append(asyncio.create_task(ask(who, load)))
            await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert queue.load == 0
        return outcomes

    assert virtual_time.run(within()) == [
        "a 90", "a is refused 20", "b 30", "b 20", "b is refused 10", "c is refused 90", "c 20", "d 10",
    ]  # fmt: skip


def long(hold: Hold) -> str:
    """Return a long text that the stand-in computes until it is released."""
    return hold.text + " " + "x" * LONG


@pytest.fixture
def hostile(served: Served) -> Iterator[list[httpx.Client]]:
    clients = [gateways.client(served.url, gateways.key(served.server.state, Role.reader)) for _ in range(2)]
    yield clients
    for client in clients:
        client.close()


def computed(served: Served) -> int:
    """Return how many texts the model has answered."""
    return sum(model["inference_count"] for model in served.server.ask("/v2/models/ag_news/stats")[1]["model_stats"])


def test_two_who_send_long_texts_block_nobody(
    served: Served, reader: httpx.Client, hostile: list[httpx.Client], hold: Hold
) -> None:
    """A bystander's texts are all answered while the first of the hostile ones is computed."""
    over: list[int] = []

    def attack(client: httpx.Client) -> None:
        over.append(client.post("/v1/classify", json={"text": [long(hold)] * 3, "quality": "best"}).status_code)

    threads = [threading.Thread(target=attack, args=(client,)) for client in hostile]
    for thread in threads:
        thread.start()
    hold.until_computing()
    until(lambda: gateways.queued(reader, 6))
    for i in range(20):
        assert reader.post("/v1/classify", json={"text": f"shares {i}"}).status_code == 200
    assert over == []
    hold.release()
    for thread in threads:
        thread.join()
    assert over == [200, 200]


def test_what_a_caller_who_left_had_not_been_sent_is_dropped(served: Served, reader: httpx.Client, hold: Hold) -> None:
    """Inside a request, too: of thirty long texts, those on their way at most are computed."""
    before = computed(served)
    with pytest.raises(httpx.ReadTimeout):
        reader.post("/v1/classify", json={"text": [long(hold)] * 30, "quality": "best"}, timeout=0.5)
    until(lambda: gateways.queued(reader, 0))
    hold.release()
    assert reader.post("/v1/classify", json={"text": long(hold), "quality": "best"}).status_code == 200
    assert computed(served) - before < 10
