"""Combine members: their probabilities [members, n, labels] to one distribution a text, FP64 [n, labels].

Every rule works on a text by itself, whatever else is in the batch. A rule is a Struct of the manifest; `ready` makes
of it what runs, once, so that a call does nothing but arithmetic.
"""

from collections.abc import Callable
from typing import Annotated, NamedTuple, Protocol

import numpy as np
from msgspec import Meta, Struct

from newsdesk.server.runtime import lengths as by_words
from newsdesk.server.runtime.arrays import Array
from newsdesk.server.runtime.files import File

FLOOR = 1e-7
"""The smallest probability whose logarithm is taken: about what FP32 can tell from nothing beside a one."""

Weight = Annotated[float, Meta(ge=0)]
Weights = Annotated[list[Weight], Meta(min_length=1)]
Stack = Callable[[Array], Array]
"""Runs a stacker's graph: `features` to probabilities, FP32 [n, labels]."""


class Combine(Protocol):
    """Combines FP [members, n, labels] to FP64 [n, labels]; texts' words, INT [n], where it goes by length."""

    def __call__(self, members: Array, lengths: Array | None = None) -> Array:
        """Combine the members' distributions of n texts."""


class Mean(Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="mean"):
    """Soft voting: the arithmetic mean."""


class Weighted(Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="weighted"):
    """Weighted voting; one weight a member."""

    weights: Weights


class Bayes(Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="bayes"):
    """Bayesian model averaging: the mean under the members' posterior probabilities. `uncertainty` says how unsure."""

    posterior: Weights


class Ranks(Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="ranks"):
    """Rank averaging: the mean over the members of where a probability stands among those of the validation rows.

    `values[member][label]` are some of the validation rows' probabilities, rising, and `ranks` where they stand, in
    [0, 1]; between two of them the rank is interpolated. So a text alone has the rank that it has in company.
    """

    values: list[list[list[float]]]
    ranks: list[list[list[float]]]


class ByLength(Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="by_length"):
    """Weighted voting, by the length of the text: a member may know headlines, and another whole articles.

    `weights[bucket][member]`; the bounds between the buckets are words.
    """

    bounds: by_words.Bounds
    weights: list[Weights]

    def __post_init__(self) -> None:
        by_words.check(self.bounds)


class Stacked(Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="stacked"):
    """A model over the members: an ONNX graph, `features` FP32 [n, members × labels] → FP32 [n, labels]."""

    graph: File
    model: str
    """The kind of model that was fitted: "logistic", "xgboost", "catboost"."""


Combiner = Mean | Weighted | Bayes | Ranks | ByLength | Stacked


class UncertaintySplit(NamedTuple):
    """The uncertainty of n answers in nats, FP64 [n] each.

    The total is the entropy of the average, the data's share that of the members, and the model's share their
    disagreement.
    """

    total: Array
    data: Array
    """The members' expected entropy: more members would not help."""
    model: Array
    """The mutual information between the label and the member: how far the members disagree."""


def ready(combiner: Combiner, stack: Stack | None = None) -> Combine:
    """Return what combines FP [members, n, labels] to FP64 [n, labels], each row finite and of sum one.

    Args:
        combiner: as the manifest has it; one that goes by length needs the texts' words with every call
        stack: runs the graph of a Stacked combiner; the others need none

    Raises:
        ValueError: a Stacked combiner without `stack`.
    """
    match combiner:
        case Mean():
            return lambda members, lengths=None: normalised(members.mean(0, np.float64))
        case Weighted(weights) | Bayes(weights):
            return _pool(np.array(weights))
        case Ranks(values, ranks):
            return _ranked(values, ranks)
        case ByLength(bounds, by_bucket):
            return _by_length(bounds, np.array(by_bucket))
        case Stacked():
            if stack is None:
                raise ValueError("a stacked combiner was given nothing that runs its graph")
            return lambda members, lengths=None: normalised(stack(features(members)))


def weights(combiner: Combiner, members: int, lengths: Array) -> Array:
    """Return the weights of the members in an average of the combiner's. One that is no average weighs all alike.

    Args:
        combiner: as the manifest has it
        members: how many there are
        lengths: of each text in words, INT [n]

    Returns:
        FP64 [n, members], each row of sum one.
    """
    match combiner:
        case Weighted(member_weights) | Bayes(member_weights):
            weighed: Array = np.tile(np.array(member_weights), (len(lengths), 1))
        case ByLength(bounds, by_bucket):
            weighed = np.array(by_bucket)[by_words.buckets(lengths, bounds)]
        case _:
            weighed = np.ones((len(lengths), members))
    weighed = weighed / weighed.sum(-1, keepdims=True)
    return weighed


def features(members: Array) -> Array:
    """Return what a stacker sees: log-probabilities, member after member.

    Args:
        members: FP [members, n, labels]

    Returns:
        FP32 [n, members × labels].
    """
    logs: Array = np.log(np.maximum(members, FLOOR, dtype=np.float64))
    return logs.transpose(1, 0, 2).reshape(members.shape[1], -1).astype(np.float32)


def uncertainty(members: Array, weights: Array) -> UncertaintySplit:
    """Split the uncertainty of an average.

    Depeweg et al., Decomposition of Uncertainty in Bayesian Deep Learning (2018), equation 1.

    Args:
        members: probabilities, FP [members, n, labels]
        weights: [members], or [n, members] of each text; of sum one
    """
    weighed = weights.T if weights.ndim > 1 else weights[:, None]
    total = entropy((weighed[:, :, None] * members).sum(0))
    data = (weighed * entropy(members)).sum(0)
    return UncertaintySplit(total, data, np.maximum(total - data, 0))


def normalised(scores: Array) -> Array:
    """Return scores FP [n, labels] as FP64 rows of sum one; a score below FLOOR counts as FLOOR."""
    floored: Array = np.maximum(scores, FLOOR, dtype=np.float64)
    floored /= floored.sum(-1, keepdims=True)
    return floored


def _pool(weights: Array) -> Combine:
    return lambda members, lengths=None: normalised(np.tensordot(weights, members, 1))


def _by_length(bounds: list[int], weights: Array) -> Combine:
    def combine(members: Array, lengths: Array | None = None) -> Array:
        weighed = weights[by_words.buckets(lengths, bounds)].T[:, :, None]
        return normalised((weighed * members).sum(0))

    return combine


def _ranked(values: list[list[list[float]]], ranks: list[list[list[float]]]) -> Combine:
    knots = [
        (member, label, np.array(known), np.array(ranks[member][label]))
        for member, of_member in enumerate(values)
        for label, known in enumerate(of_member)
    ]

    def combine(members: Array, lengths: Array | None = None) -> Array:
        total = np.zeros(members.shape[1:])
        for member, label, known, rank in knots:
            total[:, label] += np.interp(members[member, :, label], known, rank)
        return normalised(total)

    return combine


def entropy(probabilities: Array) -> Array:
    """Return the entropy of distributions FP [..., labels], FP64 [...], in nats."""
    probabilities = probabilities.astype(np.float64)
    nats: Array = -(probabilities * np.log(np.where(probabilities > 0, probabilities, 1))).sum(-1)
    return nats
