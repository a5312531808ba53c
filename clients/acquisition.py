"""Which texts to label next, by what a model says of them and by how they differ: pool-based active learning.

Scores are of one answer each. Choosing among texts needs scikit-learn where it looks at how they differ; that and numpy
are imported then, and not by the command line's help.
"""

import math
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from newsdesk.clients.prediction import Prediction

MIXED_FACTOR = 5
"""Of so many times the texts that are wanted, the most uncertain ones, "mixed" chooses those that differ most."""
_FEATURES = 2**18
_REASON_LABELS = 2


class Strategy(StrEnum):
    """uncertainty: the model is least sure. disagreement: members differ most. diversity: unlike all others.

    mixed: uncertain, and unlike each other.
    """

    mixed = "mixed"
    uncertainty = "uncertainty"
    disagreement = "disagreement"
    diversity = "diversity"

    @property
    def scored(self) -> bool:
        """Whether a model's answers count."""
        return self is not Strategy.diversity

    @property
    def spread(self) -> bool:
        """Whether it counts how texts differ."""
        return self in (Strategy.mixed, Strategy.diversity)


@dataclass(frozen=True, slots=True)
class Choice:
    """A text to label: its place among the candidates, its score and why it was chosen."""

    place: int
    score: float
    reason: str


def entropy(probabilities: Iterable[float]) -> float:
    """Return the entropy in nats; what is not a probability above 0 adds nothing."""
    return -sum(p * math.log(p) for p in probabilities if p > 0)


def uncertainty(answer: Prediction) -> float:
    """Return the answer's total uncertainty in nats: the server's, or the entropy of its probabilities."""
    return answer.uncertainty[0] if answer.uncertainty else entropy(answer.probabilities.values())


def disagreement(answer: Prediction) -> float | None:
    """Return how far the members that were asked differ, in nats: the entropy of their mean above the mean of theirs.

    None where fewer than two were asked.
    """
    said = [[*shares.values()] for shares in (answer.members or {}).values()]
    if len(said) < 2:
        return None
    mean = [sum(shares) / len(said) for shares in zip(*said, strict=True)]
    return max(0.0, entropy(mean) - sum(map(entropy, said)) / len(said))


def reason(by: Strategy, answer: Prediction) -> str:
    """Return in words why a text with this answer has its score."""
    if by is Strategy.disagreement:
        said = {name: max(shares, key=shares.__getitem__) for name, shares in (answer.members or {}).items()}
        return "members: " + ", ".join(f"{name} {label}" for name, label in said.items())
    likeliest = list(answer.probabilities.items())[:_REASON_LABELS]
    return "uncertain: " + ", ".join(f"{label} {share:.2f}" for label, share in likeliest)


def choose(
    by: Strategy, texts: Sequence[str], scores: Sequence[float], count: int, labelled: Sequence[str] = ()
) -> list[Choice]:
    """Choose `count` of the candidates, or all where there are fewer, the most useful first.

    Args:
        by: `mixed` takes the highest scores, and of those the texts that differ most from each other and `labelled`.
        texts: The candidates.
        scores: Of each candidate; of none where `by` is not `scored`.
        count: How many to choose.
        labelled: Texts that have labels: what is like them is not chosen for being different.

    Raises ModuleNotFoundError where scikit-learn is needed and missing.
    """
    ranked = sorted(range(len(texts)), key=lambda place: -scores[place]) if by.scored else [*range(len(texts))]
    if not by.spread:
        return [Choice(place, scores[place], "") for place in ranked[:count]]
    if by is Strategy.mixed:
        ranked = ranked[: MIXED_FACTOR * count]
    if not ranked:
        return []
    vectors, known = _vectors([texts[place] for place in ranked], labelled)
    chosen, distances = core_set(vectors, count, known)
    return [
        Choice(ranked[at], scores[ranked[at]] if by.scored else distance, f"distance {distance:.2f}")
        for at, distance in zip(chosen, distances, strict=True)
    ]


def core_set(vectors: Any, count: int, known: Any = None) -> tuple[list[int], list[float]]:
    """Choose by greedy k-centre: each next row is the one that is farthest from all chosen and known ones.

    Args:
        vectors: Sparse FP [rows, features], each row of length 1 (or 0).
        count: How many rows to choose.
        known: Sparse FP [known rows, features]; without any, the first choice is the row nearest to the mean.

    Returns:
        The rows, and of each its Euclidean distance from the nearest one before it.
    """
    import numpy as np

    rows = vectors.shape[0]
    if known is not None and known.shape[0]:
        nearest = np.full(rows, -1.0)
        for start in range(0, known.shape[0], 256):
            nearest = np.maximum(nearest, (vectors @ known[start : start + 256].T).max(axis=1).toarray().ravel())
        first = int(nearest.argmin())
    else:
        nearest = np.full(rows, -1.0)
        first = int((vectors @ np.asarray(vectors.mean(axis=0)).T).argmax())
    chosen, distances = [first], [_distance(nearest[first])]
    while len(chosen) < min(count, rows):
        nearest = np.maximum(nearest, (vectors @ vectors[chosen[-1]].T).toarray().ravel())
        nearest[chosen[-1]] = np.inf
        chosen.append(int(nearest.argmin()))
        distances.append(_distance(nearest[chosen[-1]]))
    return chosen, distances


def _distance(cosine: float) -> float:
    """Return the Euclidean distance of two vectors of length 1."""
    return math.sqrt(max(0.0, 2 - 2 * max(float(cosine), 0.0)))


def _vectors(texts: Sequence[str], labelled: Sequence[str]) -> tuple[Any, Any]:
    """Return TF-IDF of hashed words and pairs of words, sparse FP32 [texts, features], of texts and labelled ones."""
    import numpy as np
    from sklearn.feature_extraction.text import HashingVectorizer, TfidfTransformer

    # No feature is hashed of half a character.
    texts, labelled = ([text.encode(errors="replace").decode() for text in part] for part in (texts, labelled))
    hashing = HashingVectorizer(
        ngram_range=(1, 2), n_features=_FEATURES, alternate_sign=False, norm=None, dtype=np.float32
    )
    counts = hashing.transform(texts)
    weights = TfidfTransformer(sublinear_tf=True).fit(counts)
    return weights.transform(counts), weights.transform(hashing.transform(labelled)) if labelled else None


def key(text: str) -> str:
    """Return what two texts have in common that are one to a labeller: case, spaces and encoding do not count."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())
