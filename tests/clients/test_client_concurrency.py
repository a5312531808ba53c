"""One client in many threads, in many event loops, and across a fork."""

import asyncio
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from newsdesk.clients import AsyncClient, Client, Prediction
from tests.clients.texts import numbered
from tests.holding import Hold

FORK = """
import asyncio, os, sys
from newsdesk.clients import AsyncClient, Client

url = sys.argv[1]
client, aclient = Client(url, timeout=10, micro_batching=True), AsyncClient(url, timeout=10)

async def once():
    return (await aclient.classify("shares")).label

def check():
    assert client.classify("match").label == "Sports"
    assert [answer.label for answer in client.classify(["match"] * 300)] == ["Sports"] * 300
    assert asyncio.run(once()) == "Business"

check()
children = []
for _ in range(3):
    child = os.fork()
    if child == 0:
        code = 1
        try:
            check()
            code = 0
        finally:
            os._exit(code)
    children.append(child)
assert client.classify("match").label == "Sports"
assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0, 0, 0]
check()
"""


def test_32_threads_share_a_client_and_get_their_own_answers(client: Client) -> None:
    def one_by_one(thread: int) -> None:
        for number in range(thread * 30, thread * 30 + 30):
            text, label, probability = numbered(number)
            answer = client.classify(text)
            assert (answer.label, answer.probability) == (label, pytest.approx(probability, abs=1e-6))

    def in_lists(thread: int) -> None:
        numbers = range(thread * 100, thread * 100 + 100)
        answers = client.classify([numbered(number)[0] for number in numbers])
        labels = [answer.label for answer in answers if isinstance(answer, Prediction)]
        assert labels == [numbered(number)[1] for number in numbers]

    with ThreadPoolExecutor(32) as threads:
        list(threads.map(lambda thread: in_lists(thread) if thread % 4 else one_by_one(thread), range(32)))


def test_500_calls_at_once_in_one_loop(url: str) -> None:
    async def all_at_once() -> list[float]:
        async with AsyncClient(url, timeout=30) as client:
            answers = await asyncio.gather(*(client.classify(numbered(number)[0]) for number in range(500)))
        return [answer.probability for answer in answers]

    assert asyncio.run(all_at_once()) == pytest.approx([numbered(n)[2] for n in range(500)], abs=1e-6)


def test_several_loops_after_another_and_at_once(url: str, caplog: pytest.LogCaptureFixture) -> None:
    client = AsyncClient(url, timeout=20)

    async def some(start: int) -> list[str]:
        answers = await asyncio.gather(*(client.classify(numbered(number)[0]) for number in range(start, start + 50)))
        return [answer.label for answer in answers]

    for start in range(3):  # loops that end without close
        assert asyncio.run(some(start)) == [numbered(number)[1] for number in range(start, start + 50)]
    with ThreadPoolExecutor(6) as threads:
        for start, labels in enumerate(threads.map(lambda start: asyncio.run(some(start)), range(12))):
            assert labels == [numbered(number)[1] for number in range(start, start + 50)]

    async def last() -> None:
        await client.classify("match")
        await client.close()

    asyncio.run(last())
    assert [record for record in caplog.records if record.levelname in ("ERROR", "WARNING")] == []


def test_cancelling_ends_the_call_and_spares_the_client(url: str, hold: Hold) -> None:
    async def cancel_one() -> str:
        async with AsyncClient(url, timeout=20) as client:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(client.classify([hold.text] * 100), 0.2)
            hold.release()
            return (await client.classify("match")).label

    assert asyncio.run(cancel_one()) == "Sports"


def test_forked_processes_connect_anew(any_url: str) -> None:
    subprocess.run([sys.executable, "-c", FORK, any_url], check=True, timeout=60)
