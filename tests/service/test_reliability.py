"""The shipped model loses processes under load, and a client of the SDK does not notice (notes 32, 33, 95, 99)."""

import re
import shutil
import time
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from newsdesk.clients import Client, NewsdeskError
from newsdesk.server.serving.settings import default_repository, default_state
from tests.headlines import TEXTS
from tests.launching import Callers, Server, gone


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Server]:
    """A server that may be broken, with what this machine's preparation found before."""
    if (default_state() / "prepared").is_dir():
        shutil.copytree(default_state() / "prepared", tmp_path / "state" / "prepared")
    server = Server(default_repository(), tmp_path / "state", ["--no-gateway"]).start()
    try:
        server.until("Ctrl-C stops it", 300)
        yield server
    finally:
        server.stop()


class Sdk(Callers):
    """Eight threads that classify without a pause through one client of the SDK, and what came of it."""

    def __init__(self, server: Server) -> None:
        self._client = Client(f"grpc://127.0.0.1:{server.ports[1]}", timeout=300, retries=1000)
        self.outcomes = Counter[str]()
        super().__init__(*[partial(self._ask, i) for i in range(8)])
        self._expected = [self._client.classify(text).label for text in TEXTS]

    def __exit__(self, *_: object) -> None:
        super().__exit__()
        self._client.close()

    def go_on(self) -> None:
        """Wait until some more have been answered."""
        before, deadline = self.outcomes["right"], time.monotonic() + 120
        while self.outcomes["right"] < before + 20:
            assert time.monotonic() < deadline, self.outcomes
            time.sleep(0.05)

    def _ask(self, i: int) -> None:
        while not self._over.is_set():
            i = (i + 1) % len(TEXTS)
            try:
                label = self._client.classify(TEXTS[i]).label
                self.outcomes["right" if label == self._expected[i] else f"{TEXTS[i]!r} is {label}"] += 1
            except NewsdeskError as error:
                self.outcomes[repr(error)] += 1


def until_whole(server: Server, count: int) -> None:
    """Wait for a healing or a restart: Triton aborts where a process died that held a lock (lock_exception), and is
    started anew then. How long it takes, `python -m benchmarks.healing` says.
    """
    deadline = time.monotonic() + 300
    while len(re.findall("healed in|restarted in", server.text())) < count:
        assert time.monotonic() < deadline, server.text()
        time.sleep(0.1)


@pytest.mark.timeout(900)
def test_what_is_killed_under_load_comes_back_and_the_sdk_loses_nothing(own: Server) -> None:
    with Sdk(own) as sdk:
        for count, died in enumerate(("died; starting fresh ones", "tritonserver died"), 1):
            sdk.go_on()
            victim = own.stubs()[0] if count == 1 else own.tritonserver()
            victim.kill()
            own.until(died)
            until_whole(own, count)
            sdk.go_on()
    assert set(sdk.outcomes) == {"right"}, sdk.outcomes
    family = own.family()
    own.stop()
    assert own.wait() == 0
    assert gone(family, 0)
    assert own.shm() == []
