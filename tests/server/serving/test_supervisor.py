import contextlib
import http.client
import json
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from newsdesk.server.machine import processes
from newsdesk.server.serving.deployment import Deployment
from newsdesk.server.serving.keeper import Broken, Keeper
from newsdesk.server.serving.settings import Settings
from newsdesk.server.serving.triton import TritonError, TritonRefusal
from newsdesk.server.serving.workspace import Workspace
from tests.holding import Hold, until
from tests.launching import MODEL, OPTIONS, Load, Server, gone, write_repository
from tests.server.gateway.conftest import STAND_IN

Launch = Callable[..., Server]
READY = "Ctrl-C stops it"
FAILS = """
class TritonPythonModel:
    def initialize(self, args):
        raise RuntimeError("the tokenizer is of another vocabulary")
"""


def test_a_killed_and_a_stopped_stub_are_healed_while_requests_go_on(launch: Launch, repository: Path) -> None:
    """C 32, 33, I 95, 99; and after it, a stop leaves nothing behind, though Triton would wait for the dead."""
    server = launch(repository)
    server.until(READY)
    first = server.stubs()
    with Load(server) as load:
        load.go_on(3)
        first[0].kill()
        server.until("healed")
        assert f"backend process {first[0].pid} died; starting fresh ones" in server.text()
        load.go_on(2)  # those that the dead one had taken fail within a second
        failed = load.outcomes.total() - load.outcomes["ok"]
        load.go_on(20)
        assert load.outcomes.total() - load.outcomes["ok"] == failed, load.outcomes
        second = [stub for stub in server.stubs() if stub not in first]
        assert len(second) == 2
        os.kill(second[0].pid, signal.SIGSTOP)
        server.until("healed", count=2)
    assert server.classify()[0] == 200
    family = [*server.family(), *first, *second]
    server.process.send_signal(signal.SIGTERM)
    assert server.wait() == 0
    assert gone(family, 0)
    assert server.shm() == []
    assert list((server.state / "run").iterdir()) == []


def test_what_happens_is_told_to_programs_as_a_json_object_a_line(launch: Launch, repository: Path) -> None:
    server = launch(repository, options=[*OPTIONS, "--json"])
    server.until('"event": "serving"')
    server.stubs()[0].kill()
    server.until("healed")
    server.process.send_signal(signal.SIGTERM)
    assert server.wait() == 0
    events = [json.loads(line) for line in server.text().splitlines()]
    (serving,) = [event for event in events if event["event"] == "serving"]
    assert serving["grpc"] == f"grpc://127.0.0.1:{server.ports[1]}"
    assert (serving["gateway"], serving["models"]["ag_news"]["answer"]["label"]) == (None, "Business")
    assert events[-1] == {"time": pytest.approx(time.time(), abs=30), "event": "note", "text": "stopped"}


def test_a_killed_tritonserver_is_restarted(launch: Launch, repository: Path) -> None:
    server = launch(repository)
    server.until(READY)
    family = server.family()
    family[0].kill()
    output = server.until("restarted in")
    assert "tritonserver died (code -9); restarting it" in output
    assert gone(family, 0)
    assert server.classify()[0] == 200
    assert len(server.shm()) == 2


def test_a_stopped_tritonserver_is_replaced(launch: Launch, repository: Path) -> None:
    server = launch(repository)
    server.until(READY)
    family = server.family()
    os.kill(family[0].pid, signal.SIGSTOP)
    server.until("tritonserver was stopped by a signal; restarting it")
    server.until("restarted in")
    assert gone(family, 0)
    assert server.classify()[0] == 200


def test_no_backend_process_outlives_its_tritonserver(launch: Launch, repository: Path) -> None:
    """Its supervisor cannot help: it is stopped."""
    server = launch(repository)
    server.until(READY)
    family = server.family()
    for pid in server.process.pid, family[1].pid:
        os.kill(pid, signal.SIGSTOP)
    family[0].kill()
    try:
        assert gone(family, 30)
    finally:
        os.kill(server.process.pid, signal.SIGCONT)
    server.until("restarted in")


