"""A backend process that hangs beside one that answers is seen, ended and replaced."""

import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from newsdesk.server.serving import hung
from tests import tiny
from tests.launching import Server, gone

Launch = Callable[..., Server]
BOUND = 10.0
HANGING = """
from pathlib import Path

from newsdesk.server.runtime import backend

backend._LEAST_BOUND = 2.0


class TritonPythonModel(backend.TritonPythonModel):
    def initialize(self, args):
        super().initialize(args)
        classify = self._classifier.classify

        def hang(texts, qualities):
            if "hang" in texts:
                Path({mark!r}).touch()
            while "hang" in texts:
                pass
            return classify(texts, qualities)

        self._classifier.classify = hang
"""


class HungProcess:
    def __init__(self, pid: int) -> None:
        self.pid, self.killed = pid, False

    def kill(self) -> None:
        self.killed = True


def ended(folder: Path, *beats: tuple[float | None, float]) -> tuple[list[bool], list[str]]:
    """Return who is ended, and what is told, of processes with these seconds since their last step and look."""
    now = 1_000_000_000_000  # a clock that stands: the seconds are just these
    stubs = [HungProcess(pid) for pid in range(len(beats))]
    for stub, (step, look) in zip(stubs, beats, strict=True):
        shown = [0 if step is None else now - int(step * 1e9), now - int(look * 1e9), int(BOUND * 1e9)]
        (folder / str(stub.pid)).write_bytes(np.array(shown, np.int64).tobytes())
    with pytest.MonkeyPatch.context() as clock:
        clock.setattr(time, "monotonic_ns", lambda: now)
        told = list(hung.end(stubs, folder))  # type: ignore[arg-type]
    return [stub.killed for stub in stubs], told


def test_who_makes_no_step_or_shows_nothing_hangs(tmp_path: Path) -> None:
    assert ended(tmp_path, (None, 0.5), (9.0, 0.5)) == ([False, False], [])
    killed, (told,) = ended(tmp_path, (None, 0.5), (11.0, 0.5))
    assert killed == [False, True]
    assert told == "backend process 1 hangs: no step of its work for 11 s; it is ended"
    killed, (told,) = ended(tmp_path, (0.1, 9.0), (0.1, 0.5))
    assert killed == [True, False]
    assert told == "backend process 0 hangs: it shows nothing for 9 s; it is ended"
    assert ended(tmp_path, (11.0, 1.0), (12.0, 1.0))[0] == [True, True]


def test_who_takes_just_as_long_as_it_may_does_not_hang(tmp_path: Path) -> None:
    assert ended(tmp_path, (BOUND, 0.5), (0.1, hung.LOOK_SECONDS)) == ([False, False], [])
    assert ended(tmp_path, (BOUND + 0.001, 0.5), (0.1, hung.LOOK_SECONDS + 0.001))[0] == [True, True]


def test_a_machine_that_slept_or_is_full_is_no_fault_of_theirs(tmp_path: Path) -> None:
    assert ended(tmp_path, (100.0, 100.0), (None, 100.0)) == ([False, False], [])
    assert ended(tmp_path, (100.0, 3.0)) == ([False], [])  # no look within less than three seconds
    assert ended(tmp_path, (100.0, 2.999))[0] == [True]


def test_who_shows_nothing_yet_is_left_alone(tmp_path: Path) -> None:
    stub = HungProcess(1)
    assert list(hung.end([stub], tmp_path)) == []  # type: ignore[list-item]
    assert not stub.killed


def test_one_in_a_loop_is_replaced_while_the_other_answers(launch: Launch, tmp_path: Path) -> None:
    repository = tiny.write_model(tmp_path / "models", tiny.write)
    (repository / "ag_news" / "1" / "model.py").write_text(HANGING.format(mark=str(tmp_path / "hangs")))
    options = ["--target", "onnxruntime:fp32", "--instances", "2", "--no-gateway"]
    server = launch(repository, options=options)
    server.until("Ctrl-C stops it")
    first = server.stubs()
    outcome: list[int] = []
    lost = threading.Thread(target=lambda: outcome.append(server.classify("hang")[0]))
    lost.start()
    while not (tmp_path / "hangs").exists():  # or both texts would make one batch
        time.sleep(0.02)
    assert server.classify("shares")[0] == 200
    server.until("hangs: no step of its work for")
    server.until("healed in")
    lost.join(60)
    assert not lost.is_alive()
    assert outcome != [200]  # its caller is told, instead of waiting for ever
    assert server.classify("shares")[0] == 200
    assert gone(first, 60)
    assert len(server.stubs()) == 2
