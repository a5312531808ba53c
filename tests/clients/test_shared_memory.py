"""System shared memory with a real Triton (field notes 57 to 62)."""

import contextlib
import os
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import tritonclient.grpc
from tritonclient.utils import InferenceServerException, shared_memory

from newsdesk.clients import Client, DeadlineExceeded, Prediction
from newsdesk.clients.shared_memory import Region, Regions
from tests.clients.texts import numbered
from tests.clients.triton_process import Ports, Triton
from tests.holding import Hold, until
from tests.launching import Server

SHM = Path("/dev/shm")
OURS = "newsdesk-client-"


@pytest.fixture
def server(triton: Ports) -> Iterator[tritonclient.grpc.InferenceServerClient]:
    with tritonclient.grpc.InferenceServerClient(f"127.0.0.1:{triton.grpc}") as client:
        yield client


@pytest.fixture
def sharing(triton: Ports) -> Iterator[Client]:
    """A client that must not fall back."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", ResourceWarning)  # of what tests before left to the collector
        with Client(triton.grpc_url, shared_memory=True, timeout=20) as client:
            yield client


def registered(server: Any) -> set[str]:
    return set(server.get_system_shared_memory_status(as_json=True).get("regions", {}))


def until_unregistered(server: Any, name: str) -> None:
    """Retry while a request that nobody waits for any more is under way."""
    end = time.monotonic() + 20
    while name in registered(server):
        with contextlib.suppress(InferenceServerException):
            server.unregister_system_shared_memory(name)
        assert time.monotonic() < end


def files(process: int | None = None) -> set[str]:
    """Return one process's, this one's by default: another may be registering its own."""
    return {file.name for file in SHM.glob(f"{OURS}{process or os.getpid()}-*")}


def test_texts_of_many_threads_go_by_shared_memory(sharing: Client, server: Any) -> None:
    def ask(thread: int) -> list[bool]:
        numbers = range(thread * 100, thread * 100 + 100)
        answers = sharing.classify([numbered(number)[0] for number in numbers], quality="best")
        alone = sharing.classify(numbered(thread)[0])
        pairs = zip(numbers, answers, strict=True)
        right = [isinstance(answer, Prediction) and answer.label == numbered(n)[1] for n, answer in pairs]
        return [*right, alone.label == numbered(thread)[1]]

    with ThreadPoolExecutor(16) as threads:
        assert all(all(right) for right in threads.map(ask, range(32)))
    names = {name for name in registered(server) if name.startswith(OURS)}
    assert names
    assert files() == set()  # Triton has them mapped
    sharing.close()
    assert not names & registered(server)
    assert sharing.classify(["match", "", "x" * 300_000])[0].label == "Sports"  # type: ignore[union-attr]


def test_names_are_of_the_process_and_unique() -> None:
    """Field note 58."""
    regions = [Region(4096) for _ in range(100)]
    assert len({region.name for region in regions}) == 100
    assert all(region.name.startswith(f"{OURS}{os.getpid()}-") for region in regions)
    for region in regions:
        region.unlink()
        region.close()


def test_a_server_that_cannot_open_the_region_is_asked_once(
    triton: Ports, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Field note 57: another /dev/shm, as in another container."""
    monkeypatch.setattr("newsdesk.clients.shared_memory._SHM", tmp_path)
    with Client(triton.grpc_url, shared_memory=True) as client:
        with pytest.warns(RuntimeWarning, match="shares no memory with this client .*texts are sent over") as caught:
            answers = [client.classify("match"), *client.classify(["match"] * 200)]
        assert {getattr(answer, "label", None) for answer in answers} == {"Sports"}
        assert len(caught) == 1
    assert list(tmp_path.iterdir()) == []


def test_newsdesks_own_server_closes_the_endpoints(server_of_newsdesk: Server) -> None:
    with Client(f"grpc://127.0.0.1:{server_of_newsdesk.ports[1]}", shared_memory=True) as client:
        with pytest.warns(RuntimeWarning, match="restricted.*as `newsdesk serve` does") as caught:
            answers = [client.classify("match") for _ in range(2)]
        assert [answer.label for answer in answers] == ["Business"] * 2
        assert len(caught) == 1


@pytest.fixture
def server_of_newsdesk(tmp_path: Path) -> Iterator[Server]:
    from tests.launching import write_repository

    server = Server(write_repository(tmp_path / "models"), tmp_path / "state").start()
    server.until("Ctrl-C stops it")
    yield server
    server.dismiss()


