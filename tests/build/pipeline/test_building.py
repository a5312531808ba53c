"""The whole build: from a CSV of three labels to a repository that answers."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import typer
from google.protobuf import text_format
from msgspec.structs import replace
from tritonclient.grpc.model_config_pb2 import ModelConfig
from typer.testing import CliRunner, Result

from newsdesk.build.commands import build, combine, evaluate
from newsdesk.build.training import trainer
from newsdesk.build.upkeep import builds, reference
from newsdesk.server.contract import QUALITIES
from newsdesk.server.runtime import manifest, targets
from newsdesk.server.runtime.classifier import Classifier
from tests.build.encoders import WORDS, save_base, sentence

app = typer.Typer()
app.command()(build)
app.command()(evaluate)
app.command()(combine)
app.command()(builds)
app.command()(reference)

OWN_COLUMNS = {"text_columns": ["headline"], "label_column": "topic"}


@pytest.fixture(scope="module")
def newsdesk_build(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Result]:
    """Run `newsdesk build` on 300 rows of our own, with a tiny base model; artifacts are kept between calls."""
    folder = tmp_path_factory.mktemp("build")
    base = save_base(folder / "base")
    for part, numbers in {"rows": range(100), "more": range(100, 120)}.items():
        lines = [f"{sentence(label, i)},{label}" for i in numbers for label in WORDS]
        (folder / f"{part}.csv").write_text("\n".join(["headline,topic", *lines, "no such topic,", "a <b>,"]))
    fitted = {"epochs": 8, "batch_size": 16, "learning_rate": 3e-3, "bf16": False}
    settings = {
        "members": [
            {
                "name": "student",
                "kind": "ngrams",
                "student": {"epochs": 4, "excerpts": True},
                "distil": {"teachers": ["minilm", "mean"]},
            },
            {"name": "minilm", "base": str(base), "max_length": 64, "train": fitted},
            {"name": "mean", "base": str(base), "max_length": 64, "pooling": "mean", "seed": 5, "train": fitted},
        ],
        "ensemble": {"folds": 3},
        "quantise": {"calibration_rows": 40, "min_agreement": 0.9, "max_accuracy_loss": 0.05},
        "compile": {"rows": 32, "rounds": 1},
        "verify": {"rows": 30},
    }

    def run(*arguments: str, command: str = "build") -> Result:
        words = [command, "--recipe", "compact", "--artifacts", str(folder / "artifacts")]
        models, report = str(folder / "models"), str(folder / "report")
        words += ["--output", models] if command == "build" else ["--model-repository", models, "--output", report]
        words += ["--data", str(folder / "rows.csv"), "--test-data", str(folder / "more.csv")]
        words += ["--text-column", "headline", "--label-column", "topic"]
        for key, value in settings.items():
            words += ["--set", f"{key}={json.dumps(value) if isinstance(value, dict | list) else value}"]
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
    assert tuple(figures) == ("read", "clean", "split", "members", "ensemble", "judge", "repository")
    assert figures["read"] == {"train": 302, "test": 62}
    assert figures["clean"]["train"]["findings"]["dropped_wrong_label"]["rows"] == 2
    assert figures["split"] == {"train": 240, "validation": 60, "test": 60}
    fitted = ["train", "export", "quantise", "compile", "verify", "evaluate"]
    assert {name: [*stages] for name, stages in figures["members"].items()} == {
        "student": ["teach", *fitted],
        "minilm": fitted,
        "mean": fitted,
    }
    assert figures["members"]["minilm"]["evaluate"]["accuracy"]["test"]["served"]["accuracy"] > 0.9
    assert figures["judge"]["test"]["best"]["accuracy"] > 0.9


def test_the_repository_loads_and_answers_at_every_quality(built: Result):
    model = built.folder / "models" / "ag_news"
    loaded = manifest.load(model / "1")
    assert loaded.labels == sorted(WORDS)
    assert {member.name for member in loaded.members} == {"student", "minilm", "mean"}
    assert len(loaded.cascade) == 3
    classifier = Classifier(loaded, model / "1")
    texts = ["the ferry near the old pier", "soup with butter and onion"]
    for quality in range(len(QUALITIES)):
        answers = classifier.classify(texts, np.full(2, quality))
        assert [loaded.labels[i] for i in answers.probabilities.argmax(-1)] == ["harbour", "kitchen"]
    assert (answers.levels == 2).all()
    config = text_format.Parse((model / "config.pbtxt").read_text(), ModelConfig())
    assert config.output[1].dims == [3]
    assert config.output[4].dims == [3, 3]
    assert (model / "labels.txt").read_text().splitlines() == sorted(WORDS)


def test_windows_are_as_long_as_what_was_fitted_on(built: Result):
    """A recipe's maximum of 64 tokens, but the sentences of the rows have no more than 32."""
    loaded = manifest.load(built.folder / "models" / "ag_news" / "1")
    lengths = {member.name: member.max_length for member in loaded.members}
    assert lengths == {"student": 0, "minilm": 32, "mean": 32}
    long = Classifier(loaded, built.folder / "models" / "ag_news" / "1").classify(["the ferry " * 20], np.full(1, 2))
    assert long.windows == [2]


