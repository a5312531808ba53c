"""Probes and retired generations by themselves: what is a fault, what is much to do, and what is ended."""

from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from newsdesk.server.serving import keeper
from newsdesk.server.serving.deployment import Deployment
from newsdesk.server.serving.probes import EXAMPLE, Probes
from newsdesk.server.serving.settings import Settings
from newsdesk.server.serving.triton import TritonError, TritonRefusal
from newsdesk.server.serving.workspace import Workspace


@dataclass
class ScriptedTriton:
    """Answers as it is told, in turn; then as it did last."""

    ends: list[Exception | None]
    counts: list[int | Exception] = field(default_factory=lambda: [0])
    """How many requests the model has answered, each time that somebody looks."""
    stopped: bool = False
    computes: Any = None
    asked: list[str] = field(default_factory=list)

    def infer(self, text: str, timeout: float) -> None:
        assert timeout == 3.0
        self.asked.append(text)
        if self.computes:
            self.computes()
        if end := self.ends.pop(0) if len(self.ends) > 1 else self.ends[0]:
            raise end

    def answered(self, timeout: float) -> int:
        assert timeout == 3.0
        count = self.counts.pop(0) if len(self.counts) > 1 else self.counts[0]
        if isinstance(count, Exception):
            raise count
        return count


LATE = TritonError("tritonserver does not answer: timed out")


def failures(triton: ScriptedTriton, times: int, stubs: list[Any] | None = None) -> list[int]:
    """Probe so many times, and return the faults in a row after each."""
    probes = Probes()
    seen = []
    for _ in range(times):
        probes.ask(triton, stubs or [])  # type: ignore[arg-type]
        seen.append(probes.failed)
    return seen


def test_an_answer_ends_a_row_of_faults() -> None:
    assert failures(ScriptedTriton([LATE, LATE, None, LATE]), 4) == [1, 2, 0, 1]


def test_a_full_queue_is_no_fault_and_another_refusal_is() -> None:
    refusals = [TritonRefusal(503, "Exceeds maximum queue size"), TritonRefusal(500, "Stub process is not healthy")]
    triton = ScriptedTriton([LATE, *refusals, refusals[0]])
    assert failures(triton, 4) == [1, 1, 2, 2]
    probes = Probes()
    probes.ask(ScriptedTriton([refusals[1]]), [])  # type: ignore[arg-type]
    assert "Stub process is not healthy" in probes.problem


def test_a_late_answer_is_no_fault_while_others_are_answered() -> None:
    """Seven, and seven still: a fault. Eight: none. Whoever only finds the cache's answers counts for nothing."""
    assert failures(ScriptedTriton([LATE], [7, 7, 8, 8, 9]), 5) == [1, 2, 2, 3, 3]
    assert failures(ScriptedTriton([LATE], [0, 1]), 2) == [1, 1]  # none yet is a count, too


def test_without_statistics_a_late_answer_is_a_fault() -> None:
    assert failures(ScriptedTriton([LATE], [TritonError("away")]), 3) == [1, 2, 3]


def test_a_tritonserver_that_was_stopped_is_the_supervisors_business() -> None:
    assert failures(ScriptedTriton([LATE], stopped=True), 3) == [0, 0, 0]


@pytest.mark.parametrize(("seconds", "faults"), [(0.07, [0, 0]), (0.05, [1, 2])])
def test_a_process_that_computes_is_busy_and_one_that_does_not_hangs(seconds: float, faults: list[int]) -> None:
    """The probe waits three seconds, 0.06 of them at least; the one beside it computes all the time."""
    slow, quick = SimpleNamespace(cpu_seconds=5.0), SimpleNamespace(cpu_seconds=9.0)
    stubs = [BackendProcess(slow), BackendProcess(quick)]

    def compute() -> None:
        slow.cpu_seconds += seconds
        quick.cpu_seconds += 3

    assert failures(ScriptedTriton([LATE], computes=compute), 2, stubs) == faults


