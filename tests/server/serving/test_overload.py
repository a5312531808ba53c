"""More than it can take, and the order to stop: the queue is bounded, and what was taken is finished."""

import http.client
import re
import signal
import time
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.holding import until
from tests.launching import MODEL, Server, write_repository

QUEUE, BATCH, ASKED = 16, 8, 160
HELD = """import os, time
        with open("{folder}/computing", "a") as file:
            file.write(f"{{len(requests)}}\\n")
        until = time.monotonic() + 30
        while os.path.exists("{folder}/held") and time.monotonic() < until:
            time.sleep(0.01)
        responses = []"""


@dataclass
class HeldServer:
    """One backend process that computes batches of at most 8, when the test lets it, behind a queue of 16 requests."""

    server: Server
    folder: Path

    def hold(self) -> None:
        (self.folder / "computing").write_text("")
        (self.folder / "held").touch()

    def release(self) -> None:
        (self.folder / "held").unlink()

    def taken(self) -> int:
        """Return how many requests are being computed, or wait for it."""
        url = f"http://127.0.0.1:{self.server.ports[2]}/metrics"
        with urllib.request.urlopen(url, timeout=10) as response:
            metrics = response.read().decode()
        waiting = re.findall(r"^nv_inference_pending_request_count{.*} (\d+)$", metrics, re.MULTILINE)
        return sum(map(int, (self.folder / "computing").read_text().split())) + sum(map(int, waiting))


@pytest.fixture
def held(launch: Callable[..., Server], tmp_path: Path) -> HeldServer:
    model = MODEL.replace("responses = []", HELD.format(folder=tmp_path))
    repository = write_repository(tmp_path / "models", model)
    path = repository / "ag_news" / "config.pbtxt"
    bounded = f"dynamic_batching {{ default_queue_policy {{ max_queue_size: {QUEUE} }} }}"
    config = path.read_text().replace("max_batch_size: 64", f"max_batch_size: {BATCH}")
    path.write_text(config.replace("dynamic_batching { }", bounded))
    assert bounded in path.read_text()
    server = launch(repository, options=["--target", "openvino:int8", "--instances", "1", "--no-gateway"])
    server.until("Ctrl-C stops it")
    return HeldServer(server, tmp_path)


def test_a_full_queue_refuses_at_once_and_recovers(held: HeldServer) -> None:
    """B 22, 27: of 160 at once those that find no room are refused before anybody is answered."""
    held.hold()
    with ThreadPoolExecutor(ASKED) as threads:
        asked = [threads.submit(held.server.classify) for _ in range(ASKED)]
        until(lambda: sum(request.done() for request in asked) >= ASKED - QUEUE - 2 * BATCH)
        refused = [request.result() for request in asked if request.done()]
        held.release()
        outcomes = [request.result() for request in asked]
    assert {status for status, _ in refused} == {503}
    assert all("Exceeds maximum queue size" in str(answer) for status, answer in outcomes if status != 200)
    answered = sum(status == 200 for status, _ in outcomes)
    assert QUEUE <= answered <= QUEUE + 2 * BATCH
    assert held.server.classify()[0] == 200


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


def test_sigterm_finishes_what_was_taken_and_takes_nothing_new(held: HeldServer) -> None:
    held.hold()
    with ThreadPoolExecutor(QUEUE + 1) as threads:
        taken = [threads.submit(held.server.classify) for _ in range(QUEUE)]
        until(lambda: held.taken() >= QUEUE)
        held.server.process.send_signal(signal.SIGTERM)
        time.sleep(0.2)  # it has the time to drop what it should finish
        held.release()
        assert [request.result()[0] for request in taken] == [200] * QUEUE
        assert refused(held.server)
    assert held.server.wait() == 0
    assert held.server.shm() == []
