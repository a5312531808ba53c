"""Columns of soft labels: read, refused, and learned from as by rows that stand once for each label."""

import csv
import json
from pathlib import Path

import msgspec
import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from newsdesk.build.commands import build
from newsdesk.build.data import own, soft_columns, sources
from newsdesk.build.data.rows import Row
from newsdesk.build.errors import DataError, RecipeError
from newsdesk.build.members import layers
from newsdesk.build.members.linear import Counted, fit
from newsdesk.build.recipe import Linear, Source, load
from newsdesk.build.training import frozen
from newsdesk.build.training.linear import softs
from newsdesk.server.runtime.ngrams import Features
from tests.build.encoders import WORDS, sentence

SETTINGS = Linear(blocks=(Features(buckets=1 << 12, words=(1,)),), solver="logistic", cost=10.0)


def write(path: Path, *rows: str) -> Path:
    path.write_text("\n".join(rows), encoding="utf-8")
    return path


def read(path: Path, **columns: str) -> list[sources.RawRow]:
    source = {"file": str(path), "soft_columns": columns or {"sea": "a", "land": "b"}, "label_column": ""}
    return [*sources.read(msgspec.convert(source, Source))]


def test_the_likeliest_label_is_the_rows(tmp_path: Path):
    rows = read(write(tmp_path / "rows.csv", "text,a,b", "a ferry,0.9,0.1", "a hedge,0.33,0.66"))
    assert [row.label for row in rows] == ["sea", "land"]
    assert rows[0].soft == {"sea": 0.9, "land": 0.1}
    assert rows[1].soft == pytest.approx({"sea": 1 / 3, "land": 2 / 3})  # two digits each: the sum is 1 again


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        ("-0.2,1.2", "row 1: column 'a' holds '-0.2', expected a probability"),
        ("nan,1", "row 1: column 'a' holds 'nan', expected a probability"),
        (",1", "row 1: column 'a' holds '', expected a probability"),
        ("0.9,often", "row 1: column 'b' holds 'often', expected a probability"),
        ("0.5,0.2", "row 1: the probabilities a 0.5, b 0.2 have the sum 0.7, expected 1"),
        ("0,0", "row 1: the probabilities a 0, b 0 have the sum 0, expected 1"),
    ],
)
def test_what_is_no_probability_is_refused(tmp_path: Path, cells: str, expected: str):
    with pytest.raises(DataError, match=expected):
        read(write(tmp_path / "rows.csv", "text,a,b", f"a ferry,{cells}"))


def test_a_column_that_is_not_there_is_named(tmp_path: Path):
    with pytest.raises(DataError, match=r"no column 'c'.*--soft-columns"):
        read(write(tmp_path / "rows.csv", "text,a,b", "a ferry,1,0"), sea="a", land="c")


def test_columns_are_named_one_by_one_or_by_what_they_begin_with():
    assert soft_columns.named("sea = a, land=b", []) == {"sea": "a", "land": "b"}
    assert soft_columns.named("p_", ["text", "p_sea", "p_land"]) == {"sea": "p_sea", "land": "p_land"}


@pytest.mark.parametrize("text", ["sea=a", "sea=a,sea=b", "sea=,land=b", "p_", "sea,land=b"])
def test_columns_that_make_no_labels_are_refused(text: str):
    with pytest.raises(RecipeError, match="--soft-columns"):
        soft_columns.named(text, ["text", "label:sea"])


def test_files_with_a_label_stand_beside_files_with_soft_labels(tmp_path: Path):
    """A label that is nowhere the likeliest is one all the same."""
    soft = write(tmp_path / "soft.csv", "text,label:sea,label:land,label:air", "a ferry,0.6,0.1,0.3")
    certain = write(tmp_path / "certain.csv", "text,label", "a hedge,land")
    described = {"text_columns": ["text"], "label_column": "label", "columns": []}
    changes = own.changes(load("own"), soft, more=[certain], soft="label:", **described)
    assert changes["labels"] == ["air", "land", "sea"]
    assert changes["data.train"]["soft_columns"]["air"] == "label:air"
    assert "soft_columns" not in changes["data.more"][0]
    with pytest.raises(DataError, match=r"certain.csv: no column of those that --soft-columns 'sea=x,land=y' names"):
        own.changes(load("own"), certain, soft="sea=x,land=y", **described)


