"""Part rows into folds, each with its share of every label."""

from collections.abc import Callable

import numpy as np

from newsdesk.server.runtime.arrays import Array


# scikit-learn's StratifiedKFold takes no groups. Its StratifiedGroupKFold refuses rows of which every label has fewer
# than there are folds, as a first file of somebody's own may.
def folds(labels: Array, count: int, seed: int, groups: Array | None = None) -> list[Array]:
    """Return `count` arrays of row numbers that together are all rows; fewer where there are fewer rows.

    A label's rows are shuffled and dealt out in turn, going on where the label before stopped, so that folds differ by
    one row at most. A label with fewer rows than folds is absent from some.

    Args:
        labels: INT [n]
        count: of folds
        seed: of the shuffle
        groups: INT [n]; rows of one are dealt out together, by the label of the first
    """
    if groups is not None:
        _, first, group = np.unique(groups, return_index=True, return_inverse=True)
        return [np.flatnonzero(np.isin(group, part)) for part in folds(labels[first], count, seed)]
    random = np.random.default_rng(seed)
    dealt = np.concatenate([random.permutation(np.flatnonzero(labels == label)) for label in np.unique(labels)])
    return [np.sort(dealt[i::count]) for i in range(min(count, len(labels)))]


def out_of_fold(members: Array, parts: list[Array], fit: Callable[[Array], Callable[[Array], Array]]) -> Array:
    """Return what each row gets from a model that never saw it, FP [n, labels].

    Args:
        members: probabilities, FP [members, n, labels]
        parts: the folds, row numbers each
        fit: is given the row numbers of the other folds, and returns what predicts
    """
    answers = np.empty(members.shape[1:])
    for part in parts:
        answers[part] = fit(np.setdiff1d(np.arange(members.shape[1]), part))(members[:, part])
    return answers
