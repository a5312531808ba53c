"""Graphs are rewritten once and kept in the state folder; what is damaged or no longer meant goes."""

import os
import shutil
import subprocess
import time
from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest

from newsdesk.build.pipeline.digests import Code
from newsdesk.server.runtime import engines, manifest, processor
from newsdesk.server.runtime.engines import REWRITTEN, rewrites
from newsdesk.server.serving import graphs, steps
from newsdesk.server.serving.workspace import Workspace
from tests import tiny
from tests.server.runtime.quantised import pairs_graph

TARGET = "onnxruntime:int8"
GRAPH = Path("tiny") / "model.int8.onnx"
IDS = np.arange(2 * 7).reshape(2, 7)


def test_the_code_in_the_key_is_all_that_rewrites() -> None:
    """`prepare` and `serve` have no build to ask for the closure of an import."""
    reached = Code().closure(rewrites.__name__)
    package = f"{engines.__name__}."
    written = {f"{name.removeprefix(package)}.py" for name in reached if name.startswith(package)}
    assert written == {*graphs._CODE}


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """A repository with a model whose int8 graph has Q/DQ pairs."""
    return tiny.write_model(tmp_path / "models", _write)


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


def _write(version: Path, row_scale: float = 1.0) -> manifest.Manifest:
    made = tiny.write(version)
    onnx.save(pairs_graph(row_scale), version / GRAPH)
    (member,) = made.members
    graphs_of = member.graphs | {"int8": manifest.File(str(GRAPH), manifest.digest(version / GRAPH))}
    made = msgspec.structs.replace(made, members=[msgspec.structs.replace(member, graphs=graphs_of)])
    manifest.save(made, version)
    return made


def keep(models: Path, state: Path, version: str = "1", target: str = TARGET) -> dict[Path, Path]:
    return steps.finish(graphs.making(models / "ag_news" / version, target, state, print))


def forbid(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have every new process refused."""
    monkeypatch.setattr(subprocess, "Popen", None)


def test_a_graph_is_rewritten_once_for_this_user_alone(
    models: Path, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = rewrites.make(models / "ag_news" / "1" / GRAPH)
    kept = keep(models, state)
    ((place, file),) = kept.items()
    assert (place, file.read_bytes()) == (rewrites.beside(GRAPH, made.form), made.graph)
    assert [path.stat().st_mode & 0o777 for path in (file, file.parent)] == [0o600, 0o700]
    forbid(monkeypatch)
    assert keep(models, state) == kept
    assert [*file.parent.iterdir()] == [file]


def test_a_target_that_rewrites_nothing_and_a_model_that_cannot_be_read_cost_nothing(
    models: Path, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forbid(monkeypatch)
    assert keep(models, state, target="openvino:int8") == {}
    (models / "ag_news" / "1" / "manifest.json").write_text("{")
    assert keep(models, state) == {}
    assert not state.exists()


def test_a_damaged_file_is_made_anew_and_the_right_one_stays(models: Path, state: Path) -> None:
    (file,) = keep(models, state).values()
    whole = file.read_bytes()
    file.write_bytes(whole[:100])
    assert [*keep(models, state).values()] == [file]
    assert file.read_bytes() == whole
    damaged = file.rename(file.with_name(f"{file.name.split('.')[0]}.{'0' * 64}.{rewrites.PARTED}"))
    assert [*keep(models, state).values()] == [file]
    assert not damaged.exists()


def test_another_graph_processor_or_code_has_a_file_of_its_own(
    models: Path, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = models / "ag_news" / "1"
    keys = {graphs._key_of(file) for file in keep(models, state).values()}
    shutil.rmtree(version / "tiny")
    _write(version, row_scale=0.5)
    keys |= {*graphs._keys(version)}
    monkeypatch.setattr(processor, "kernels", lambda: "of another processor")
    keys |= {*graphs._keys(version)}
    monkeypatch.setattr(graphs, "_CODE", ("rewrites.py",))
    keys |= {*graphs._keys(version)}
    assert len(keys) == 4


def test_what_no_version_names_and_no_server_links_is_removed(models: Path, state: Path, tmp_path: Path) -> None:
    shutil.copytree(models / "ag_news" / "1", models / "ag_news" / "2")
    shutil.rmtree(models / "ag_news" / "2" / "tiny")
    _write(models / "ag_news" / "2", row_scale=0.5)
    kept = [file for number in "12" for file in keep(models, state, number).values()]
    partial, abandoned = (state / graphs.FOLDER / f"{number}.partial" for number in (1, 2))
    for file in partial, abandoned:
        file.touch()
    os.utime(abandoned, (0, time.time() - 2 * graphs._ABANDONED_SECONDS))
    graphs.remove_unnamed(state, models)
    assert {*(state / graphs.FOLDER).iterdir()} == {*kept, partial}
    shutil.rmtree(models / "ag_news" / "1")
    (tmp_path / "served").hardlink_to(kept[0])
    graphs.remove_unnamed(state, models)
    assert kept[0].exists()
    (tmp_path / "served").unlink()
    graphs.remove_unnamed(state, models)
    assert {*(state / graphs.FOLDER).iterdir()} == {kept[1], partial}


def test_what_cannot_be_kept_is_said_and_left_to_the_backend(
    models: Path, state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state.mkdir()
    (state / graphs.FOLDER).touch()  # no folder
    assert keep(models, state) == {}
    (state / graphs.FOLDER).unlink()
    (models / "ag_news" / "1" / GRAPH).write_bytes(b"another graph than the manifest names")
    assert keep(models, state) == {}
    notes = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in notes] == [
        "graphs are not kept, and each backend process rewrites them"
    ] * 2
    assert "the manifest says" in notes[1]
    assert not any((state / graphs.FOLDER).glob("*"))


def test_a_rendering_has_the_rewrite_beside_its_graph_and_none_that_was_copied_with_the_model(
    models: Path, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = models / "ag_news" / "1"
    expected = engines.load(TARGET, version / GRAPH)(IDS, np.ones_like(IDS))
    rewrites.beside(version / GRAPH, rewrites.AS_WRITTEN).touch()
    space = Workspace(state)
    kept = keep(models, state)
    space.render(models / "ag_news", {}, 1, rewritten=kept)
    (rendered,) = space.renderings.glob("ag_news/*/1")
    places = [rewrites.beside(GRAPH, form) for form in rewrites.FORMS]
    assert [place for place in places if (rendered / place).exists()] == [*kept]
    monkeypatch.setenv(REWRITTEN, str(space.renderings))
    monkeypatch.delattr(rewrites, "make")
    assert np.array_equal(engines.load(TARGET, rendered / GRAPH)(IDS, np.ones_like(IDS)), expected)
    space.remove()
