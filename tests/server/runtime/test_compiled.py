"""Graphs are kept as they were compiled, and the next process takes nothing else for them."""

import multiprocessing
import shutil
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from newsdesk.server.runtime.engines import COMPILED
from newsdesk.server.runtime.engines.openvino import OpenVino
from tests import tiny


def answers(folder: Path) -> np.ndarray:
    (member,) = tiny.manifest.load(folder).members
    ids = np.array([[2, 4, 6, 3], [2, 8, 8, 3]], np.int64)
    return OpenVino(folder / member.graphs["fp32"].path, "fp32", 1)(ids, np.ones_like(ids)).copy()


def test_what_was_compiled_answers_alike_and_changed_weights_are_compiled_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = tmp_path / "compiled"
    for name, weight in {"first": 4.0, "second": 5.0}.items():
        tiny.write(tmp_path / name, weight=weight)
    alone = {name: answers(tmp_path / name) for name in ("first", "second")}
    assert not np.array_equal(alone["first"], alone["second"])
    monkeypatch.setenv(COMPILED, str(kept))
    for blobs, name in (1, "first"), (1, "first"), (2, "second"), (2, "first"):
        np.testing.assert_array_equal(answers(tmp_path / name), alone[name])
        assert len(list(kept.rglob("*.blob"))) == blobs


def test_what_is_damaged_or_has_no_room_is_compiled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny.write(tmp_path / "model")
    alone = answers(tmp_path / "model")
    monkeypatch.setenv(COMPILED, str(tmp_path / "compiled"))
    answers(tmp_path / "model")
    (blob,) = (tmp_path / "compiled").rglob("*.blob")
    blob.chmod(0o600)
    blob.write_bytes(b"junk" * 100)
    np.testing.assert_array_equal(answers(tmp_path / "model"), alone)
    shutil.rmtree(tmp_path / "compiled")
    (tmp_path / "compiled").touch()  # no folder
    np.testing.assert_array_equal(answers(tmp_path / "model"), alone)


def test_processes_that_meet_a_damaged_file_at_once_all_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny.write(tmp_path / "model")
    alone = answers(tmp_path / "model")
    monkeypatch.setenv(COMPILED, str(tmp_path / "compiled"))
    with ProcessPoolExecutor(4, multiprocessing.get_context("forkserver")) as processes:
        for _ in range(5):
            answers(tmp_path / "model")
            (blob,) = (tmp_path / "compiled").rglob("*.blob")
            blob.chmod(0o600)
            blob.write_bytes(b"junk" * 100)
            for answered in processes.map(answers, [tmp_path / "model"] * 8):
                np.testing.assert_array_equal(answered, alone)