def test_a_request_under_way_keeps_its_region(sharing: Client, server: Any, hold: Hold) -> None:
    """Field note 59: a region is unregistered while the model still has its request."""
    sharing.labels()

    def give_up(_: int) -> None:
        with pytest.raises(DeadlineExceeded):
            sharing.classify(hold.text, timeout=0.3)

    def parting() -> set[str]:
        return {region.name for region in sharing._here().transport._regions._parting}  # type: ignore[attr-defined]

    def given_up() -> bool:
        with ThreadPoolExecutor(4) as threads:
            list(threads.map(give_up, range(4)))
        return bool(parting())

    until(given_up)
    assert parting() <= registered(server)
    hold.release()

    def parted() -> bool:
        assert sharing.classify("match").label == "Sports"
        return not parting()

    until(parted)
    sharing.close()
    assert not {name for name in registered(server) if name.startswith(f"{OURS}{os.getpid()}-")}
    assert server.is_server_live()


KILLED = """
import os, sys
from newsdesk.clients import Client
client = Client(sys.argv[1], shared_memory=True)
client.classify("match")
print("ready", flush=True)
client.classify(sys.argv[2])
"""


def test_a_killed_client_is_in_nobodys_way(triton: Ports, sharing: Client, server: Any, hold: Hold) -> None:
    """Field note 60."""
    before = registered(server)
    for killed in range(2):
        command = [sys.executable, "-c", KILLED, triton.grpc_url, hold.text]
        child = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
        hold.until_computing(1 + killed)  # in the one process, then in the other
        child.send_signal(signal.SIGKILL)
        child.wait()
        child.stdout.close()
        assert files(child.pid) == set()
    hold.release()
    assert sharing.classify("match").label == "Sports"
    left = registered(server) - before
    assert len({name.split("-")[2] for name in left}) == 3
    for name in left:
        if f"-{os.getpid()}-" not in name:  # the dead ones'
            until_unregistered(server, name)
    assert sharing.classify("match").label == "Sports"


def test_what_a_client_left_behind_is_removed_by_a_later_one(triton: Ports) -> None:
    """Field note 60, killed while it registers."""
    dead, living = (SHM / f"{OURS}0-{name}" for name in ("dead", "living"))
    for file in (dead, living):
        file.write_bytes(b"")
    try:
        os.utime(dead, (0, 0))
        with Client(triton.grpc_url, shared_memory=True) as client:
            client.classify("match")
        assert not dead.exists()
        assert living.exists()
    finally:
        for file in (dead, living):
            file.unlink(missing_ok=True)


@pytest.mark.parametrize("count", [2_000, pytest.param(10_000, marks=pytest.mark.long)])
def test_thousands_of_regions_leave_nothing_and_a_restart_gets_new_ones(own_triton: Triton, count: int) -> None:
    """Field note 61."""
    own_triton.start()
    own_triton.wait()
    with Client(own_triton.ports.grpc_url, shared_memory=True, timeout=60, retries=100) as client:
        client.classify("match")
        regions = client._here().transport._regions  # type: ignore[attr-defined]
        assert isinstance(regions, Regions)

        def once(_: int) -> None:
            region = regions._register(4096, 10)
            assert region is not None
            regions._drop(region)

        def opened() -> list[int]:
            return [len(list(Path(f"/proc/{pid}/fd").iterdir())) for pid in (os.getpid(), own_triton.pid)]

        with ThreadPoolExecutor(4) as threads:
            list(threads.map(once, range(100)))
            before = opened()
            list(threads.map(once, range(count)))
            assert all(after <= was + 8 for after, was in zip(opened(), before, strict=True))
        assert files() == set()
        own_triton.stop()
        own_triton.start()
        assert client.classify("match").label == "Sports"


def test_others_regions_stay_registered(sharing: Client, server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Field note 62: what is unregistered has a name, and it is ours."""
    handle = shared_memory.create_shared_memory_region("somebody-else", "/somebody-else", 64)
    try:
        server.register_system_shared_memory("somebody-else", "/somebody-else", 64)
        dropped: list[str] = []
        drop = Regions._drop
        monkeypatch.setattr(Regions, "_drop", lambda self, region: (dropped.append(region.name), drop(self, region)))
        sharing.classify(["match"] * 500)
        sharing.classify("match" + " " * 200_000)
        sharing.close()
        assert dropped
        assert all(name.startswith(f"{OURS}{os.getpid()}-") for name in dropped)
        assert "somebody-else" in registered(server)
    finally:
        server.unregister_system_shared_memory("somebody-else")
        shared_memory.destroy_shared_memory_region(handle)


@pytest.mark.parametrize("url", ["http://127.0.0.1:8000", "gateway+http://127.0.0.1:8080", "grpcs://127.0.0.1:8001"])
def test_only_plain_grpc_shares_memory(url: str) -> None:
    with pytest.raises(ValueError, match="expected grpc://host:port on the same host"):
        Client(url, shared_memory=True)
