"""Choose the texts to label next, by a model's probabilities and by how the texts differ: pool-based active learning.

Scores are of one answer each. Where it counts how much texts are alike, scikit-learn is needed; that and numpy are
imported then, and not by the command line's help.
"""

import heapq
import math
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from newsdesk.clients.prediction import Prediction

_FEATURES = 2**18
_BLOCK = 256
_REASON_LABELS = 2


class Strategy(StrEnum):
    """uncertainty: the two likeliest labels are close. disagreement: members differ most.

    diversity: texts that stand for many others. mixed: for many others that the model is unsure of.
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
    def compares(self) -> bool:
        """Whether it counts how much texts are alike."""
        return self in (Strategy.mixed, Strategy.diversity)


@dataclass(frozen=True, slots=True)
class ToLabel:
    """A text to label: its place among the candidates, its score and why it was chosen."""

    place: int
    score: float
    reason: str


def entropy(probabilities: Iterable[float]) -> float:
    """Return the entropy in nats; what is not a probability above 0 adds nothing."""
    return -sum(p * math.log(p) for p in probabilities if p > 0)


def uncertainty(answer: Prediction) -> float:
    """Return how little the likeliest label is ahead of the next: 1 where both are as likely, 0 where one is certain.

    Of many labels the entropy is high where none of a few is likely, as of texts that say nothing; this is not.
    """
    first, second, *_ = [*sorted(answer.probabilities.values(), reverse=True), 0.0, 0.0]
    return max(0.0, 1 - (first - second))


def disagreement(answer: Prediction) -> float | None:
    """Return how far the members that were asked differ, in nats: the entropy of their mean above the mean of theirs.

    None where fewer than two were asked.
    """
    by_member = [[*shares.values()] for shares in (answer.members or {}).values()]
    if len(by_member) < 2:
        return None
    mean = [sum(shares) / len(by_member) for shares in zip(*by_member, strict=True)]
    return max(0.0, entropy(mean) - sum(map(entropy, by_member)) / len(by_member))


def reason(by: Strategy, answer: Prediction) -> str:
    """Return in words why a text with this answer has its score."""
    if by is Strategy.disagreement:
        labels = {name: max(shares, key=shares.__getitem__) for name, shares in (answer.members or {}).items()}
        return "members: " + ", ".join(f"{name} {label}" for name, label in labels.items())
    likeliest = list(answer.probabilities.items())[:_REASON_LABELS]
    return "uncertain: " + ", ".join(f"{label} {share:.2f}" for label, share in likeliest)


def choose(
    by: Strategy, texts: Sequence[str], scores: Sequence[float], count: int, labelled: Sequence[str] = ()
) -> list[ToLabel]:
    """Choose `count` of the candidates, or all where there are fewer, the most useful first.

    Args:
        by: `mixed` chooses the texts that stand best for all candidates, each of which counts as much as its score;
            `diversity` the same, and each counts the same
        texts: the candidates
        scores: of each candidate, at least 0; of none where `by` is not `scored`
        count: how many to choose
        labelled: texts that have labels: what is like them needs none

    Raises:
        ModuleNotFoundError: scikit-learn is needed and missing.
    """
    if not by.compares:
        ranked = sorted(range(len(texts)), key=lambda place: -scores[place])
        return [ToLabel(place, scores[place], "") for place in ranked[:count]]
    if not texts:
        return []
    vectors, known = _vectors(texts, labelled)
    chosen = representatives(vectors, scores if by.scored else [1.0] * len(texts), count, known)
    return [ToLabel(place, gain, f"stands for {gain:.1f} like it") for place, gain in chosen]


def representatives(vectors: Any, weights: Sequence[float], count: int, known: Any = None) -> list[tuple[int, float]]:
    """Choose the rows that stand best for all: greedy maximisation of the facility location function.

    That is the sum, over all rows, of the row's weight times its likeness to the chosen or known row that it is most
    like. The function is submodular: what a row adds never grows as others are chosen, so that most rows need not be
    looked at again (lazy greedy; Minoux 1978). The farthest rows (greedy k-centre) would be those that nothing is like.

    Args:
        vectors: sparse FP [rows, features], each row of length 1 (or 0); likeness is the cosine, and at least 0
        weights: of each row, at least 0
        count: how many rows to choose
        known: sparse FP [known rows, features]

    Returns:
        Each chosen row, with what it adds to the sum.
    """
    import numpy as np

    rows = vectors.shape[0]
    weight = np.asarray(weights, np.float64)
    nearest = np.zeros(rows)
    for start in range(0, known.shape[0] if known is not None else 0, _BLOCK):
        nearest = np.maximum(nearest, (vectors @ known[start : start + _BLOCK].T).max(axis=1).toarray().ravel())
    bounds = []
    for start in range(0, rows, _BLOCK):
        likeness = (vectors @ vectors[start : start + _BLOCK].T).toarray()
        bounds += (weight @ np.maximum(likeness - nearest[:, None], 0)).tolist()
    waiting = [(-bound, place) for place, bound in enumerate(bounds)]
    heapq.heapify(waiting)
    chosen: list[tuple[int, float]] = []
    while waiting and len(chosen) < count:
        _, place = heapq.heappop(waiting)
        likeness = (vectors @ vectors[place].T).toarray().ravel()
        gain = float(weight @ np.maximum(likeness - nearest, 0))
        if waiting and -gain > waiting[0][0]:
            heapq.heappush(waiting, (-gain, place))
            continue
        chosen.append((place, gain))
        nearest = np.maximum(nearest, likeness)
    return chosen


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
