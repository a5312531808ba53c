"""A linear member: TF-IDF of words, pairs of words and character n-grams, and a linear classifier of scikit-learn.

    weight of a term = (1 + log(count)) * idf, each block of terms scaled to length 1
    logits           = sum of weight * the term's row + bias

The term frequency is sublinear and the idf smoothed, as in scikit-learn's `TfidfTransformer`.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file
from scipy import sparse
from sklearn.feature_extraction.text import TfidfTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.svm import LinearSVC

from newsdesk.build.members import layers
from newsdesk.build.recipe import Linear as Settings
from newsdesk.server.runtime.arrays import Array
from newsdesk.server.runtime.ngrams import NOTHING, Features, Ngrams
from newsdesk.server.runtime.terms import MOST, Terms

WEIGHTS = "linear.safetensors"
TERMS = "terms.json"
_FIRST = NOTHING + 1
"""The first row of a block that stands for a term."""


@dataclass(frozen=True)
class Counted:
    """Texts as counts of n-grams, a sparse matrix [texts, buckets] for each block: counted once, fitted many times."""

    features: tuple[Features, ...]
    blocks: list[sparse.csr_matrix]

    @classmethod
    def of(cls, texts: list[str], settings: Settings) -> "Counted":
        """Count the n-grams of clean texts."""
        features = settings.blocks
        return cls(features, [_counts(Ngrams(block).encode(texts), block.buckets) for block in features])

    def take(self, texts: Array) -> "Counted":
        """Return some of the texts, by numbers or a mask."""
        return Counted(self.features, [block[texts] for block in self.blocks])


@dataclass(frozen=True)
class LinearClassifier:
    """A fitted member: what its terms are, their idf FP32 [rows], rows FP32 [rows, labels] and a bias FP32 [labels]."""

    terms: Terms
    idf: Array
    table: Array
    bias: Array

    def save(self, folder: Path) -> None:
        """Write the files that `load` reads."""
        self.terms.save(folder / TERMS)
        save_file({"idf": self.idf, "table": self.table, "bias": self.bias}, folder / WEIGHTS)

    @classmethod
    def load(cls, folder: Path) -> "LinearClassifier":
        """Read the files that `save` wrote."""
        return cls(Terms.load(folder / TERMS), **load_file(folder / WEIGHTS))

    def logits(self, texts: list[str]) -> Array:
        """Return logits, FP32 [len(texts), labels]: every artifact's reference."""
        return self.of_counts(Counted.of(texts, Settings(blocks=tuple(block.features for block in self.terms.blocks))))

    def of_counts(self, counted: Counted) -> Array:
        """Return logits, FP32 [texts, labels], of texts that are counted in this member's blocks."""
        weighted = []
        for start, block, counts in zip(self.terms.starts, self.terms.blocks, counted.blocks, strict=True):
            kept = counts if block.known is None else counts[:, np.flatnonzero(block.known)]
            idf = self.idf[start + _FIRST : start + block.rows]
            weighted.append(_scaled(kept, idf))
        terms = np.concatenate(
            [
                np.arange(start + _FIRST, start + block.rows)
                for start, block in zip(self.terms.starts, self.terms.blocks, strict=True)
            ]
        )
        product = sparse.hstack(weighted).tocsr() @ self.table[terms]
        return (product + self.bias).astype(np.float32)


def logits(folder: Path, texts: list[str], max_length: int = 0, exact: bool = True) -> Array:
    """Return the logits, FP32 [len(texts), labels], of a fitted member.

    Args:
        folder: of the fit
        texts: clean
        max_length: is other kinds' of members: terms are read whole
        exact: is other kinds' of members: terms always are
    """
    return LinearClassifier.load(folder).logits(texts)


