"""Drift: the index against values worked out by hand, the window, the reference, and what a text's unknown share is."""

from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import replace

from newsdesk.server.runtime import manifest, reference
from newsdesk.server.runtime.classifier import BatchAnswers, Classifier, Work
from newsdesk.server.runtime.drift import HISTOGRAMS, Drift, by_chance, stability_index
from newsdesk.server.runtime.errors import ManifestError
from newsdesk.server.runtime.ngrams import Features, Ngrams
from newsdesk.server.runtime.reference import LEAST, Reference
from newsdesk.server.runtime.terms import Terms
from tests import tiny

ROWS = 400


def rows_of(shares: list[float], count: int) -> np.ndarray:
    """Return probabilities of so many rows, of which a share each is answered with each label, at 0.7."""
    labels = np.repeat(np.arange(len(shares)), [round(share * count) for share in shares])
    return np.where(np.arange(len(shares)) == labels[:, None], 0.7, 0.1).astype(np.float32)


def answers(shares: list[float], count: int, words: int = 20, unknown: float = 0.0) -> BatchAnswers:
    probabilities = rows_of(shares, count)
    zeros = np.zeros(count, np.int64)
    lengths, shares_unknown = np.full(count, words), np.full(count, unknown)
    return BatchAnswers(probabilities, zeros, zeros, probabilities[:, None], lengths, shares_unknown, Work())


@pytest.fixture
def expected() -> Reference:
    """400 rows of 20 words: each label a quarter at best, none of the last at fast."""
    evenly, otherwise = rows_of([0.25] * 4, ROWS), rows_of([0.5, 0.25, 0.25, 0], ROWS)
    by_quality = {"fast": otherwise, "balanced": evenly, "best": evenly}
    return reference.measure(by_quality, np.full(ROWS, 20), np.zeros(ROWS))


def test_the_index_is_as_by_hand():
    """(0.5 − 0.25) ln 2 + (0.3 − 0.25) ln 1.2 + (0.2 − 0.5) ln 0.4 = 0.17329 + 0.00912 + 0.27489."""
    assert stability_index(np.array([0.5, 0.3, 0.2]), np.array([0.25, 0.25, 0.5])) == pytest.approx(0.45729, abs=1e-5)
    assert stability_index(np.array([0.4, 0.6]), np.array([0.4, 0.6])) == 0


def test_an_empty_bin_counts_as_a_thousandth():
    """0.5 ln 2 + (0.001 − 0.5) ln 0.002 = 0.34657 + 3.10108, whichever side is empty."""
    full, empty = np.array([0.5, 0.5]), np.array([1.0, 0.0])
    assert stability_index(empty, full) == stability_index(full, empty) == pytest.approx(3.44765, abs=1e-4)
    assert stability_index(np.array([1.0, 0.0]), np.array([1.0, 0.0])) == 0


def test_chance_alone_stays_below_its_bound():
    """Draws of the same distribution, of which one in twenty may be above the bound."""
    chance, shares = np.random.default_rng(5), np.array([0.4, 0.3, 0.2, 0.1])
    above = [
        stability_index(chance.multinomial(500, shares) / 500, chance.multinomial(400, shares) / 400)
        > by_chance(4, 500, 400)
        for _ in range(400)
    ]
    assert 0.01 < np.mean(above) < 0.12


def test_what_is_like_the_reference_has_no_index_and_what_is_not_has(expected: Reference):
    drift = Drift(expected)
    drift.add(answers([0.25] * 4, 400), np.full(400, 2))
    assert drift.take()["labels"].tolist() == [100] * 4
    read = drift.indices()
    assert [*read] == list(HISTOGRAMS)
    assert all(index.value == pytest.approx(0) for index in read.values())
    drift.add(answers([1.0, 0, 0, 0], 4000, words=400, unknown=0.7), np.full(4000, 2))
    drift.take()
    read = drift.indices()
    assert read["labels"].value == pytest.approx(3 * 0.249 * np.log(250) + 0.75 * np.log(4))
    assert min(read[name].value for name in ("words", "unknown")) > 6
    assert read["confidence"].value == pytest.approx(0)


def test_answers_of_each_quality_are_held_against_those_of_the_same(expected: Reference):
    """Half at fast, of [½, ¼, ¼, 0], and half at best, of ¼ each: [⅜, ¼, ¼, ⅛] is no drift."""
    drift = Drift(expected)
    drift.add(answers([0.375, 0.25, 0.25, 0.125], 400), np.tile([0, 2], 200))
    drift.take()
    assert drift.indices()["labels"].value == pytest.approx(0)


