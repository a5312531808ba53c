"""The gateway's process beside Triton's: kept alive, drained, never left behind; and healing as it sees it."""

import contextlib
import os
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import httpx
import psutil
import pytest

from newsdesk.server.gateway.settings import Launch
from newsdesk.server.machine import processes
from newsdesk.server.serving.gateway import Gateway, GatewayError
from tests.holding import Hold, until
from tests.launching import Callers, Server, free_ports, gone, write_repository
from tests.server.gateway import gateways
from tests.server.gateway.conftest import STAND_IN


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[tuple[Server, str]]:
    """A server of the test's own with an open gateway, and the gateway's URL."""
    (port, *_) = free_ports()
    options = ["--target", "openvino:int8", "--instances", "2", "--gateway-port", str(port)]
    server = Server(write_repository(tmp_path / "models", STAND_IN.read_text()), tmp_path / "state", options=options)
    server.start()
    try:
        server.until("Ctrl-C stops it")
        yield server, f"http://127.0.0.1:{port}"
    finally:
        server.dismiss()


def gateway_of(server: Server) -> processes.Process:
    below = psutil.Process(server.process.pid).children()
    (gateway,) = [child for child in below if "newsdesk.server.gateway" in child.cmdline()]
    return processes.find(gateway.pid)


def ask(url: str, text: str = "shares") -> httpx.Response:
    return httpx.post(f"{url}/v1/classify", json={"text": text}, timeout=60)


class GatewayCallers(Callers):
    """Four callers that ask without a pause, by two protocols, and what came of it."""

    def __init__(self, url: str) -> None:
        super().__init__(*[partial(self._ask, caller) for caller in range(4)])
        self._url, self.outcomes = url, Counter[str]()
        self._answered = [0] * 4

    def go_on(self, answers: int) -> None:
        """Wait for so many more answers of each caller: what was in flight at a death before is then answered, too."""
        wanted = [count + answers for count in self._answered]
        until(lambda: all(count >= least for count, least in zip(self._answered, wanted, strict=True)))

    def _ask(self, caller: int) -> None:
        inference = {"inputs": [{"name": "TEXT", "shape": [1, 1], "datatype": "BYTES", "data": ["shares"]}]}
        path, body = ("/v1/classify", {"text": "shares"}) if caller % 2 else ("/v2/models/ag_news/infer", inference)
        with gateways.client(self._url) as client:
            while not self._over.is_set():
                try:
                    answer = client.post(path, json=body)
                    self.outcomes["ok" if answer.status_code == 200 else answer.text[:200]] += 1
                    self._answered[caller] += 1
                except httpx.HTTPError as error:
                    self.outcomes[repr(error)] += 1
                time.sleep(0.005)


def test_healings_are_invisible_at_the_gateway(alone: tuple[Server, str]) -> None:
    """I 95: a backend process dies, then all of tritonserver; no request fails. And a dead gateway comes back."""
    server, url = alone
    with GatewayCallers(url) as load:
        load.go_on(3)
        server.stubs()[0].kill()
        server.until("healed")
        load.go_on(5)
        server.tritonserver().kill()
        server.until("restarted in")
        load.go_on(5)
    assert set(load.outcomes) == {"ok"}
    first = gateway_of(server)
    first.kill()
    server.until("the gateway died (code -9); restarting it")
    until(lambda: answers(url))
    second = gateway_of(server)
    assert second != first
    os.kill(second.pid, signal.SIGSTOP)
    server.until("the gateway was stopped by a signal; restarting it")
    until(lambda: answers(url))
    assert gateway_of(server) != second


def listens(url: str) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])), 1):
        return True
    return False


def answers(url: str) -> bool:
    try:
        return ask(url).status_code == 200
    except httpx.TransportError:
        return False


def test_a_stop_answers_what_is_under_way_and_leaves_nothing(alone: tuple[Server, str], hold: Hold) -> None:
    server, url = alone
    family = [*server.family(), gateway_of(server)]
    answers: list[httpx.Response] = []
    watching = threading.Thread(target=lambda: httpx.get(f"{url}/v1/metrics/live", timeout=30))
    asking = threading.Thread(target=lambda: answers.append(ask(url, hold.text)))
    watching.start()
    asking.start()
    hold.until_computing()
    server.process.send_signal(signal.SIGTERM)
    until(lambda: not listens(url))  # the gateway has been told
    hold.release()
    assert server.wait(20) == 0
    asking.join()
    watching.join()
    assert [answer.status_code for answer in answers] == [200]
    assert gone(family, 0)
    assert server.shm() == []


def test_no_gateway_survives_its_launcher(alone: tuple[Server, str]) -> None:
    server, _ = alone
    family = [*server.family(), gateway_of(server)]
    server.process.kill()
    server.wait()
    assert gone(family, 30)


def test_serve_refuses_to_stand_open_beyond_loopback(tmp_path: Path) -> None:
    ports = free_ports()
    options = ["--target", "openvino:int8", "--gateway-host", "0.0.0.0", "--gateway-port", str(free_ports()[0])]
    server = Server(write_repository(tmp_path / "models"), tmp_path / "state", options=options, ports=ports).start()
    assert server.wait() == 2
    assert "the gateway asks for keys or tokens, but knows none, and 0.0.0.0 is not loopback" in server.text()
    assert "newsdesk keys create" in server.text()
    assert "--insecure" in server.text()


def test_a_gateway_that_cannot_start_says_why(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        gateway = Gateway(gateways.launch(tmp_path, port=taken.getsockname()[1]), tmp_path / "gateway.log")
        gateway.start()
        with pytest.raises(GatewayError, match=r"ended with code 3: .*address already in use"):
            gateways.until_listening(gateway)
        assert gateway.watch().startswith("the gateway died (code 3)")
        assert gateway.watch() == ""
        gateway.wait()


def test_a_launch_survives_its_pipe(tmp_path: Path) -> None:
    launch = gateways.launch(tmp_path, jwt_secret_file=tmp_path / "secret", cors_origin=("https://a.example",))
    assert Launch.decode(launch.encode()) == launch
    assert os.fspath(tmp_path) in launch.encode().decode()