def fit(
    counted: Counted,
    labels: Array,
    count: int,
    settings: Settings,
    *,
    balanced: bool = False,
    weights: Array | None = None,
    soft: Array | None = None,
    seed: int = 0,
) -> LinearClassifier:
    """Fit a member on texts. A label without a row is the last that the member says.

    Args:
        counted: the texts
        labels: INT [texts]
        count: of labels
        settings: of the fit
        balanced: whether every label counts the same
        weights: the rows' own, FP [texts]; None: all 1
        soft: probabilities, FP [texts, count], learned from instead of the labels
        seed: of the solver

    Raises:
        DataError: fewer than two labels have rows.
    """
    blocks, idfs, weighted = [], [], []
    for features, counts in zip(counted.features, counted.blocks, strict=True):
        known = _known(counts, settings.min_count, settings.terms(count) // len(counted.blocks))
        kept = counts[:, np.flatnonzero(known)]
        idf = TfidfTransformer(norm=None).fit(kept).idf_
        blocks.append(Ngrams(features, known))
        idfs.append(np.concatenate([np.zeros(_FIRST), idf]))
        weighted.append(_scaled(kept, idf))
    vectors = sparse.hstack(weighted).tocsr()
    if soft is not None:
        texts, labels, weights = layers.repeated(soft, weights, balanced)
        vectors, balanced = vectors[texts], False
    present = layers.present(labels)
    classifier = _classifier(settings, len(blocks), balanced, seed).fit(vectors, labels, sample_weight=weights)
    coefficients, bias = layers.of_all_labels(classifier.coef_, np.asarray(classifier.intercept_), present, count)
    table = np.zeros((count, sum(block.rows for block in blocks)), np.float32)
    at, column = 0, 0
    for block in blocks:
        terms = block.rows - _FIRST
        table[:, at + _FIRST : at + block.rows] = coefficients[:, column : column + terms]
        at, column = at + block.rows, column + terms
    return LinearClassifier(
        Terms(blocks),
        np.concatenate(idfs).astype(np.float32),
        np.ascontiguousarray(table.T),
        bias.astype(np.float32),
    )


def _classifier(settings: Settings, blocks: int, balanced: bool, seed: int) -> LinearSVC | LogisticRegression:
    """Return the classifier. A text has length 1 in each block, so that its square is `blocks`: the cost is a share."""
    common = {"C": settings.cost / blocks, "class_weight": "balanced" if balanced else None, "random_state": seed}
    if settings.solver == "svm":
        return LinearSVC(**common)
    return LogisticRegression(max_iter=500, tol=1e-3, **common)


def _counts(ids: list[Array], buckets: int) -> sparse.csr_matrix:
    """Return counts FP32 [texts, buckets] of ids of all n-grams."""
    lengths = [len(of_text) for of_text in ids]
    every = np.concatenate(ids) if ids else np.empty(0, np.int64)
    rows = np.repeat(np.arange(len(ids)), lengths)
    real = every >= _FIRST
    counts = sparse.coo_matrix(
        (np.ones(int(real.sum()), np.float32), (rows[real], every[real] - _FIRST)), shape=(len(ids), buckets)
    ).tocsr()
    counts.sum_duplicates()
    np.minimum(counts.data, MOST, out=counts.data)
    return counts


def _known(counts: sparse.csr_matrix, least: int, most: int) -> Array:
    """Return which buckets have a row, bool [buckets]: in `least` texts or more, those in most texts first."""
    texts = np.bincount(counts.indices, minlength=counts.shape[1])
    known = texts >= least
    if known.sum() > most:
        known = np.zeros(len(texts), bool)
        known[np.argsort(-texts, kind="stable")[:most]] = True
    if not known.any():  # texts without a word: one bucket keeps the member whole
        known[0] = True
    return known


def _scaled(counts: sparse.csr_matrix, idf: Array) -> sparse.csr_matrix:
    """Return (1 + log(count)) * idf, each text scaled to length 1; a text without a term stays zero."""
    weighted = counts.astype(np.float64).tocsr()
    weighted.data = (1 + np.log(weighted.data)) * idf[weighted.indices]
    length = np.sqrt(weighted.multiply(weighted).sum(axis=1)).A1
    return sparse.diags(1 / np.where(length > 0, length, 1)) @ weighted
