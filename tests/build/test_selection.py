"""Which members serve, and which rows are probably labelled wrong."""

from pathlib import Path

import numpy as np

from newsdesk.build.data import suspects
from newsdesk.build.data.rows import Row
from newsdesk.build.ensemble import selection
from newsdesk.build.evaluation.metrics import auroc, softmax

ROWS, COUNT = 400, 3


def said(labels: np.ndarray, skill: float, seed: int) -> np.ndarray:
    """Return the probabilities of a member that is right in places of its own, FP [rows, labels]."""
    noise = np.random.default_rng(seed).normal(size=(len(labels), COUNT))
    return softmax(noise * 2 + skill * np.eye(COUNT)[labels])


LABELS = np.random.default_rng(0).integers(COUNT, size=ROWS)


def test_two_that_are_wrong_in_different_places_serve_together():
    chosen = selection.select({"linear": said(LABELS, 2.5, 1), "encoder": said(LABELS, 2.5, 2)}, LABELS)
    assert chosen.members == ["linear", "encoder"]
    accuracies = {tuple(line["members"]): line["accuracy"] for line in chosen.table}
    assert accuracies["linear", "encoder"] > max(accuracies["linear",], accuracies["encoder",])


def test_a_member_that_knows_nothing_of_the_language_is_left_out():
    chosen = selection.select({"linear": said(LABELS, 3, 1), "encoder": said(LABELS, 0, 2)}, LABELS)
    assert chosen.members == ["linear"]


def test_an_interval_holds_the_share_and_shrinks_with_rows():
    low, high = selection.interval(0.9, 50)
    assert low < 0.9 < high < 1
    assert np.diff(selection.interval(0.9, 5000)) < (high - low) / 5
    assert selection.interval(1.0, 20)[1] == 1.0


def test_flipped_labels_stand_at_the_head_of_the_list(tmp_path: Path):
    chance = np.random.default_rng(4)
    flipped = chance.random(ROWS) < 0.05
    bears = np.where(flipped, (LABELS + 1) % COUNT, LABELS)
    probabilities = said(LABELS, 8, 5)
    suspicion = -suspects.margins(probabilities, bears)
    assert auroc(suspicion[~flipped], suspicion[flipped]) > 0.95
    rows = [Row(f"text {i}", int(label)) for i, label in enumerate(bears)]
    count = suspects.write(tmp_path / "list.csv", rows, ["a", "b", "c"], probabilities)
    listed = suspects.texts(tmp_path / "list.csv")
    assert len(listed) == count
    found = {int(text.split()[1]) for text in listed}
    assert len(found & set(np.flatnonzero(flipped).tolist())) > 0.8 * flipped.sum()
    assert count < 3 * flipped.sum()
