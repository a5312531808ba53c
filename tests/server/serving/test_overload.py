"""More than it can take, and the order to stop: the queue is bounded, and what was taken is finished."""

import http.client
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.launching import MODEL, Server, write_repository

QUEUE = 16
SECONDS = 0.1
SLOW = MODEL.replace("responses = []", f"import time; time.sleep({SECONDS})\n        responses = []")


@pytest.fixture
def slow(launch: Callable[..., Server], tmp_path: Path) -> Server:
    """One backend process that takes 0.1 s for each batch of at most 8, behind a queue of 16 requests."""
    repository = write_repository(tmp_path / "models", SLOW)
    path = repository / "ag_news" / "config.pbtxt"
    bounded = f"dynamic_batching {{ default_queue_policy {{ max_queue_size: {QUEUE} }} }}"
    config = path.read_text().replace("max_batch_size: 64", "max_batch_size: 8")
    path.write_text(config.replace("dynamic_batching { }", bounded))
    assert bounded in path.read_text()
    server = launch(repository, options=["--target", "openvino:int8", "--instances", "1", "--no-gateway"])
    server.until("Ctrl-C stops it")
    return server


def test_a_full_queue_refuses_at_once_and_recovers(slow: Server) -> None:
    """B 22, 27: 80 requests a second are what it can take; from 160 at once, every refusal comes before any wait."""

    def ask(_: int) -> tuple[int, str, float]:
        began = time.monotonic()
        status, answer = slow.classify()
        return status, str(answer), time.monotonic() - began

    with ThreadPoolExecutor(160) as threads:
        list(threads.map(time.sleep, [0.2] * 160))  # every thread is there before the clock starts
        began = time.monotonic()
        outcomes = list(threads.map(ask, range(160)))
        lasted = time.monotonic() - began
    answered = [seconds for status, _, seconds in outcomes if status == 200]
    refused = [(seconds, said) for status, said, seconds in outcomes if status == 503]
    assert len(answered) + len(refused) == 160
    assert all("Exceeds maximum queue size" in said for _, said in refused)
    print(f"{len(answered)} answered in {lasted:.2f} s, {len(refused)} refused within {max(refused)[0]:.3f} s")
    assert len(answered) >= QUEUE
    assert refused
    # The first 8 are answered after 0.1 s at the soonest: who is refused has not waited for them.
    assert sorted(seconds for seconds, _ in refused)[len(refused) // 2] < SECONDS * 3
    began = time.monotonic()
    assert slow.classify()[0] == 200
    assert time.monotonic() - began < 1


def refused(server: Server) -> bool:
    """Ask until the connection is refused, reset or closed; no answer meanwhile is a 200."""
    for _ in range(100):
        try:
            status, _ = server.classify()
        except (OSError, http.client.HTTPException):
            return True
        if status == 200:
            return False
        time.sleep(0.05)
    return False


def test_sigterm_finishes_what_was_taken_and_takes_nothing_new(slow: Server) -> None:
    with ThreadPoolExecutor(QUEUE + 1) as threads:
        taken = [threads.submit(slow.classify) for _ in range(QUEUE)]
        time.sleep(SECONDS / 2)
        began = time.monotonic()
        slow.process.send_signal(signal.SIGTERM)
        assert [one.result()[0] for one in taken] == [200] * QUEUE
        print(f"drained in {time.monotonic() - began:.2f} s", end=", ")
        assert refused(slow)
    assert slow.wait() == 0
    print(f"ended after {time.monotonic() - began:.2f} s")
    assert slow.shm() == []