class BackendProcess:
    """A backend process; as hashable as the real one."""

    def __init__(self, clock: SimpleNamespace) -> None:
        self._clock = clock

    @property
    def cpu_seconds(self) -> float:
        return self._clock.cpu_seconds


def test_computing_is_an_excuse_for_ten_minutes_and_an_answer_renews_it() -> None:
    """Two hundred probes of three seconds."""
    clock = SimpleNamespace(cpu_seconds=0.0)

    def compute() -> None:
        clock.cpu_seconds += 1

    assert failures(ScriptedTriton([LATE], computes=compute), 202, [BackendProcess(clock)])[198:] == [0, 0, 1, 2]
    renewed = ScriptedTriton([*[LATE] * 150, None, LATE], computes=compute)
    assert failures(renewed, 352, [BackendProcess(clock)])[349:] == [0, 0, 1]
    others = ScriptedTriton([LATE], [7] * 150 + [8], computes=compute)  # somebody else's answer does, as well
    assert failures(others, 352, [BackendProcess(clock)])[349:] == [0, 0, 1]


def test_what_is_forgotten_begins_anew() -> None:
    probes, triton = Probes(), ScriptedTriton([LATE], [7, 7, 8])
    for _ in range(2):
        probes.ask(triton, [])  # type: ignore[arg-type]
    assert probes.failed == 2
    probes.forget()
    assert probes.failed == 0
    probes.ask(triton, [])  # type: ignore[arg-type]
    assert probes.failed == 1  # the eight that it sees are no more than a first look
    assert probes.problem == str(LATE)


def test_what_is_forgotten_includes_how_long_was_computed() -> None:
    clock, probes = SimpleNamespace(cpu_seconds=0.0), Probes()

    def compute() -> None:
        clock.cpu_seconds += 1

    assert probes.problem == ""
    triton = ScriptedTriton([LATE], computes=compute)
    for _ in range(150):
        probes.ask(triton, [BackendProcess(clock)])  # type: ignore[list-item, arg-type]
    probes.forget()
    for _ in range(200):
        probes.ask(triton, [BackendProcess(clock)])  # type: ignore[list-item, arg-type]
    assert probes.failed == 0
    probes.ask(triton, [BackendProcess(clock)])  # type: ignore[list-item, arg-type]
    assert probes.failed == 1


def test_no_probe_is_the_text_of_another_to_a_cache_and_all_are_to_a_member() -> None:
    triton = ScriptedTriton([None])
    failures(triton, 40)
    assert len(set(triton.asked)) == 40
    assert {text.strip() for text in triton.asked} == {EXAMPLE}
    assert triton.asked[:3] == [EXAMPLE + mark for mark in ("\t", "\t ", "\t\t")]


class Retired:
    """A backend process of a generation that was replaced; it ends when it is killed, or of itself."""

    def __init__(self) -> None:
        self.alive, self.killed = True, False

    def kill(self) -> None:
        self.alive, self.killed = False, True


def test_a_retired_generation_that_triton_never_unloads_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fifteen seconds, and two for each of the three instances: 21 after the fresh ones came."""
    clock = SimpleNamespace(now=100.0)
    monkeypatch.setattr(keeper, "time", SimpleNamespace(monotonic=lambda: clock.now))
    settings = Settings(model_repository=tmp_path, state=tmp_path)
    deployment = Deployment(tmp_path / "tiny", "openvino:int8", 3)
    subject = keeper.Keeper(deployment, settings, Workspace(tmp_path), print, lambda: False)
    hanging, unloaded = Retired(), Retired()
    subject._retired = {hanging: 100.0, unloaded: 100.0}  # type: ignore[dict-item]
    clock.now = 110.0
    unloaded.alive = False
    subject._end_retired()
    assert [*subject._retired] == [hanging]
    clock.now = 121.0
    subject._end_retired()
    assert not hanging.killed
    clock.now = 121.1
    subject._end_retired()
    assert hanging.killed
    assert not unloaded.killed
    assert subject._retired == {}
