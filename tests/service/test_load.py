"""Many clients at once: batches form, answers reach their own requests, memory and threads stay bounded
(field notes 13, 17, 23, 34, 35, 37, 42)."""

import asyncio
import re
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc

from benchmarks.servers import Server, family
from newsdesk.server.serving import load
from newsdesk.server.serving.settings import granted_cores
from tests.headlines import TEXTS, unique
from tests.holding import until
from tests.service import requests


@pytest.mark.parametrize("count", [250, pytest.param(1000, marks=pytest.mark.long)])
def test_unique_texts_get_their_own_answers(grpc: tritonclient.grpc.InferenceServerClient, count: int) -> None:
    """Field note 23: each answer under 64 clients equals its solo answer.

    Within what other shapes change: floats are summed in another order, and int8 rounds what falls on the border.
    """
    texts = unique(count)
    with ThreadPoolExecutor(64) as threads:
        together = list(threads.map(lambda text: requests.probabilities(grpc, [text])[0], texts))
    alone = [requests.probabilities(grpc, [text])[0] for text in texts]
    np.testing.assert_allclose(together, alone, atol=0.01)
    assert (np.argmax(together, -1) == np.argmax(alone, -1)).all()


def test_requests_of_many_sizes_share_batches(grpc: tritonclient.grpc.InferenceServerClient) -> None:
    """Field note 13: requests of 1 to 16 texts of any length at once."""
    texts = unique(300)
    sizes = [1 + i % 16 for i in range(60)]
    expected = {
        text: label
        for at in range(0, 300, 60)
        for text, label in zip(texts[at : at + 60], requests.labels(grpc, texts[at : at + 60]), strict=True)
    }

    def ask(i: int) -> bool:
        own = [texts[(i * 31 + j * 7) % 300] for j in range(sizes[i])]
        return requests.labels(grpc, own) == [expected[text] for text in own]

    with ThreadPoolExecutor(32) as threads:
        assert all(threads.map(ask, range(60)))


def test_waiting_requests_are_batched(grpc: tritonclient.grpc.InferenceServerClient) -> None:
    """Field note 17: under 64 clients a run of the model holds several texts on average."""

    def counts() -> tuple[int, int]:
        (stats,) = grpc.get_inference_statistics("ag_news").model_stats
        return stats.inference_count, stats.execution_count

    before = counts()
    with ThreadPoolExecutor(64) as threads:
        list(threads.map(lambda text: requests.labels(grpc, [text]), unique(500)))
    until(lambda: counts()[0] >= before[0] + 500)  # Triton counts after it has answered
    texts, runs = np.subtract(counts(), before)
    assert texts < 600  # the supervisor's probes are among them
    assert texts / runs >= 4


def test_256_clients_find_it_whole_and_leave_it_as_large_as_before(
    server: Server, grpc: tritonclient.grpc.InferenceServerClient
) -> None:
    """Field notes 34, 35, 37: a bounded soak, 256 connections; the long one is `make soak`.

    Every member is asked first: the weights of one that few texts reach are in memory only once it has computed.
    """

    def best(texts: list[str]) -> None:
        grpc.infer("ag_news", [requests.tensor(texts), requests.quality(["best"] * len(texts))])

    def idle_mb() -> float:
        requests.labels(grpc, [TEXTS[0]])  # stands behind what is still under way when the clients have gone
        return server.idle_mb()

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(best, [unique(256)[at : at + 32] for at in range(0, 256, 32)]))
    bodies = [requests.oip([text]) for text in unique(2000)]
    sent = load.encode("127.0.0.1", server.http_port, "/v2/models/ag_news/infer", bodies)

    def crowd(seconds: float) -> int:
        reading = load.run("127.0.0.1", server.http_port, sent, clients=256, seconds=seconds)
        assert reading.failures == 0
        return reading.answers

    crowd(5)
    before, answers = idle_mb(), [0]
    # Each client's: where the machine is slow, in more than one go. How fast it is, is for benchmarks to say.
    until(lambda: answers.append(crowd(8)) or sum(answers) > 256, seconds=200)
    after = idle_mb()
    print(f"{before:.0f} MB, then {after:.0f}")
    assert after - before < 0.1 * before
    assert requests.labels(grpc, [TEXTS[0]]) == ["World"]


def test_each_backend_process_computes_on_one_thread(server: Server) -> None:
    """Field note 42: as many processes as cores granted; in each, one thread does (nearly) all the work."""
    stubs = [pid for pid in family(server.pid) if Path(f"/proc/{pid}/comm").read_text().startswith("triton_python")]
    assert len(stubs) == granted_cores()
    for pid in stubs:
        ticks = sorted(int((task / "stat").read_text().split()[13]) for task in Path(f"/proc/{pid}/task").iterdir())
        assert ticks[-1] > 0.9 * sum(ticks)


def test_the_padding_waste_is_a_metric(server: Server, grpc: tritonclient.grpc.InferenceServerClient) -> None:
    """Field note 47: computed tokens over real ones, in Triton's own metrics."""

    def tokens() -> list[float]:
        with urllib.request.urlopen(f"http://127.0.0.1:{server.metrics_port}/metrics", timeout=10) as response:
            metrics = response.read().decode()
        return [
            sum(map(float, re.findall(rf"^newsdesk_{kind}_tokens_total{{.*}} (\S+)$", metrics, re.MULTILINE)))
            for kind in ("real", "computed")
        ]

    def counted() -> bool:
        """Ask once more: counts are handed over twice a second, with the next request."""
        requests.labels(grpc, unique(64))
        return tokens()[0] > before + 1000

    before, _ = tokens()
    until(counted)
    real, computed = tokens()
    assert 1 <= computed / real < 1.2


def test_clients_that_vanish_leave_the_rest_alone(
    server: Server, grpc: tritonclient.grpc.InferenceServerClient
) -> None:
    """Half of the connections are cut with their request under way."""

    async def vanish() -> None:
        for text in unique(50):
            _, writer = await asyncio.open_connection("127.0.0.1", server.http_port)
            (request,) = load.encode("127.0.0.1", server.http_port, "/v2/models/ag_news/infer", [requests.oip([text])])
            writer.write(request)
            await writer.drain()
            writer.transport.abort()

    expected = requests.labels(grpc, TEXTS)
    with ThreadPoolExecutor(8) as threads:
        answers = threads.map(lambda text: requests.labels(grpc, [text])[0], TEXTS * 4)
        asyncio.run(vanish())
        assert list(answers) == expected * 4
