"""The list of builds: versions of repositories and the artifact store's own, the newest first, broken ones named."""

import json
from pathlib import Path

import pytest
import typer
from msgspec.structs import replace
from typer.testing import CliRunner, Result

from newsdesk.build.pipeline.artifacts import ENTRY, ArtifactStore
from newsdesk.build.upkeep import builds
from newsdesk.server.runtime import manifest
from tests import tiny

app = typer.Typer()
app.command()(builds)


def figures(rows: int, accuracy: float) -> dict:
    point = {"accuracy": accuracy, "calibration_error": 0.02}
    return {"rows": rows, **dict.fromkeys(("fast", "balanced", "best"), point)}


def write_version(repository: Path, number: int, made: str, key: str) -> None:
    """Write a version of the model "desk", with what a build records of itself."""
    if not (repository / "desk").exists():
        tiny.write_model(repository, tiny.write, "desk")
    folder = repository / "desk" / str(number)
    written = manifest.load(folder) if folder.exists() else tiny.write(folder)
    entries = [
        {"stage": "recipe", "command": "newsdesk build", "settings": {"name": "own"}},
        {"stage": "split", "figures": {"train": 80, "validation": 20}, "made": "2026-01-01T00:00:00Z"},
        {"stage": "judge", "key": key, "made": made},
    ]
    described = {"validation": figures(20, 0.7), "test": figures(30, 0.8)}
    manifest.save(replace(written, built=entries, figures={"accuracy": described}), folder)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three versions, one of them broken; four judgements, one of which a version came of, and one is broken."""
    folder = tmp_path_factory.mktemp("builds")
    store = ArtifactStore(folder / "artifacts", lambda _: None)
    split = store.make("split", {}, lambda at: (at / "rows").write_text("rows") and {"train": 60, "validation": 15})
    compiled = store.make("compile", {}, lambda at: (at / "graph").write_text("graph") and {"target": "openvino:int8"})
    inputs = {"rows": split.content, "compiled linear": compiled.content, "ensemble": "0"}
    judged = [
        store.make("judge", {"inputs": inputs, "n": n}, lambda at: {"validation": figures(15, 0.9)}) for n in range(3)
    ]
    (judged[2] / ENTRY).write_text("{")
    write_version(folder / "models", 1, "2026-02-03T04:05:06Z", judged[1].entry["key"])
    write_version(folder / "models", 2, "2026-02-05T00:00:00Z", "another")
    write_version(folder / "models", 3, "2026-02-06T00:00:00Z", "a third")
    (folder / "models" / "desk" / "3" / "tiny" / "tokenizer.json").write_text("{}")
    return folder


def run(folder: Path, *options: str) -> Result:
    words = ["--artifacts", str(folder / "artifacts"), "--model-repository", str(folder / "models"), *options]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.stderr
    return result


def test_all_builds_are_listed_once_the_newest_first(folder: Path):
    listed = json.loads(run(folder, "--json").stdout)
    sound = [build for build in listed if not build["error"]]
    store, second, first = sound
    assert Path(store["where"]).parent.name == "judge"
    assert (store["rows"], store["members"]) == ({"train": 60, "validation": 15}, ["linear"])
    assert (store["target"], store["part"]) == ("linear=openvino:int8", "validation")
    assert [Path(build["where"]).name for build in (second, first)] == ["2", "1"]
    assert (first["made"], first["recipe"], first["members"]) == ("2026-02-03T04:05:06Z", "own", ["tiny"])
    assert (first["part"], first["accuracy"]["balanced"], first["calibration_error"]["best"]) == ("test", 0.8, 0.02)
    assert first["rows"] == {"train": 80, "validation": 20}
    assert first["target"] == "onnxruntime:fp32"
    assert first["mib"] >= 0


def test_broken_ones_are_named_behind_the_others(folder: Path):
    broken = [build for build in json.loads(run(folder, "--json").stdout) if build["error"]]
    assert {Path(build["where"]).parent.name for build in broken} == {"desk", "judge"}
    lines = run(folder).stdout.splitlines()
    assert lines[0].split()[:3] == ["made", "(UTC)", "recipe"]
    assert "80+20" in lines[3]
    assert all(line.startswith("broken: ") for line in lines[4:])
    assert [line for line in lines[4:] if "sha256" in line]


def test_folders_that_are_not_there_hold_none(tmp_path: Path):
    assert "nothing was built here" in run(tmp_path).stdout