def test_a_row_stands_once_for_each_label_that_it_may_have():
    soft = np.array([[0.75, 0.25, 0], [0, 0, 1]])
    texts, labels, weights = layers.repeated(soft, np.array([2.0, 1.0]), balanced=False)
    assert texts.tolist() == [0, 0, 1]
    assert labels.tolist() == [0, 1, 2]
    assert weights.tolist() == [1.5, 0.5, 1]
    _, labels, weights = layers.repeated(soft, None, balanced=True)
    assert np.bincount(labels, weights) == pytest.approx([2 / 3] * 3)


def test_rows_that_are_certain_weigh_one():
    assert softs([Row("a", 1)], 2) is None
    assert softs([Row("a", 1), Row("b", 0, soft=(0.5, 0.5))], 2).tolist() == [[0, 1], [0.5, 0.5]]


def test_a_linear_member_learns_the_probabilities_that_rows_of_the_same_text_show():
    """One word in all rows of a kind: unpenalised, the answer is the mean of the soft labels, 0.8 and 0.3."""
    texts = ["ferry"] * 20 + ["hedge"] * 20
    soft = np.repeat([[0.8, 0.2], [0.3, 0.7]], 20, axis=0)
    settings = msgspec.structs.replace(SETTINGS, cost=1e4)
    member = fit(Counted.of(texts, settings), soft.argmax(1), 2, settings, soft=soft)
    logits = member.logits(["ferry", "hedge"])
    answers = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    assert answers[:, 0] == pytest.approx([0.8, 0.3], abs=0.01)


@pytest.mark.parametrize("balanced", [False, True])
def test_certain_soft_labels_are_labels(balanced: bool):
    rows = [(sentence(label, i), number) for number, label in enumerate(WORDS) for i in range(6 + 4 * number)]
    texts, labels = [text for text, _ in rows], np.array([label for _, label in rows])
    counted, soft = Counted.of(texts, SETTINGS), np.eye(3)[labels]
    fits = [fit(counted, labels, 3, SETTINGS, balanced=balanced, soft=each).logits(texts) for each in (None, soft)]
    np.testing.assert_allclose(*fits, atol=1e-3)
    states = np.random.default_rng(0).normal(size=(len(labels), 5)).astype(np.float32)
    heads = [frozen.fit(states, labels, 3, balanced=balanced, soft=each).logits(states) for each in (None, soft)]
    np.testing.assert_allclose(*heads, atol=1e-2)


def test_a_head_learns_from_soft_labels():
    states = np.repeat([[1.0, 0], [0, 1.0]], 20, axis=0).astype(np.float32)
    soft = np.repeat([[0.8, 0.2], [0.3, 0.7]], 20, axis=0)
    logits = frozen.fit(states, soft.argmax(1), 2, cost=1e4, soft=soft).logits(states[[0, -1]])
    answers = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    assert answers[:, 0] == pytest.approx([0.8, 0.3], abs=0.01)


def test_a_build_reads_soft_columns(tmp_path: Path):
    with (tmp_path / "rows.csv").open("w", newline="", encoding="utf-8") as file:
        lines = csv.writer(file)
        lines.writerow(["text", *(f"label:{label}" for label in WORDS)])
        for i in range(12):
            for label in WORDS:
                lines.writerow([sentence(label, i), *(0.8 if other == label else 0.1 for other in WORDS)])
    app = typer.Typer()
    app.command()(build)
    blocks = [{"buckets": 4096, "words": [1]}]
    options = ["--soft-columns", "label:", "--set", f"members.linear.linear.blocks={json.dumps(blocks)}", "--json"]
    options += ["--stage", "train", "--artifacts", str(tmp_path / "artifacts")]
    result = CliRunner().invoke(app, ["--data", str(tmp_path / "rows.csv"), *options])
    assert result.exit_code == 0, result.stderr
    figures = json.loads(result.stdout)
    assert figures["clean"]["train"]["per_label"] == dict.fromkeys(sorted(WORDS), 12)
    assert figures["select"]["sets"][0]["accuracy"] > 0.9
