"""Measures, curves, perturbations and neighbours, against hand-computed values and scikit-learn."""

import random

import numpy as np
import pytest
from sklearn.metrics import brier_score_loss, confusion_matrix, precision_score, recall_score

from newsdesk.build.data import noise
from newsdesk.build.evaluation import curves, metrics, neighbours
from newsdesk.server.runtime.text import clean

CHANCE = np.random.default_rng(3)
PROBABILITIES = CHANCE.dirichlet([1, 1, 1], 200)
LABELS = CHANCE.integers(0, 3, 200)


def test_measures_are_scikit_learns():
    named = PROBABILITIES.argmax(-1)
    assert (metrics.confusion(PROBABILITIES, LABELS) == confusion_matrix(LABELS, named)).all()
    figures = metrics.per_label(PROBABILITIES, LABELS)
    assert [label.precision for label in figures] == pytest.approx(precision_score(LABELS, named, average=None))
    assert [label.recall for label in figures] == pytest.approx(recall_score(LABELS, named, average=None))
    assert [label.rows for label in figures] == np.bincount(LABELS).tolist()
    expected = brier_score_loss(LABELS, PROBABILITIES, labels=[0, 1, 2], scale_by_half=False)
    assert metrics.brier(PROBABILITIES, LABELS) == pytest.approx(expected)


def test_auroc_counts_the_pairs_in_their_order():
    """Four of six pairs are in order, and one is a tie."""
    assert metrics.auroc(np.array([0.1, 0.4, 0.3]), np.array([0.35, 0.4])) == pytest.approx(4.5 / 6)
    assert metrics.auroc(np.array([0.1, 0.2]), np.array([0.3])) == 1
    assert metrics.auroc(np.array([0.3]), np.array([0.1, 0.2])) == 0


def test_a_label_that_is_neither_there_nor_named_counts_nothing():
    figures = metrics.per_label(np.array([[0.9, 0.1, 0.0]]), np.array([0]))
    assert figures[2] == metrics.LabelScores(precision=0.0, recall=0.0, rows=0)


def test_reliability_has_a_place_for_every_bin_that_holds_a_row():
    probabilities = np.array([[0.97, 0.03], [0.99, 0.01], [0.55, 0.45], [1.0, 0.0]])
    bins = curves.reliability(probabilities, np.array([0, 1, 0, 0]))
    assert [place.rows for place in bins] == [1, 3]
    assert bins[1].accuracy == pytest.approx(2 / 3)
    assert bins[1].confidence == pytest.approx((0.97 + 0.99 + 1) / 3)


def test_coverage_begins_with_the_most_confident():
    probabilities = np.array([[0.6, 0.4], [0.99, 0.01], [0.8, 0.2], [0.9, 0.1]])
    curve = curves.coverage(probabilities, np.array([1, 0, 1, 0]), points=4)
    assert [place.accuracy for place in curve] == pytest.approx([1, 1, 2 / 3, 1 / 2])
    assert curve[-1].coverage == 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Shares slide (Reuters) Reuters - Oil rose again.", "Shares slide Oil rose again."),
        ("Cup final tonight AP - The city waits.", "Cup final tonight The city waits."),
        ("TORONTO (AP) -- A storm came.", "TORONTO A storm came."),
        ("A well-known APRON maker", "A well-known APRON maker"),
    ],
)
def test_source_tags_are_stripped_and_nothing_else(text: str, expected: str):
    assert noise.without_sources(text) == expected


def test_noise_changes_something_and_keeps_the_rest():
    text = "The striker scored twice in the final minutes to send the club into the cup's semifinals."
    assert noise.with_case_noise(text, random.Random(0)).lower() == text.lower()
    swapped = noise.with_typing_errors(text * 20, random.Random(0))
    assert swapped != text * 20
    assert 0.9 < len(swapped) / len(text * 20) < 1.1
    assert clean(noise.with_look_alikes(text, random.Random(0))) == text


def test_close_neighbours_share_half_of_their_word_trigrams():
    base = "a storm closed the northern port for two days and ferries stayed in the harbour"
    near, far = base.replace("two", "three"), "shares of the airline fell nine percent after it cut its forecast"
    assert neighbours.close([near, far, base], [base]).tolist() == [True, False, True]
    assert not neighbours.close(["two words"], ["two words"]).any()  # no trigram, nothing to compare
