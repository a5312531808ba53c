"""The members that serve, and the rows that are probably labelled wrong."""

from pathlib import Path

import numpy as np

from newsdesk.build.data import suspects
from newsdesk.build.data.rows import Row
from newsdesk.build.ensemble import selection
from newsdesk.build.ensemble.folds import folds
from newsdesk.build.evaluation.metrics import auroc, softmax
from newsdesk.build.recipe import EncoderMember
from newsdesk.build.recipe.members import Frozen
from newsdesk.build.training import frozen

ROWS, COUNT = 400, 3


def predictions(labels: np.ndarray, skill: float, seed: int) -> np.ndarray:
    """Return the probabilities of a member that is right in places of its own, FP [rows, labels]."""
    noise = np.random.default_rng(seed).normal(size=(len(labels), COUNT))
    return softmax(noise * 2 + skill * np.eye(COUNT)[labels])


LABELS = np.random.default_rng(0).integers(COUNT, size=ROWS)


def test_two_that_are_wrong_in_different_places_serve_together():
    chosen = selection.select({"linear": predictions(LABELS, 2.5, 1), "encoder": predictions(LABELS, 2.5, 2)}, LABELS)
    assert chosen.members == ["linear", "encoder"]
    accuracies = {tuple(line.members): line.accuracy for line in chosen.table}
    assert accuracies["linear", "encoder"] > max(accuracies["linear",], accuracies["encoder",])


def test_a_member_that_knows_nothing_of_the_language_is_left_out():
    chosen = selection.select({"linear": predictions(LABELS, 3, 1), "encoder": predictions(LABELS, 0, 2)}, LABELS)
    assert chosen.members == ["linear"]


def test_few_rows_keep_a_member_that_many_rows_leave_out():
    """With 24 rows nobody can tell whether the mean of a good and a poor member is worse than the good one alone."""
    labels = np.random.default_rng(0).integers(COUNT, size=4000)
    members = {"linear": predictions(labels, 4, 1), "encoder": predictions(labels, 0.3, 2)}
    few = selection.select({name: each[:24] for name, each in members.items()}, labels[:24])
    losses = {tuple(line.members): line.log_loss for line in few.table}
    assert losses["linear",] < losses["linear", "encoder"]
    assert few.members == ["linear", "encoder"]
    assert selection.select(members, labels).members == ["linear"]


def test_a_cost_is_the_smallest_that_is_not_clearly_worse():
    """States that say nothing cost by chance alone; a weak layer misses labels that small numbers say."""
    chance = np.random.default_rng(3)
    member = EncoderMember(name="encoder", base="base", pooling="unit", frozen=Frozen())
    noise = chance.normal(size=(ROWS, 8)).astype(np.float32)
    parts = folds(LABELS, 5, 0)
    weights = np.ones(ROWS)
    least = min(member.frozen.costs)
    assert frozen.out_of_fold(member, COUNT, lambda _: noise, LABELS, weights, parts)[0] == least
    hidden = noise * ([0.02] * COUNT + [1] * (8 - COUNT)) + 0.05 * np.eye(COUNT, 8)[LABELS]
    assert frozen.out_of_fold(member, COUNT, lambda _: hidden.astype(np.float32), LABELS, weights, parts)[0] >= 1


def test_a_layer_that_is_only_less_sure_of_itself_is_as_good():
    """Its temperature mends that, so the layer that is held back most is taken."""
    chance = np.random.default_rng(3)
    member = EncoderMember(name="encoder", base="base", pooling="unit", frozen=Frozen())
    told = (chance.normal(size=(ROWS, 8)) * 0.1 + np.eye(COUNT, 8)[LABELS]).astype(np.float32)
    cost, logits = frozen.out_of_fold(member, COUNT, lambda _: told, LABELS, np.ones(ROWS), folds(LABELS, 5, 0))
    assert cost == min(member.frozen.costs)
    assert (logits.argmax(1) == LABELS).all()
    assert softmax(logits).max(1).mean() < 0.98


def test_an_interval_holds_the_share_and_shrinks_with_rows():
    low, high = selection.interval(0.9, 50)
    assert low < 0.9 < high < 1
    assert np.diff(selection.interval(0.9, 5000)) < (high - low) / 5
    assert selection.interval(1.0, 20)[1] == 1.0


def test_flipped_labels_stand_at_the_head_of_the_list(tmp_path: Path):
    chance = np.random.default_rng(4)
    flipped = chance.random(ROWS) < 0.05
    bears = np.where(flipped, (LABELS + 1) % COUNT, LABELS)
    probabilities = predictions(LABELS, 8, 5)
    suspicion = -suspects.margins(probabilities, bears)
    assert auroc(suspicion[~flipped], suspicion[flipped]) > 0.95
    rows = [Row(f"text {i}", int(label)) for i, label in enumerate(bears)]
    count = suspects.write(tmp_path / "list.csv", rows, ["a", "b", "c"], probabilities)
    listed = suspects.texts(tmp_path / "list.csv")
    assert len(listed) == count
    suspected = {int(text.split()[1]) for text in listed}
    assert len(suspected & set(np.flatnonzero(flipped).tolist())) > 0.8 * flipped.sum()
    assert count < 3 * flipped.sum()
