"""A process shows the steps of its work to whoever watches it."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from newsdesk.server.runtime import cancellation, heartbeat


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    heartbeat.start(8.5, {heartbeat.VARIABLE: str(tmp_path)})
    yield tmp_path
    heartbeat.stop()


def shown(folder: Path) -> heartbeat.Heartbeat:
    beat = heartbeat.read(folder, os.getpid())
    assert beat is not None
    return beat


def test_work_is_shown_from_its_begin_to_its_end(folder: Path) -> None:
    assert (shown(folder).step, shown(folder).bound) == (None, 8.5)
    cancellation.check()  # there is no work at hand
    assert shown(folder).step is None
    with heartbeat.working():
        time.sleep(0.05)
        late = shown(folder).step
        assert late is not None
        assert late >= 0.05
        before = time.monotonic()
        cancellation.check()  # between two calls of an engine
        early = shown(folder).step
        assert early is not None
        assert early <= time.monotonic() - before
    assert shown(folder).step is None


def test_work_that_fails_is_at_an_end(folder: Path) -> None:
    with pytest.raises(RuntimeError), heartbeat.working():
        raise RuntimeError
    assert shown(folder).step is None


def test_a_process_without_work_shows_that_it_lives(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    heartbeat.stop()
    monkeypatch.setattr(heartbeat, "_LOOK_SECONDS", 0.01)
    heartbeat.start(1.0, {heartbeat.VARIABLE: str(folder)})
    deadline = time.monotonic() + 10
    began = time.monotonic()
    while time.monotonic() - began <= shown(folder).look + 0.01:  # it has looked since
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_nobody_watches_or_the_disk_is_full(tmp_path: Path) -> None:
    heartbeat.start(1.0, {})
    heartbeat.start(1.0, {heartbeat.VARIABLE: str(tmp_path / "nowhere")})
    with heartbeat.working():
        heartbeat.beat()
    heartbeat.stop()
    assert heartbeat.read(tmp_path, os.getpid()) is None
    (tmp_path / "7").write_bytes(b"half")
    assert heartbeat.read(tmp_path, 7) is None
