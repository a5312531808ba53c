"""Recipe `own`: a CSV of a user's own, from few rows, with and without an encoder, to a model that is served."""

import csv
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner, Result

from newsdesk.build.commands import build
from newsdesk.clients import Client
from newsdesk.server.runtime import manifest
from newsdesk.server.runtime.classifier import Classifier
from tests.build.encoders import WORDS, save_base, sentence
from tests.launching import Server

app = typer.Typer()
app.command()(build)
SMALL = "members.linear.linear.blocks"
BLOCKS = [{"buckets": 1 << 14, "words": [1, 2]}, {"buckets": 1 << 14, "words": [], "parts": [3, 4]}]
MODEL = "letters-of-mine"
ASKED = ["the ferry near the old pier", "soup with butter and onion", "a hedge by the pond"]


def write(path: Path, rows: list[tuple[str, str]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("text", "label"), *rows])
    return path


def sentences(numbers: range) -> list[tuple[str, str]]:
    return [(sentence(label, i), label) for i in numbers for label in WORDS]


def run(folder: Path, rows: Path, *options: str) -> Result:
    words = ["--data", str(rows), "--artifacts", str(folder / "artifacts"), "--output", str(folder / "models")]
    return CliRunner().invoke(app, [*words, "--set", f"{SMALL}={json.dumps(BLOCKS)}", *options])


@pytest.fixture(autouse=True)
def no_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.delenv("NEWSDESK_BASES", raising=False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("own")


@pytest.fixture(scope="module")
def built(folder: Path) -> Result:
    """A model of 60 rows, one of a label of its own, 3 of them labelled wrong, without an encoder."""
    wrong = {"the tide again": "kitchen", "old cargo on a pier": "garden", "flour and salt": "harbour"}
    rows = [*sentences(range(20)), *wrong.items(), ("a lone zebra", "savanna")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        patch.delenv("NEWSDESK_BASES", raising=False)
        named = ["--set", f"repository.model={MODEL}"]
        result = run(folder, write(folder / "rows.csv", rows), *named, "--json")
    assert result.exit_code == 0, result.stderr
    return result


def test_a_few_dozen_rows_without_an_encoder(built: Result, folder: Path):
    model = folder / "models" / MODEL / "1"
    loaded = manifest.load(model)
    assert [member.name for member in loaded.members] == ["linear"]
    answers = Classifier(loaded, model).classify(ASKED, np.full(3, 2))
    assert [loaded.labels[i] for i in answers.probabilities.argmax(-1)] == ["harbour", "kitchen", "garden"]


def test_live_answers_are_held_against_rows_that_no_fit_saw(built: Result, folder: Path):
    """The words of a row are its own: without it the model would not know some of them."""
    held_against = manifest.load(folder / "models" / MODEL / "1").reference
    assert held_against is not None
    assert held_against.rows == 63
    assert held_against.unknown[0] < 63
    assert sum(held_against.best.labels[:3]) == 63


def test_what_is_left_out_is_said_in_a_line(built: Result):
    lines = built.stderr.splitlines()
    assert [line for line in lines if line.startswith("ngrams: left out, 64 rows are fewer than the 5,000")]
    assert len([line for line in lines if "there is no encoder" in line]) == 1
    assert [line for line in lines if "label 'savanna' has 1 row" in line]


def test_figures_come_from_rows_that_a_fit_did_not_see(built: Result):
    """One of 64 rows is the only one of its label, and not judged. With 3 wrong labels nothing can be right of all."""
    figures = json.loads(built.stdout)
    assert figures["split"]["train"] == 64
    assert figures["select"]["rows"] == figures["judge"]["validation"]["rows"] == 63
    (line,) = figures["select"]["sets"]
    low, high = line["accuracy_interval"]
    assert low < line["accuracy"] < high
    assert 0.8 < line["accuracy"] <= 60 / 63


def test_rows_probably_labelled_wrong_are_listed(built: Result, folder: Path):
    with (folder / "models" / MODEL / "suspects.csv").open(newline="") as file:
        listed = [*csv.DictReader(file)]
    assert {"old cargo on a pier", "flour and salt"} <= {line["text"] for line in listed[:4]}
    assert {line["text"]: line["likelier"] for line in listed}["old cargo on a pier"] == "harbour"


def test_suspects_are_left_out_of_the_last_fit(built: Result, folder: Path):
    result = run(folder, folder / "rows.csv", "--set", "split.drop_suspects=0.05", "--stage", "train", "--json")
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["members"]["linear"]["train"]["rows"] == 61


def test_with_a_base_the_encoder_is_judged_beside_the_linear_member(folder: Path):
    base = save_base(folder / "base")
    options = ["--set", f"members.encoder.base={base}", "--set", f"members.tuned.base={base}"]
    options += ["--set", "members.linear.least_rows=100", "--quick"]
    options += ["--output", str(folder / "with-base")]
    result = run(folder, write(folder / "more.csv", sentences(range(20))), *options, "--json")
    assert result.exit_code == 0, result.stderr
    figures = json.loads(result.stdout)
    assert figures["select"]["members"] == ["encoder"]
    assert figures["members"]["encoder"]["train"]["cost"] in (0.1, 0.3, 1.0, 3.0, 10.0)
    assert figures["select"]["sets"][0]["accuracy"] > 0.5
    model = folder / "with-base" / "ag_news" / "1"
    assert "frozen" in (model.parent / "MODEL_CARD.md").read_text()
    loaded = manifest.load(model)
    assert {variant for member in loaded.members for variant in member.graphs} == {"fp32"}
    sentences_of = [sentence(label, i) for i in range(30, 50) for label in sorted(WORDS)]
    answers = Classifier(loaded, model).classify(sentences_of, np.full(60, 2))
    assert (answers.probabilities.argmax(-1) == np.arange(60) % 3).mean() > 0.6


def test_folds_know_nothing_of_teachers(folder: Path):
    result = run(folder, folder / "rows.csv", "--set", "members.ngrams.calibration_folds=3")
    assert result.exit_code == 2
    assert "split.folds asks every member about rows that it did not see" in result.stderr


@pytest.fixture
def served(built: Result, folder: Path) -> Iterator[Server]:
    server = Server(folder / "models", folder / "state", ["--instances", "1", "--no-gateway"]).start()
    yield server
    server.stop()


def test_a_new_users_hour(served: Server, folder: Path):
    """From the CSV to the command line's answers, without a hub, in a name of their own: build, serve, classify."""
    served.until("Ctrl-C stops it", seconds=180)
    code = "from newsdesk.clients.cli.app import app; app()"
    url = f"grpc://127.0.0.1:{served.ports[1]}"
    command = [sys.executable, "-c", code, "classify", "--url", url, *ASKED]
    with Client(url) as client:
        assert [*client.models()] == [MODEL]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=180, check=False)
    assert ran.returncode == 0, ran.stderr
    assert [line for line in ("harbour", "kitchen", "garden") if line not in ran.stdout] == []
