"""Rows as a user has them: several files, uneven labels, and labels that are spelled in two ways."""

import json
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch

from newsdesk.build import recipe as recipes
from newsdesk.build.data import own, tables
from newsdesk.build.data.cleaning import look_alike
from newsdesk.build.data.rows import Row
from newsdesk.build.evaluation.metrics import softmax
from newsdesk.build.members.bag import logits
from newsdesk.build.pipeline.building import data
from newsdesk.build.recipe import Features, NgramMember, Student
from newsdesk.build.training import student
from newsdesk.build.training.fitting import Fitting
from newsdesk.build.training.weights import weigh
from tests.build.encoders import WORDS, sentence
from tests.build.test_own_recipe import run, sentences, write


def test_balanced_labels_count_as_much_and_rows_by_their_weight():
    rows = [Row("a", 0), Row("b", 0), Row("c", 0, weight=2), Row("d", 1)]
    assert weigh(rows[:2], balanced=False) is None
    np.testing.assert_allclose(weigh(rows, balanced=False), [0.8, 0.8, 1.6, 0.8])
    even = weigh(rows, balanced=True)
    assert even[:3].sum() == pytest.approx(even[3])
    assert even.mean() == pytest.approx(1)


def test_a_row_of_no_weight_teaches_an_encoder_nothing():
    loss = object.__new__(Fitting)
    loss._recipe, loss._distil = recipes.Train(), None
    scores, labels = torch.tensor([[2.0, 0.0], [0.0, 0.0]]), torch.tensor([0, 1])
    alone = loss._loss(scores[:1], labels[:1], None, None)
    assert loss._loss(scores, labels, None, torch.tensor([2.0, 0.0])) == pytest.approx(float(alone))
    assert loss._loss(scores, labels, None, None) > alone


def test_a_balanced_student_believes_in_the_rare_label(tmp_path: Path):
    """95 to 5: every text has a word of the common label, and a few have one of the rare."""
    rare = [Row(f"{sentence('harbour', i)} {WORDS['kitchen'][i % 8]}", 1) for i in range(40)]
    rows = [*(Row(sentence("harbour", i), 0) for i in range(200)), *rare[:10]]
    settings = Student(features=Features(buckets=1 << 12, words=(1,)), width=8, hidden=0, epochs=4, min_count=1)
    of_rare = {}
    for balanced in (False, True):
        folder = tmp_path / str(balanced)
        folder.mkdir()
        member = NgramMember(name="student", student=settings, balanced=balanced)
        student.train(member, ["common", "rare"], rows, rows[::5], 3, folder)
        of_rare[balanced] = softmax(logits(folder, [row.text for row in rare[10:]]))[:, 1].mean()
    assert of_rare[True] > 2 * of_rare[False]


def test_several_files_each_with_its_weight(tmp_path: Path):
    first, second = write(tmp_path / "a.csv", sentences(range(4))), write(tmp_path / "b.csv", sentences(range(3, 8)))
    files = [own.weighed(str(first)), own.weighed(f"{second}:0.5")]
    assert files == [(first, 1.0), (second, 0.5)]
    changes = own.changes(
        recipes.load("own"),
        first,
        text_columns=["text"],
        label_column="label",
        columns=[],
        more=[second],
        weights=[1.0, 0.5],
    )
    made = data(recipes.load("own", changes), tmp_path / "artifacts", lambda line: None)
    rows = tables.read(made["split"] / "train.parquet")
    assert len(rows) == 24
    weights = {row.text: row.weight for row in rows}
    assert weights[sentence("harbour", 3)] == 1.0, "the first file counts"
    assert weights[sentence("harbour", 4)] == 0.5


def test_the_command_line_takes_several_files(tmp_path: Path):
    first, second = write(tmp_path / "a.csv", sentences(range(10))), write(tmp_path / "b.csv", sentences(range(10, 16)))
    result = run(tmp_path, first, "--data", f"{second}:0.5", "--stage", "select", "--json")
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["read"] == {"train": 48}


def test_labels_that_look_alike_are_named(tmp_path: Path):
    assert look_alike(["money", "Money", "caf\u00e9", "cafe\u0301", "sport"]) == [
        ["money", "Money"],
        ["caf\u00e9", "cafe\u0301"],
    ]
    rows = [("a ferry", "Harbour"), *sentences(range(6))]
    result = run(tmp_path, write(tmp_path / "rows.csv", rows), "--stage", "clean", "--json")
    assert "labels that look alike: 'Harbour', 'harbour'" in result.stderr
    assert json.loads(result.stdout)["clean"]["look_alike_labels"] == {"groups": [["Harbour", "harbour"]]}


def test_few_rows_prune_no_vocabulary(tmp_path: Path):
    columns = {"text_columns": ["text"], "label_column": "label", "columns": []}
    compact = recipes.load("compact")
    assert any(getattr(member, "min_piece_count", 0) for member in compact.members)
    changed = recipes.load("compact", own.changes(compact, write(tmp_path / "r.csv", sentences(range(5))), **columns))
    assert not any(getattr(member, "min_piece_count", 0) for member in changed.members)
    assert msgspec.to_builtins(changed.split).get("slices") is None
