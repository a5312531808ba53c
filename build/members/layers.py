"""Linear layers for all labels of a recipe: scikit-learn fits one line for two, and none for one without rows."""

import numpy as np

from newsdesk.build.errors import DataError
from newsdesk.server.runtime.arrays import Array

_ABSENT = 10.0
"""How far below the others a label that no row has begins."""


def present(labels: Array) -> Array:
    """Return the numbers of the labels, INT [rows], that have rows, in order.

    Raises:
        DataError: fewer than two have.
    """
    numbers = np.unique(labels)
    if len(numbers) < 2:
        raise DataError("rows of one label alone: a classifier tells two or more apart. Give rows of other labels.")
    return numbers


def repeated(soft: Array, weights: Array | None, balanced: bool) -> tuple[Array, Array, Array]:
    """Return what stands for soft labels where a fit takes one label a row.

    A text stands once for every label that it may have, with the label's probability of its weight: a logistic
    regression's loss is then that of the soft labels.

    Args:
        soft: probabilities, FP [texts, labels]
        weights: of the texts, FP [texts]; None: all 1
        balanced: whether the weights of every label have the same sum

    Returns:
        The numbers of texts, a label and a weight of each: INT, INT and FP [repeats].
    """
    texts, labels = np.nonzero(soft > 0)
    of_repeats = soft[texts, labels] * (1.0 if weights is None else weights[texts])
    if balanced:
        sums = np.bincount(labels, of_repeats)
        of_repeats = of_repeats / sums[labels] * (sums.sum() / np.count_nonzero(sums))
    return texts, labels, of_repeats


def of_all_labels(coefficients: Array, bias: Array, present: Array, count: int) -> tuple[Array, Array]:
    """Return a row of coefficients for every label, FP [count, inputs], and the bias FP [count].

    A label without a row is the last that the layer says.

    Args:
        coefficients: FP [lines, inputs], a line for each label that is `present`, or one that tells two apart
        bias: FP [lines]
        present: the numbers of the labels that have rows
        count: of all labels
    """
    if len(present) == 2:
        # Half of the line each way is what a logistic regression's probability is the softmax of.
        coefficients, bias = np.concatenate([-coefficients, coefficients]) / 2, np.concatenate([-bias, bias]) / 2
    of_all, bias_of_all = np.zeros((count, coefficients.shape[1])), np.full(count, bias.min() - _ABSENT)
    of_all[present], bias_of_all[present] = coefficients, bias
    return of_all, bias_of_all
