"""Once it has served, `newsdesk serve` gives up for nothing: it tries again, is not ready, and says why."""

import contextlib
import os
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from tests.holding import until
from tests.launching import MODEL, OPTIONS, Server, free_ports, gone, write_repository
from tests.strangers import needs_root

Launch = Callable[..., Server]
READY = "Ctrl-C stops it"


def test_starts_that_fail_and_a_taken_port_are_outlasted_and_told(launch: Launch, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    model = MODEL.replace(
        "lifeline.hold()",
        f'lifeline.hold()\n        if os.path.exists("{broken}"): raise RuntimeError("no luck today")',
    )
    port = free_ports()[0]
    options = [*OPTIONS[:-1], "--gateway-port", str(port)]
    server = launch(write_repository(tmp_path / "models", model), options=options)
    server.until(READY)

    def reason() -> str:
        answer = httpx.get(f"http://127.0.0.1:{port}/health/ready", timeout=30)
        return str(answer.json().get("detail", "")) if answer.status_code == 503 else ""

    broken.touch()
    server.tritonserver().kill()
    server.until("RuntimeError: no luck today", count=2)  # a first restart that failed ended it
    until(lambda: "no luck today" in reason())
    broken.unlink()
    server.until("restarted in")
    until(lambda: not reason())

    os.kill(server.process.pid, signal.SIGSTOP)
    family = server.family()
    family[0].kill()
    assert gone(family, 30)
    with contextlib.ExitStack() as stack:
        until(lambda: taken(stack, server.ports[0]))
        os.kill(server.process.pid, signal.SIGCONT)
        server.until(f"port {server.ports[0]} is taken by another process; waiting for it")
        until(lambda: f"port {server.ports[0]} is taken" in reason())
    server.until("restarted in", count=2)
    until(lambda: not reason())
    assert server.classify()[0] == 200


def taken(stack: contextlib.ExitStack, port: int) -> bool:
    with contextlib.suppress(OSError):
        stack.enter_context(socket.create_server(("127.0.0.1", port)))
        return True
    return False


def test_a_version_that_comes_while_none_starts_serves(launch: Launch, tmp_path: Path) -> None:
    """An operator's way out of a version that starts no more, without a stop."""
    broken = tmp_path / "broken"
    model = MODEL.replace(
        "lifeline.hold()", f'lifeline.hold()\n        if os.path.exists("{broken}"): raise RuntimeError("never again")'
    )
    repository = write_repository(tmp_path / "models", model)
    server = launch(repository)
    server.until(READY)
    broken.touch()
    server.tritonserver().kill()
    server.until("never again")
    (repository / "ag_news" / "1" / "model.py").unlink()
    (repository / "ag_news" / "1" / "model.py").write_text(MODEL.replace("stand-in", "second"))
    server.process.send_signal(signal.SIGUSR1)
    server.until("restarted in")
    assert server.classify()[1]["ANSWERED_BY"] == ["second"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "state0"  # where `launch` has its first server's state
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "newsdesk-test", folder], check=False)
    if mounted.returncode:
        pytest.skip("no file system can be mounted here")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


@needs_root
def test_a_full_state_disk_ends_nothing(small_disk: Path, launch: Launch, repository: Path) -> None:
    server = launch(repository)
    server.until(READY)
    filler = small_disk / "filler"
    with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
        while True:
            file.write(b"x" * 4096)
    assert os.statvfs(small_disk).f_bavail == 0
    server.stubs()[0].kill()
    server.until("fresh ones did not start: [Errno 28] No space left on device")
    server.until("restarted in")
    assert server.classify()[0] == 200
    server.tritonserver().kill()
    server.until("restarted in", count=2)
    assert server.classify()[0] == 200
    server.process.send_signal(signal.SIGUSR1)
    server.until("not loaded, the version before goes on")
    filler.unlink()
    server.stubs()[0].kill()
    server.until("healed in")
    assert server.classify()[0] == 200


def test_a_model_is_unloaded_until_it_is_loaded(launch: Launch, repository: Path) -> None:
    server = launch(repository)
    server.until(READY)
    server.process.send_signal(signal.SIGUSR2)
    server.until(" unloaded\n")
    assert server.classify()[0] in (400, 404)
    server.tritonserver().kill()  # what died meanwhile comes back as it was
    server.until("tritonserver died")
    until(lambda: server.ask("/v2/health/live")[0] == 200 if listens(server) else False)
    assert server.classify()[0] in (400, 404)
    server.process.send_signal(signal.SIGUSR1)
    server.until(" loaded\n")
    assert server.classify()[0] == 200


def listens(server: Server) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", server.ports[0]), 1):
        return True
    return False
