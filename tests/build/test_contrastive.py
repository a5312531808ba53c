"""Contrastive fine-tuning on few rows: its batches, its loss, and when it is taken."""

from pathlib import Path

import numpy as np
import pytest
import torch

from newsdesk.build.data.rows import Row
from newsdesk.build.ensemble.folds import folds
from newsdesk.build.recipe import Contrastive, EncoderMember, Frozen
from newsdesk.build.training import contrastive, heads, trainer
from tests.build.encoders import WORDS, save_base, sentence

NAMES = sorted(WORDS)


def member(base: str = "base", **changes: object) -> EncoderMember:
    fields = {"max_length": 32, "pooling": "unit", "frozen": Frozen(), "contrastive": Contrastive()}
    return EncoderMember(name="encoder", base=base, **(fields | changes))  # type: ignore[arg-type]


def rows(count: int) -> list[Row]:
    return [Row(sentence(name, i), label) for i in range(count) for label, name in enumerate(NAMES)]


@pytest.mark.parametrize(
    ("counts", "labels", "texts"),
    [([40, 40], 2, 32), ([20] * 10, 8, 32), ([40, 1], 2, 17), ([3] * 20, 8, 24), ([2, 2, 2], 3, 6)],
)
def test_a_batch_has_as_many_texts_of_each_of_its_labels(counts: list[int], labels: int, texts: int):
    of_rows = np.repeat(np.arange(len(counts)), counts)
    drawn = contrastive.draw(of_rows, 32, np.random.default_rng(0))
    assert len(drawn) == len({*drawn}) == texts
    assert len({*of_rows[drawn]}) == labels


def test_the_loss_weighs_pairs_of_one_label_like_pairs_of_two():
    """Cosines: 0.6 of the pair of one label, 0 and 0.8 of the others; (0.4² + (0² + 0.8²) / 2) / 2 is 0.24."""
    states = torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]])
    assert contrastive.loss(states, torch.tensor([4, 4, 7])).item() == pytest.approx(0.24)


def test_a_label_of_one_text_has_no_pair_of_its_own():
    states = torch.tensor([[1.0, 0.0], [0.6, 0.8]])
    assert contrastive.loss(states, torch.tensor([0, 1])).item() == pytest.approx(0.18)


@pytest.mark.parametrize(("count", "steps"), [(1, 60), (640, 60), (641, 61), (1280, 120)])
def test_more_rows_take_more_steps(count: int, steps: int):
    assert Contrastive(steps=60, epochs=3, batch_size=32).steps_of(count) == steps


def test_the_layer_has_to_be_fitted_alone():
    with pytest.raises(ValueError, match="member encoder: `contrastive` is followed by the fit of the linear layer"):
        member(frozen=None)


@pytest.mark.parametrize(("told", "tuned"), [("tuned", True), ("pretrained", False)])
def test_the_encoder_that_says_more_of_other_rows_is_taken(told: str, tuned: bool, monkeypatch):
    every = rows(20)
    truth = np.array([row.label for row in every])
    chance = np.random.default_rng(0)
    noise = chance.normal(size=(60, 8)).astype(np.float32)
    telling = noise * 0.1 + np.eye(3, 8, dtype=np.float32)[truth]
    learned: list[tuple[set[str], set[int]]] = []

    def tune(of: EncoderMember, texts: list[str], labels: np.ndarray, seed: int) -> None:
        learned.append(({*texts}, {*labels.tolist()}))

    monkeypatch.setattr(contrastive, "tune", tune)
    monkeypatch.setattr(contrastive, "states", lambda *_: telling if told == "tuned" else noise)
    states = noise if told == "tuned" else telling
    parts = folds(truth, 5, 0)
    logits, _, is_tuned = heads.out_of_fold(member(), 3, every, states, parts, 0)
    assert is_tuned is tuned
    assert (logits.argmax(1) == truth).mean() > 0.9
    assert [(len(texts), labels) for texts, labels in learned] == [(40, {0, 1, 2})] * 3
    assert not set.intersection(*(texts for texts, _ in learned))  # each row is asked about once


def test_many_rows_are_not_tried(monkeypatch):
    monkeypatch.setattr(contrastive, "tune", lambda *_: pytest.fail("tuned"))
    every = rows(4)
    truth = np.array([row.label for row in every])
    states = np.eye(3, 8, dtype=np.float32)[truth]
    few = member(contrastive=Contrastive(max_rows=11))
    assert heads.out_of_fold(few, 3, every, states, folds(truth, 2, 0), 0)[2] is False


def test_a_tuned_encoder_is_saved_with_its_layer(tmp_path: Path):
    """Random weights put the texts of all labels near each other."""
    base = str(save_base(tmp_path / "base"))
    of_base = member(base, contrastive=Contrastive(steps=40, learning_rate=1e-2))
    every = rows(12)
    states = np.zeros((len(every), 32), np.float32)
    figures = heads.train(
        of_base, NAMES, every, every, 0, tmp_path, states=states, lengths=np.full(36, 9), cost=1.0, tuned=True
    )
    assert figures.tuned
    others = [Row(sentence(name, i), label) for i in range(30, 40) for label, name in enumerate(NAMES)]
    answers = trainer.logits(tmp_path / trainer.CHECKPOINT, [row.text for row in others], 32)
    assert (answers.argmax(1) == [row.label for row in others]).mean() > 0.8
