"""The Triton model repository: whole whenever somebody looks, config.pbtxt last (note 51), labels in it (note 10)."""

import os
from pathlib import Path

import onnx
import pytest
from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import ModelConfig

from newsdesk.build.compile import shards
from newsdesk.build.errors import BuildError
from newsdesk.build.package import repository
from newsdesk.build.package.repository import BuiltMember
from newsdesk.build.recipe import Card, Repository
from newsdesk.server.contract import QUALITIES
from newsdesk.server.runtime import manifest
from newsdesk.server.runtime.calibrate import Uncalibrated
from newsdesk.server.runtime.cascade import alone
from newsdesk.server.runtime.errors import ManifestError
from newsdesk.server.serving.workspace import Workspace

LABELS = ["harbour", "kitchen", "garden"]
MEASURED = {"accuracy": 0.9, "agreement": 0.99, "passed": True}
POINT = {"accuracy": 0.9, "log_loss": 0.3, "macro_f1": 0.89, "calibration_error": 0.01, "answered_by": {"tiny": 1.0}}
FIGURES = {
    "accuracy": {"validation": {"rows": 60, **dict.fromkeys(QUALITIES, POINT)}},
    "members": {
        "tiny": {
            "accuracy": {
                "validation": {
                    "rows": 60,
                    "float": {"accuracy": 0.91, "macro_f1": 0.9, "log_loss": 0.3},
                    "served": {"accuracy": 0.9, "macro_f1": 0.89, "log_loss": 0.3},
                    "agreement": 0.99,
                }
            },
            "variants": {"int8": {**MEASURED, "mib": 1.5}, "fp16": {"passed": False, "error": "ValueError: no"}},
            "targets": {
                "openvino:int8": {"variant": "int8", **MEASURED, "articles_per_second": 321.5},
                "openvino:bf16": {"variant": "fp32", "passed": False, "error": "no such thing here"},
            },
        }
    },
    "machine": "a processor, 2 cores",
}
BUILT = [
    {
        "stage": "recipe",
        "command": "newsdesk build --recipe own",
        "settings": {"members": [{"name": "tiny", "base": "/home/me/tiny"}]},
    },
    {"stage": "read", "read": {"/home/me/rows.csv": "ab" * 32}},
    {"stage": "split", "figures": {"train": 240, "validation": 60}},
    {
        "stage": "train",
        "name": "tiny",
        "figures": {"rows": 240, "ngrams": 9, "validation": {"accuracy": 0.9, "log_loss": 0.3}},
        "packages": {"torch": "2"},
    },
]


def write(output: Path, source: Path, weights: str = "weights", **changes) -> Path:
    source.mkdir(exist_ok=True)
    graph = onnx.helper.make_graph([], weights, [], [])
    onnx.save(onnx.helper.make_model(graph), source / "model.int8.onnx")
    (source / "tokenizer.json").write_text("{}")
    graphs = {"int8": source / "model.int8.onnx"}
    member = BuiltMember("tiny", "encoder", source / "tokenizer.json", graphs, 64, 0, Uncalibrated())
    build = {
        "labels": LABELS,
        "members": [member],
        "cascade": [alone("tiny", 3)],
        "graphs": source,
        "target": "openvino:int8",
        "figures": FIGURES,
        "built": BUILT,
        **changes,
    }
    return repository.write(output, Repository(), Card(terms="Ask first."), **build)


def test_a_build_replaces_the_highest_version_or_writes_the_next(tmp_path: Path):
    def versions() -> list[str]:
        return sorted(folder.name for folder in (tmp_path / "out" / "ag_news").glob("*/"))

    for next_version, expected in [(True, ["1"]), (False, ["1"]), (True, ["1", "2"]), (False, ["1", "2"])]:
        model = write(tmp_path / "out", tmp_path / "made", next_version=next_version)
        assert versions() == expected
    (model / "2").rename(model / "2.withdrawn")
    write(tmp_path / "out", tmp_path / "made", next_version=True)
    assert versions() == ["1", "2.withdrawn", "3"]


def test_what_is_written(tmp_path: Path):
    model = write(tmp_path / "out", tmp_path / "made")
    assert sorted(
        str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*") if path.is_file()
    ) == [
        "ag_news/1/config.pbtxt",
        "ag_news/1/manifest.json",
        "ag_news/1/model.py",
        "ag_news/1/tiny/model.int8.onnx",
        "ag_news/1/tiny/tokenizer.json",
        "ag_news/MODEL_CARD.md",
        "ag_news/config.pbtxt",
        "ag_news/labels.txt",
    ]
    assert (model / "labels.txt").read_text().splitlines() == LABELS
    loaded = manifest.load(model / "1")
    assert loaded.labels == LABELS
    assert loaded.target == "openvino:int8"
    assert loaded.members[0].max_length == 64


def test_no_folder_of_this_machine_is_named(tmp_path: Path):
    model = write(tmp_path / "out", tmp_path / "made")
    for path in (model / "1" / manifest.FILE, model / "MODEL_CARD.md", model / "config.pbtxt"):
        assert "/home/me" not in path.read_text()
        assert str(tmp_path) not in path.read_text()


def test_portable_keeps_what_is_no_path():
    entry = {"/a/b.csv": "x", "base": "someone/model", "list": ["/c/d", 3, None], "command": "newsdesk build"}
    assert repository.portable(entry) == {
        "b.csv": "x", "base": "someone/model", "list": ["d", 3, None], "command": "newsdesk build",
    }  # fmt: skip