def test_only_the_last_answers_count_and_a_few_say_nothing(expected: Reference):
    drift = Drift(expected, window=LEAST)
    drift.add(answers([1, 0, 0, 0], LEAST - 1), np.full(LEAST - 1, 2))
    drift.take()
    assert drift.indices() == {}
    drift.add(answers([0.25] * 4, LEAST), np.full(LEAST, 2))
    assert drift.due
    drift.take()
    assert drift.indices()["labels"].value == pytest.approx(0)
    assert not drift.due


def test_answers_that_are_none_do_not_count(expected: Reference):
    """A NaN failed its request, and newsdesk's own probes are nobody's texts."""
    drift, batch = Drift(expected), answers([0.25] * 4, 400)
    batch.probabilities[0] = np.nan
    among = np.ones(400, bool)
    among[[0, 399]] = False
    drift.add(batch, np.full(400, 2), among)
    assert drift.take()["labels"].tolist() == [99, 100, 100, 99]
    assert drift.take()["labels"].tolist() == [0] * 4


def test_a_bin_ends_with_its_bound():
    assert reference.bins(np.array([0.2, 0.21, 0.99, 0.995]), reference.CONFIDENCE).tolist() == [0, 1, 8, 9]
    assert reference.bins(np.array([4, 5, 1000]), reference.WORDS).tolist() == [0, 1, 10]
    assert reference.bins(np.array([0.0, 0.01, 1.0]), reference.UNKNOWN).tolist() == [0, 1, 9]


def test_a_manifest_may_have_a_reference_and_refuses_one_of_other_labels(tmp_path: Path, expected: Reference):
    made = tiny.write(tmp_path)
    assert manifest.load(tmp_path).reference is None
    manifest.save(replace(made, reference=expected), tmp_path)
    assert manifest.load(tmp_path).reference == expected
    path = tmp_path / manifest.FILE
    path.write_text(path.read_text().replace('"Sci/Tech"', '"Sci/Tech","Weather"'))
    with pytest.raises(ManifestError, match="not a manifest"):
        manifest.load(tmp_path)
    manifest.save(made, tmp_path)
    text = path.read_text()
    assert '"reference": null' in text
    path.write_text(text.replace('"reference": null,', ""))  # as before there were any
    assert manifest.load(tmp_path).reference is None


def test_a_reference_counts_the_same_rows_throughout(expected: Reference):
    with pytest.raises(ValueError, match="unknown counts 399 rows in 10 bins, expected 400 in 10"):
        replace(expected, unknown=[399, *[0] * 9])
    with pytest.raises(ValueError, match=r"fast\.labels counts 400 rows in 5 bins, expected 400 in 4"):
        replace(expected, fast=replace(expected.fast, labels=[400, 0, 0, 0, 0]))


# The share of a text that is unknown


def test_ngrams_count_those_that_are_known_and_all():
    features = Features(buckets=4096, words=(1,))
    known = np.zeros(4096, bool)
    known[np.concatenate(Ngrams(features).encode(["tide harbour"])) - 2] = True
    ngrams = Ngrams(features, known)
    texts = ["tide oven salt harbour", "oven", "\u2028"]
    ids, counted = ngrams.read(texts)
    assert counted.tolist() == [[2, 4], [0, 1], [0, 0]]
    assert [of_text.tolist() for of_text in ids] == [of_text.tolist() for of_text in ngrams.encode(texts)]
    _, twice = Terms([ngrams, ngrams]).read(texts)
    assert twice.tolist() == [[4, 8], [0, 2], [0, 0]]
    assert ngrams.read([])[1].shape == (0, 2)


def test_an_encoders_unknown_share_is_that_of_pieces_which_go_on_a_word(tmp_path: Path):
    """The tiny tokenizer has whole words; a mark beside a word is a piece of its own."""
    made = tiny.write(tmp_path)
    read = Classifier(made, tmp_path).classify(["minister goal", "minister, goal!", "market " * 100])
    np.testing.assert_allclose(read.unknown, [0, 0.5, 0])
    assert read.windows[2] > 1
    assert read.part(slice(1, 2)).unknown.tolist() == [0.5]


def test_the_first_member_says_it_of_every_text(tmp_path: Path):
    made = tiny.write_cascade(tmp_path)
    read = Classifier(made, tmp_path).classify(["goal goal goal", "a minister"], np.array([0, 2]))
    assert read.unknown.tolist() == [0, 0]
    assert read.levels.tolist() == [0, 2]