def test_a_model_that_fails_to_load_shows_its_reason(launch: Launch, tmp_path: Path) -> None:
    """C 31, E 49."""
    server = launch(write_repository(tmp_path / "models", FAILS))
    assert server.wait() == 1
    assert (
        "model ag_news version 1 failed to load: RuntimeError: the tokenizer is of another vocabulary" in server.text()
    )
    assert "model.py(4): initialize" in server.text()
    assert server.shm() == []


def test_a_model_that_loads_but_cannot_answer_shows_its_reason(launch: Launch, tmp_path: Path) -> None:
    """C 33: proven by a real request, not by Triton's readiness."""
    broken = MODEL.replace("responses = []", 'raise ValueError("no such label")')
    server = launch(write_repository(tmp_path / "models", broken))
    assert server.wait() == 1
    assert "the model ag_news was loaded, but refuses a real request" in server.text()
    assert "ValueError: no such label" in server.text()


def test_a_corrupt_model_is_refused_before_triton_starts(launch: Launch, tmp_path: Path) -> None:
    """E 48."""
    repository = write_repository(tmp_path / "models")
    (repository / "ag_news" / "1" / "tokenizer.json").write_text("{}")
    server = launch(repository)
    assert server.wait() == 2
    assert "tokenizer.json: sha256 is" in server.text()


def test_ctrl_c_stops_and_a_second_one_at_once(launch: Launch, tmp_path: Path, hold: Hold) -> None:
    """The first waits for what is under way, the second for nothing."""
    server = launch(write_repository(tmp_path / "models", STAND_IN.read_text()))
    server.until(READY)
    family = server.family()
    asking = threading.Thread(target=lost, args=(server, hold.text))
    asking.start()
    hold.until_computing()
    server.process.send_signal(signal.SIGINT)
    until(lambda: not ready(server))
    assert server.process.poll() is None
    server.process.send_signal(signal.SIGINT)
    assert server.wait() == 0
    asking.join()
    assert gone(family, 0)
    assert server.shm() == []


def ready(server: Server) -> bool:
    with contextlib.suppress(OSError, http.client.HTTPException):
        return server.ask("/v2/health/ready")[0] == 200
    return False


def lost(server: Server, text: str) -> None:
    with contextlib.suppress(OSError, http.client.HTTPException):
        server.classify(text)


def test_nothing_survives_a_killed_launcher_and_the_next_start_tidies_up(launch: Launch, repository: Path) -> None:
    server = launch(repository)
    server.until(READY)
    family = server.family()
    family[1].kill()  # a dead stub's region is what Triton's own stubs would leave behind
    for process in family[0], family[2]:  # what is stopped ends by itself as little as what waits in vain
        os.kill(process.pid, signal.SIGSTOP)
    server.process.kill()
    server.wait()
    assert gone(family, 30)
    (left,) = (server.state / "run").iterdir()
    following = Server(repository, server.state).start()
    try:
        following.until(READY)
        assert f"removed what a killed server left behind ({left.name})" in following.text()
        assert server.shm() == []
        assert not left.exists()
    finally:
        following.stop()


def test_a_reload_loses_no_request_and_a_bad_version_changes_nothing(launch: Launch, tmp_path: Path) -> None:
    """E 50, 51, 52, 53."""
    repository = write_repository(tmp_path / "models")
    server = launch(repository)
    server.until(READY)
    model = repository / "ag_news" / "1" / "model.py"

    def reload(source: str, line: str, count: int = 1) -> None:
        partial = tmp_path / "model.py"
        partial.write_text(source)
        partial.replace(model)
        server.process.send_signal(signal.SIGUSR1)
        server.until(line, count=count)

    def answered_by() -> str:
        return server.classify()[1]["ANSWERED_BY"][0]

    with Load(server) as load:
        reload(MODEL.replace("stand-in", "second"), " loaded\n")
        assert answered_by() == "second"
        reload(FAILS, "RuntimeError: the tokenizer is of another vocabulary")
        assert "not loaded, the version before goes on" in server.text()
        assert answered_by() == "second"
        shutil.move(repository / "ag_news" / "config.pbtxt", tmp_path)
        server.process.send_signal(signal.SIGUSR1)
        server.until("no config.pbtxt")
        shutil.move(tmp_path / "config.pbtxt", repository / "ag_news")
        reload(MODEL.replace("stand-in", "third"), " loaded\n", count=2)
        assert answered_by() == "third"
        load.go_on(10)
    assert set(load.outcomes) == {"ok"}