def test_the_configuration_is_what_triton_reads():
    config = text_format.Parse(
        repository.render_config(Repository(max_queue_size=77), 3, ["one", "two"]), ModelConfig()
    )
    assert config.backend == "python"
    assert config.max_batch_size == 64
    assert [(tensor.name, [*tensor.dims], tensor.optional) for tensor in config.input] == [
        ("TEXT", [1], False),
        ("QUALITY", [1], True),
    ]
    assert [(tensor.name, [*tensor.dims], tensor.label_filename) for tensor in config.output] == [
        ("LABEL", [1], ""),
        ("PROBABILITIES", [3], "labels.txt"),
        ("ANSWERED_BY", [1], ""),
        ("WINDOWS", [1], ""),
        ("MEMBER_PROBABILITIES", [2, 3], ""),
        ("UNCERTAINTY", [3], ""),
    ]
    marking = text_format.Parse(repository.render_config(Repository(), 3, ["one"], unsure=True), ModelConfig())
    assert (marking.output[-1].name, marking.output[-1].data_type, [*marking.output[-1].dims]) == ("UNSURE", 1, [1])
    assert config.parameters["members"].string_value == "one,two"
    assert config.HasField("dynamic_batching")
    assert config.dynamic_batching.max_queue_delay_microseconds == 0
    assert config.dynamic_batching.default_queue_policy.max_queue_size == 77
    assert [(group.kind, group.count) for group in config.instance_group] == [(2, 2)]


def test_a_new_build_takes_the_place_of_the_old(tmp_path: Path):
    write(tmp_path / "out", tmp_path / "made")
    model = write(tmp_path / "out", tmp_path / "made", weights="better")
    assert onnx.load(model / "1/tiny/model.int8.onnx").graph.name == "better"
    assert sorted(path.name for path in model.iterdir()) == ["1", "MODEL_CARD.md", "config.pbtxt", "labels.txt"]


def test_a_build_that_dies_while_it_copies_leaves_the_old_whole(tmp_path: Path, monkeypatch):
    model = write(tmp_path / "out", tmp_path / "made")

    def dies(*_, **__):
        raise OSError("no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(shards, "split", dies)
        with pytest.raises(OSError, match="no space"):
            write(tmp_path / "out", tmp_path / "made", weights="better")
    assert manifest.load(model / "1").name == "ag_news"
    assert onnx.load(model / "1/tiny/model.int8.onnx").graph.name == "weights"
    write(tmp_path / "out", tmp_path / "made", weights="better")
    assert manifest.load(model / "1")
    assert not (model / "1.partial").exists()


def test_a_build_that_died_between_two_renames_is_repaired_by_the_next(tmp_path: Path):
    model = write(tmp_path / "out", tmp_path / "made")
    (model / "1").rename(model / "1.old")
    write(tmp_path / "out", tmp_path / "made")
    assert manifest.load(model / "1")
    assert not (model / "1.old").exists()


def test_triton_finds_the_configuration_last(tmp_path: Path, monkeypatch):
    landed = []
    replace = os.replace

    def seen(source, target):
        landed.append(Path(target).name)
        if Path(target).name == "config.pbtxt":
            assert manifest.load(Path(target).parent / "1")
        replace(source, target)

    monkeypatch.setattr(os, "replace", seen)
    write(tmp_path / "out", tmp_path / "made")
    assert landed == ["manifest.json", "labels.txt", "MODEL_CARD.md", "config.pbtxt"]


def test_the_card_says_what_the_manifest_says(tmp_path: Path):
    text = (write(tmp_path / "out", tmp_path / "made") / "MODEL_CARD.md").read_text()
    assert "    newsdesk build --recipe own" in text
    assert "| validation | 60 | balanced | 90.00% | 89.00% | 1.00% | tiny 100.0% |" in text
    assert "| tiny | validation | 91.00% | 90.00% | 99.00% |" in text
    assert "| tiny | int8 | 1.5 | 90.00% | 99.00% | yes |" in text
    assert "| tiny | fp16 |  |  |  | ValueError: no |" in text
    assert "| tiny | openvino:int8 | 321.5 |" in text
    assert "240 train, 60 validation" in text
    assert "`rows.csv` (sha256 `abababababab…`)" in text
    assert "Ask first." in text


def test_a_label_that_would_be_two_lines_is_refused(tmp_path: Path):
    with pytest.raises(BuildError, match=r"label 'kit\\nchen' holds a line break"):
        write(tmp_path / "out", tmp_path / "made", labels=["harbour", "kit\nchen"])


def test_what_triton_runs_is_in_the_manifest_and_checked_before_it_runs(tmp_path: Path):
    """Also where another version has changed the config.pbtxt beside it: each is served with its own."""
    model = write(tmp_path / "out", tmp_path / "made")
    version = model / "1"
    assert {file.path for file in manifest.load(version).code} == {"model.py", "config.pbtxt"}
    later = (model / "config.pbtxt").read_text() + "\n# of a later version\n"
    (model / "config.pbtxt").write_text(later)
    work = Workspace(tmp_path)
    for folder in work.repository, work.watched, work.renderings, work._generations:
        folder.mkdir(parents=True)
    work.place("ag_news", work.render(model, {}, 2))
    assert (work.repository / "ag_news" / "config.pbtxt").is_file()
    for name in "model.py", "config.pbtxt":
        before = (version / name).read_bytes()
        (version / name).write_bytes(before + b"\n#")
        for check in lambda: manifest.load(version), lambda: work.render(model, {}, 2):
            with pytest.raises(ManifestError, match=rf"{name}: sha256 is"):
                check()
        (version / name).unlink()
        (version / name).write_bytes(before)
    manifest.load(version)
