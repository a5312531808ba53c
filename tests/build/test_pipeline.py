"""The whole build: from a CSV of three labels to a repository that answers."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import typer
from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import ModelConfig
from typer.testing import CliRunner, Result

from newsdesk.build import pipeline, recipe
from newsdesk.build.commands import build
from newsdesk.build.errors import RecipeError
from newsdesk.build.training import trainer
from newsdesk.server.ensemble import manifest
from newsdesk.server.ensemble.classifier import Classifier
from tests.build.encoders import WORDS, save_base, sentence

app = typer.Typer()
app.command()(build)


@pytest.fixture(scope="module")
def newsdesk_build(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Result]:
    """Run `newsdesk build` on 300 rows of our own, with a tiny base model; artefacts are kept between calls."""
    folder = tmp_path_factory.mktemp("build")
    base = save_base(folder / "base")
    for part, numbers in {"rows": range(100), "more": range(100, 120)}.items():
        lines = [f"{sentence(label, i)},{label}" for i in numbers for label in WORDS]
        (folder / f"{part}.csv").write_text("\n".join(["headline,topic", *lines, "no such topic,", "a <b>,"]))
    settings = {
        "members.0.base": base,
        "members.0.max_length": 64,
        "members.0.train": {"epochs": 8, "batch_size": 16, "learning_rate": 3e-3, "bf16": False},
        "quantise": {"calibration_rows": 40, "min_agreement": 0.9, "max_accuracy_loss": 0.05},
        "compile": {"rows": 32, "rounds": 1},
        "verify": {"rows": 30},
    }

    def run(*arguments: str) -> Result:
        words = ["--recipe", "compact", "--artifacts", str(folder / "artefacts"), "--output", str(folder / "models")]
        words += ["--data", str(folder / "rows.csv"), "--test-data", str(folder / "more.csv")]
        words += ["--text-column", "headline", "--label-column", "topic"]
        for key, value in settings.items():
            words += ["--set", f"{key}={json.dumps(value) if isinstance(value, dict) else value}"]
        result = CliRunner().invoke(app, [*words, *arguments])
        result.folder = folder
        return result

    return run


@pytest.fixture(scope="module")
def built(newsdesk_build) -> Result:
    result = newsdesk_build("--json")
    assert result.exit_code == 0, result.stderr
    return result


def test_stdout_is_json_of_every_stage(built: Result):
    figures = json.loads(built.stdout)
    assert tuple(figures) == pipeline.STAGES
    assert figures["read"] == {"train": 302, "test": 62}
    assert figures["clean"]["train"]["findings"]["dropped_wrong_label"]["rows"] == 2
    assert figures["split"] == {"train": 240, "validation": 60, "test": 60}
    assert figures["evaluate"]["accuracy"]["test"]["served"]["accuracy"] > 0.9


def test_the_repository_loads_and_answers(built: Result):
    model = built.folder / "models" / "ag_news"
    loaded = manifest.load(model / "1")
    assert loaded.labels == sorted(WORDS)
    assert set(loaded.members[0].graphs) == {"int8"}
    assert loaded.target in ("openvino:int8", "onnxruntime:int8")
    answers = Classifier(loaded, model / "1").classify(["the ferry near the old pier", "soup with butter and onion"])
    assert [loaded.labels[i] for i in answers.probabilities.argmax(-1)] == ["harbour", "kitchen"]
    config = text_format.Parse((model / "config.pbtxt").read_text(), ModelConfig())
    assert config.output[1].dims == [3]
    assert (model / "labels.txt").read_text().splitlines() == sorted(WORDS)


def test_the_manifest_says_what_made_it_without_this_machines_folders(built: Result):
    path = built.folder / "models" / "ag_news" / "1" / manifest.FILE
    assert str(built.folder) not in path.read_text()
    loaded = manifest.load(path.parent)
    assert [stage["stage"] for stage in loaded.built] == ["recipe", *pipeline.STAGES[:-1]]
    assert "--set members.0.base=base" in loaded.built[0]["command"]
    assert loaded.figures["accuracy"]["validation"]["rows"] == 60
    assert set(loaded.figures["variants"]) == {"fp32", "fp16", "int8", "int8-dynamic"}
    card = (path.parent.parent / "MODEL_CARD.md").read_text()
    assert "60 test" in card
    assert "AG News" not in card


def test_a_second_build_runs_nothing_again(built: Result, newsdesk_build, monkeypatch):
    monkeypatch.setattr(trainer, "train", None)
    again = newsdesk_build()
    assert again.exit_code == 0, again.stderr
    assert again.stderr.count(": unchanged (") == len(pipeline.STAGES) - 1
    assert "newsdesk serve serves it" in again.stdout
    assert "test: 60 rows, float " in again.stdout


def test_a_changed_setting_runs_only_what_hangs_on_it(built: Result, newsdesk_build):
    again = newsdesk_build("--set", "verify.rows=20", "--stage", "verify")
    assert again.exit_code == 0, again.stderr
    assert "compile minilm: unchanged" in again.stderr
    assert "verify minilm: running" in again.stderr
    assert "evaluate" not in again.stderr


def test_a_tampered_artefact_stops_the_build(built: Result, newsdesk_build):
    (graph,) = built.folder.glob("artefacts/export/*/model.fp32.onnx")
    whole = graph.read_bytes()
    graph.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    result = newsdesk_build("--stage", "export")
    graph.write_bytes(whole)
    assert result.exit_code == 1
    assert "is not what was built (sha256)" in result.stderr


def test_a_verification_that_fails_fails_the_build(built: Result, newsdesk_build):
    result = newsdesk_build("--set", "verify.int8_extreme_tolerance=1e-9", "--stage", "verify")
    assert result.exit_code == 1
    assert "expected at most 1e-09" in result.stderr


def test_a_training_that_was_cut_off_resumes(built: Result, newsdesk_build, monkeypatch):
    changed = "--set", "seed=5", "--set", "members.0.train.epochs=2", "--stage", "train"

    def cut_off(self, *arguments, **keywords):
        keep_best(self, *arguments, **keywords)
        raise KeyboardInterrupt

    keep_best = trainer._KeepBest.on_evaluate
    with monkeypatch.context() as patch:
        patch.setattr(trainer._KeepBest, "on_evaluate", cut_off)
        assert newsdesk_build(*changed).exit_code != 0
    resumed = newsdesk_build(*changed)
    assert resumed.exit_code == 0, resumed.stderr
    assert "train minilm: resuming" in resumed.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--set", "seed"], "expected KEY=VALUE"),
        (["--set", "sed=3"], "unknown field `sed`"),
        (["--stage", "pack"], "stage 'pack' is unknown; expected one of read, clean"),
        (["--recipe", "nonsense"], "no recipe 'nonsense'"),
        (["--text-column", "title"], "no column 'title'"),
        (["--set", "members.0.max_length=4096", "--stage", "export"], "max_length is 4096"),
    ],
)
def test_wrong_usage_is_a_message_and_no_traceback(arguments: list[str], message: str, newsdesk_build):
    result = newsdesk_build(*arguments)
    assert result.exit_code == 1
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def test_columns_without_data_are_refused():
    result = CliRunner().invoke(app, ["--text-column", "headline"])
    assert result.exit_code == 1
    assert "--data, which is missing" in result.stderr


def test_two_members_are_refused(tmp_path: Path):
    two = [{"name": "a", "base": "x"}, {"name": "b", "base": "x"}]
    with pytest.raises(RecipeError, match="has 2 members; this version serves one"):
        pipeline.build(recipe.load("compact", {"members": two}), tmp_path, tmp_path)