def test_the_manifest_says_what_made_it_without_this_machines_folders(built: Result):
    path = built.folder / "models" / "ag_news" / "1" / manifest.FILE
    assert str(built.folder) not in path.read_text()
    loaded = manifest.load(path.parent)
    stages = [entry["stage"] for entry in loaded.built]
    assert stages[:4] == ["recipe", "read", "clean", "split"]
    assert stages[-2:] == ["ensemble", "judge"]
    assert stages.count("train") == 3
    assert '"base": "base"' in loaded.built[0]["command"]
    assert loaded.figures["accuracy"]["validation"]["rows"] == 60
    assert loaded.reference is not None
    assert (loaded.reference.rows, sum(loaded.reference.best.labels)) == (60, 60)
    assert set(loaded.figures["members"]["minilm"]["variants"]) == {"fp32", "fp16", "int8", "int8-dynamic"}
    card = (path.parent.parent / "MODEL_CARD.md").read_text()
    assert "60 test" in card
    assert "2.0% are marked as not sure" in card
    assert "hashed n-grams |  | 240 | minilm, mean |" in card
    assert "AG News" not in card


def test_a_finished_model_is_given_a_reference(built: Result, tmp_path: Path):
    """The same rows, read by the model as it serves: the build's own reference but for what rounding changes."""
    models = tmp_path / "models"
    shutil.copytree(built.folder / "models", models)
    version = models / "ag_news" / "1"
    before = manifest.load(version)
    manifest.save(replace(before, reference=None), version)
    words = ["reference", "--recipe", "compact", "--artifacts", str(built.folder / "artifacts")]
    settings = {
        "data.train": {**OWN_COLUMNS, "file": str(built.folder / "rows.csv")},
        "data.test": {**OWN_COLUMNS, "file": str(built.folder / "more.csv")},
        "labels": sorted(WORDS),
        "split": {"validation_rows": 60},
    }
    for key, value in settings.items():
        words += ["--set", f"{key}={json.dumps(value)}"]
    result = CliRunner().invoke(app, [*words, "--model-repository", str(models)])
    assert result.exit_code == 0, result.stderr
    after = manifest.load(version)
    assert after.reference is not None
    assert (after.reference.words, after.reference.unknown) == (before.reference.words, before.reference.unknown)
    assert replace(after, reference=before.reference) == before
    refused = CliRunner().invoke(
        app, [*words, "--set", "split.folds=5", "--set", 'members=[{"name": "a", "kind": "linear"}]']
    )
    assert refused.exit_code == 2
    assert "Build it again" in refused.stderr


def test_the_build_is_listed(built: Result):
    words = ["--artifacts", str(built.folder / "artifacts"), "--model-repository", str(built.folder / "models")]
    (listed,) = json.loads(CliRunner().invoke(app, ["builds", *words, "--json"]).stdout)
    assert (listed["recipe"], listed["part"]) == ("compact", "test")
    assert listed["rows"] == {"train": 240, "validation": 60, "test": 60}
    assert listed["members"][0] == "student"
    assert listed["accuracy"]["best"] > 0.9


