"""A build says how many of its stages are done, and about how long the others take."""

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from newsdesk.build import progress
from newsdesk.build.pipeline import watching
from newsdesk.build.pipeline.artifacts import Artifact
from newsdesk.build.pipeline.graph import BuildStage
from newsdesk.build.pipeline.remaining import TYPICAL, Remaining, duration

TRAIN, EXPORT, JUDGE = (
    BuildStage(name, "module:function", of) for name, of in (("train", "a"), ("export", "a"), ("judge", ""))
)


class SetClock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def artifact(seconds: float) -> Artifact:
    return Artifact(Path(), {"seconds": seconds})


def record(root: Path, stage: str, name: str, seconds: float, made: str = "2026-01-01T00:00:00Z") -> None:
    folder = root / stage / f"{name}{made[:4]}"
    folder.mkdir(parents=True)
    entry = {"stage": stage, "name": name, "seconds": seconds, "made": made}
    (folder / "entry.json").write_text(json.dumps(entry))


def test_stages_take_what_they_took_the_last_time(tmp_path: Path):
    record(tmp_path, "train", "a", 90, "2025-01-01T00:00:00Z")
    record(tmp_path, "train", "a", 30)
    record(tmp_path, "export", "another", 12)
    record(tmp_path, "judge", "", 2)
    clock = SetClock()
    left = Remaining(tmp_path, clock)
    left.expect([TRAIN, EXPORT, JUDGE])
    assert left.seconds() == 30 + 12 + 2
    left.begin(TRAIN)
    clock.now += 10
    assert left.seconds() == 20 + 12 + 2
    clock.now += 1000  # longer than it took: what is behind it is left all the same
    assert left.seconds() == 12 + 2
    assert left.end(TRAIN, artifact(1010.0))
    assert (left.done, left.total, left.line()) == (1, 3, "1 of 3 stages are done, about 10 s left")


def test_without_a_record_the_pace_of_this_build_counts(tmp_path: Path):
    clock = SetClock()
    left = Remaining(tmp_path, clock)
    left.expect([TRAIN, EXPORT])
    assert left.seconds() == TYPICAL["train"] + TYPICAL["export"]
    left.begin(TRAIN)
    clock.now += 3 * TYPICAL["train"]
    left.end(TRAIN, artifact(3.0 * TYPICAL["train"]))
    assert left.seconds() == 3 * TYPICAL["export"]


def test_a_stage_that_was_there_tells_nothing_of_the_pace(tmp_path: Path):
    clock = SetClock()
    left = Remaining(tmp_path, clock)
    left.expect([TRAIN, EXPORT])
    left.begin(TRAIN)
    clock.now += 0.2
    assert not left.end(TRAIN, artifact(50.0))
    assert left.seconds() == TYPICAL["export"]


def test_stages_that_are_no_longer_expected_leave_what_is_done(tmp_path: Path):
    left = Remaining(tmp_path, SetClock())
    left.expect([TRAIN, EXPORT, JUDGE])
    left.begin(TRAIN)
    left.end(TRAIN, artifact(0.0))
    left.expect([TRAIN, JUDGE])
    assert (left.done, left.total) == (1, 2)
    left.begin(JUDGE)
    left.end(JUDGE, artifact(0.0))
    assert left.line() == "2 of 2 stages are done"


def test_a_record_that_cannot_be_read_is_passed_over(tmp_path: Path):
    (tmp_path / "train" / "key").mkdir(parents=True)
    (tmp_path / "train" / "key" / "entry.json").write_text("{")
    left = Remaining(tmp_path, SetClock())
    left.expect([TRAIN])
    assert left.seconds() == TYPICAL["train"]


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0, "1 s"), (7.4, "7 s"), (44, "40 s"), (94, "90 s"), (100, "2 min"), (4800, "1 h 20 min")]
)
def test_durations_are_as_rough_as_the_estimate(seconds: float, shown: str):
    assert duration(seconds) == shown


def watched(folder: Path, monkeypatch: pytest.MonkeyPatch, terminal: bool) -> tuple[str, list[str]]:
    """Return what is drawn, and the lines said, of two stages of which the second was there."""
    screen, lines = io.StringIO(), list[str]()
    monkeypatch.setattr(progress, "console", Console(file=screen, force_terminal=terminal, width=100))
    with watching.watch(folder, lines.append) as watch:
        watch.expect([TRAIN, EXPORT])
        watch.begin(TRAIN)
        assert [*progress.track(["part"], "parts of a stage")] == ["part"]  # its bar joins the build's
        watch.end(TRAIN, artifact(0.0))
        watch.begin(EXPORT)
        watch.end(EXPORT, artifact(50.0))
    return screen.getvalue(), lines


def test_without_a_terminal_a_line_stands_behind_each_stage_that_ran(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    drawn, lines = watched(tmp_path, monkeypatch, terminal=False)
    assert not drawn.strip()
    (line,) = lines
    assert line.startswith("  1 of 2 stages are done, about ")


def test_on_a_terminal_a_bar_says_what_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    drawn, lines = watched(tmp_path, monkeypatch, terminal=True)
    assert not lines
    assert "stages" in drawn
    assert "left" in drawn