def test_many_reloads_leave_it_as_large_as_before(launch: Launch, tmp_path: Path) -> None:
    """C 39: tritonserver's own memory, after each generation of backend processes is gone."""
    server = launch(write_repository(tmp_path / "models"))
    server.until(READY)
    triton = server.tritonserver().pid

    def reload(count: int) -> int:
        server.process.send_signal(signal.SIGUSR1)
        server.until(" loaded\n", count=count)
        lines = Path(f"/proc/{triton}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))

    sizes = [reload(count) for count in range(1, 7)]
    assert sizes[-1] - sizes[2] < 2250, f"kB after each reload: {sizes}"
    # Triton ends the processes before one after another, a second each.
    until(lambda: len(server.shm()) == len(server.stubs()) == 2)


class Scripted:
    """A Triton that answers probes as told."""

    running, stopped = True, False

    def __init__(self, *outcomes: Exception, progress: int = 0) -> None:
        self._outcomes, self._count, self._progress = iter(outcomes), 0, progress

    def infer(self, text: str, timeout: float) -> None:
        raise next(self._outcomes)

    def answered(self, timeout: float) -> int:
        self._count += self._progress
        return self._count

    def ask_to_stop(self) -> None: ...


@pytest.mark.parametrize(
    ("triton", "healings"),
    [
        (Scripted(*[TritonError("timed out")] * 4), 1),
        (Scripted(*[TritonRefusal(500, "Stub process is not healthy")] * 4), 1),
        (Scripted(*[TritonError("timed out")] * 4, progress=50), 0),  # a long queue, which moves
        (Scripted(*[TritonRefusal(503, "exceeds maximum queue size")] * 4), 0),
    ],
)
def test_failing_probes_heal_and_a_long_queue_does_not(
    repository: Path, tmp_path: Path, triton: Scripted, healings: int
) -> None:
    """C 33, B 27."""
    keeper = kept(repository, tmp_path)
    healed: list[str] = []
    keeper.endpoint = triton  # type: ignore[assignment]
    keeper._heal = healed.append  # type: ignore[assignment, method-assign]
    for _ in range(4):
        keeper._probe()
    assert len(healed) == healings


@pytest.mark.parametrize(("computes", "healings"), [((0.9, 0.2), 0), ((0.9, 0.0), 1), ((), 1)])
def test_processes_that_all_compute_are_left_to_it_for_a_while(
    repository: Path, tmp_path: Path, computes: tuple[float, ...], healings: int
) -> None:
    """Long articles keep every process busy for longer than a probe waits; one that hangs computes nothing."""
    keeper = kept(repository, tmp_path)
    healed: list[str] = []
    keeper.endpoint = Scripted(*[TritonError("timed out")] * 300)  # type: ignore[assignment]
    keeper._heal = healed.append  # type: ignore[assignment, method-assign]
    keeper._stubs = {Computing(share) for share in computes}  # type: ignore[misc]
    for _ in range(4):
        keeper._probe()
    assert len(healed) == healings
    with contextlib.suppress(Broken):  # ten minutes of it are a fault, whatever they compute
        for _ in range(220):
            keeper._probe()
    assert healed


def kept(repository: Path, state: Path) -> Keeper:
    """Return the keeper of the stand-in, before any server."""
    settings = Settings(model_repository=repository, state=state)
    deployment = Deployment(repository / "ag_news", "openvino:int8", 2)
    return Keeper(deployment, settings, Workspace(state), lambda _: None, lambda: False)


class Computing:
    """A backend process that computes for a share of its time."""

    def __init__(self, share: float) -> None:
        self._share, self._seconds = share, 0.0

    @property
    def cpu_seconds(self) -> float:
        self._seconds += self._share * 5.0
        return self._seconds


def test_a_process_tells_how_long_it_computed() -> None:
    me = processes.myself()
    before, until = me.cpu_seconds, time.process_time() + 0.3
    while time.process_time() < until:
        pass
    assert 0.2 < me.cpu_seconds - before < 5
    assert processes.Process(me.pid, me.start + 1).cpu_seconds == 0