def test_a_second_build_runs_nothing_again(built: Result, newsdesk_build, monkeypatch):
    monkeypatch.setattr(trainer, "train", None)
    again = newsdesk_build()
    assert again.exit_code == 0, again.stderr
    assert ": running" not in again.stderr
    assert "newsdesk serve serves it" in again.stdout
    assert "test: 60 rows, " in again.stdout


def test_a_changed_setting_runs_only_what_hangs_on_it(built: Result, newsdesk_build):
    again = newsdesk_build("--set", "verify.rows=20", "--stage", "verify")
    assert again.exit_code == 0, again.stderr
    assert "compile minilm: unchanged" in again.stderr
    assert "verify minilm: running" in again.stderr
    assert "evaluate" not in again.stderr


def test_a_report_is_written_of_the_built_model(built: Result, newsdesk_build):
    outside = built.folder / "outside.csv"
    outside.write_text("headline,topic\nthe ferry left the pier,harbour\nonion soup,kitchen\n")
    strange = built.folder / "strange.csv"
    strange.write_text("headline\nsunny spells\na chance of rain\n")
    arguments = ["--set", f"data.outside.elsewhere={json.dumps({**OWN_COLUMNS, 'file': str(outside)})}"]
    strangers = {**OWN_COLUMNS, "file": str(strange), "label_column": ""}
    arguments += ["--set", f"data.strangers.forecasts={json.dumps(strangers)}"]
    result = newsdesk_build(*arguments, command="evaluate")
    assert result.exit_code == 0, result.stderr
    folder = built.folder / "report"
    report = (folder / "report.md").read_text()
    assert "## Operating points" in report
    assert "Without them: fast" in report
    figures = json.loads((folder / "report.json").read_text())
    slices = figures["slices"]
    assert {"whole", "headline", "typing errors", "attack", "joined", "elsewhere"} <= slices.keys()
    assert (slices["whole"]["rows"], slices["elsewhere"]["rows"]) == (60, 2)
    assert slices["elsewhere"]["best"]["accuracy"] == 1
    assert f"| elsewhere | 2 | {slices['elsewhere']['fast']['accuracy']:.2%} (" in report
    assert figures["strangers"]["forecasts"]["best"]["auroc"]["whole"] > 0.5
    assert "| forecasts | 2 | whole |" in report
    assert figures["test"]["points"]["best"]["accuracy"] > 0.9
    assert sum(figures["test"]["points"]["balanced"]["answered_by"].values()) == pytest.approx(1)
    assert all((folder / name).stat().st_size > 5000 for name in ("cost.png", "reliability.png", "confusion.png"))


def test_a_report_need_not_quote_the_rows(built: Result, newsdesk_build):
    mislabelled = built.folder / "mislabelled.csv"
    mislabelled.write_text("headline,topic\nsoup with butter and onion,harbour\n")
    test_rows = f"data.test={json.dumps({**OWN_COLUMNS, 'file': str(mislabelled)})}"
    errors = []
    old = str(built.folder / "models")
    for quoting in ("--quote", "--no-quote"):
        result = newsdesk_build("--set", test_rows, quoting, "--json", "--against", old, command="evaluate")
        assert result.exit_code == 0, result.stderr
        errors += json.loads(result.stdout)["errors"]
        assert json.loads(result.stdout)["against"]["points"]["best"]["mcnemar"]["p"] == 1
    assert errors[0].pop("text") == "soup with butter and onion"
    assert errors[0] == errors[1]
    report = (built.folder / "report" / "report.md").read_text()
    assert "butter" not in report
    assert "## Against the old model" in report


def test_engines_are_built_and_members_written_for_tritons_own_backends(built: Result, newsdesk_build):
    """TensorRT-RTX builds ahead of time here; the engine is in the repository, described, and does not serve here."""
    wanted = {"runtimes": ["tensorrt_rtx"], "variants": ["fp16"], "buckets": 2, "compute_capabilities": ["8.9"]}
    output = built.folder / "with_engines"
    again = newsdesk_build(
        "--set", f"engines={json.dumps(wanted)}", "--output", str(output), "--layout", "members", "--json"
    )
    assert again.exit_code == 0, again.stderr
    made = json.loads(again.stdout)["members"]["minilm"]["engines"]["plans"]["tensorrt_rtx:fp16"]
    assert made["products"] == {"fp16": 1.0}
    loaded = manifest.load(output / "ag_news" / "1")
    (plan,) = (member.plans["tensorrt_rtx:fp16"] for member in loaded.members if member.name == "minilm")
    assert plan.compute_capabilities == ["8.9"]
    assert plan.lengths[-1] == 32
    assert plan.version == made["version"]
    assert not [target for target in targets.parse(loaded.target).values() if target.startswith("tensorrt")]
    config = text_format.Parse((output / "ag_news_minilm" / "config.pbtxt").read_text(), ModelConfig())
    assert config.platform == "onnxruntime_onnx"
    assert [tensor.name for tensor in config.input] == ["input_ids", "attention_mask", "token_type_ids"]


def test_a_tampered_artifact_stops_the_build(built: Result, newsdesk_build):
    graph = next(built.folder.glob("artifacts/export/*/model.fp32.onnx"))
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
    changed = "--set", "members.1.seed=5", "--set", "members.1.train.epochs=2", "--stage", "train"

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
    ],
)
def test_wrong_usage_is_a_message_and_no_traceback(arguments: list[str], message: str, newsdesk_build):
    result = newsdesk_build(*arguments)
    assert result.exit_code == 2
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def test_columns_without_data_are_refused():
    result = CliRunner().invoke(app, ["build", "--text-column", "headline"])
    assert result.exit_code == 2
    assert "--data, which is missing" in result.stderr


def test_members_that_teach_each_other_are_refused(newsdesk_build):
    result = newsdesk_build("--set", 'members.1.distil={"teachers": ["student"]}', "--stage", "train")
    assert result.exit_code == 2
    assert "wait for each other as teachers" in result.stderr


def test_snapshots_of_one_run_are_members_of_their_own(built: Result, newsdesk_build):
    members = json.loads(json.dumps([{"name": "minilm", "base": str(built.folder / "base"), "max_length": 64}]))
    members[0]["train"] = {"epochs": 2, "snapshots": 2, "batch_size": 16, "learning_rate": 3e-3, "bf16": False}
    result = newsdesk_build("--set", f"members={json.dumps(members)}", "--stage", "export", "--json")
    assert result.exit_code == 0, result.stderr
    assert [*json.loads(result.stdout)["members"]] == ["minilm-1", "minilm-2"]
    assert result.stderr.count("train minilm: running") == 1


def test_members_of_built_models_are_combined_anew(built: Result, tmp_path: Path):
    """A member's files go over as they are; what validation rows decide is decided again, and recorded."""
    model = built.folder / "models" / "ag_news"
    words = ["combine", f"{model}:minilm,student", "--recipe", "compact", "--artifacts", str(tmp_path / "artifacts")]
    for key, value in {
        "data.train": {**OWN_COLUMNS, "file": str(built.folder / "rows.csv")},
        "data.test": {**OWN_COLUMNS, "file": str(built.folder / "more.csv")},
        "labels": sorted(WORDS),
        "split.validation_rows": 60,
        "ensemble": {"folds": 3},
        "card": {},
    }.items():
        words += ["--set", f"{key}={json.dumps(value)}"]
    result = CliRunner().invoke(app, [*words, "--output", str(tmp_path / "models")])
    assert result.exit_code == 0, result.stderr
    combined, before = (manifest.load(folder / "1") for folder in (tmp_path / "models" / "ag_news", model))
    files = {member.name: [*member.graphs.values(), member.tokenizer] for member in before.members}
    assert {member.name for member in combined.members} == {"minilm", "student"}
    assert all([*member.graphs.values(), member.tokenizer] == files[member.name] for member in combined.members)
    assert combined.built[0]["command"].startswith("newsdesk combine")
    assert "joined" in combined.figures["ensemble"]["slices"]
    assert combined.reference is not None
    assert combined.reference.rows == 60 < combined.figures["accuracy"]["validation"]["rows"]
    answers = Classifier(combined, tmp_path / "models" / "ag_news" / "1").classify(["the ferry left"], np.full(1, 2))
    assert combined.labels[answers.probabilities.argmax()] == "harbour"
    wrong = CliRunner().invoke(app, [*words[:1], f"{model}:nobody", *words[2:]])
    assert wrong.exit_code == 2
    assert "no member 'nobody'; it has" in wrong.stderr
