"""What scikit-learn fits of a linear layer, for the labels of a recipe: of two it fits one line, of none nothing."""

import numpy as np

from newsdesk.build.errors import DataError

_ABSENT = 10.0
"""How far below the others a label that no row has begins."""


def present(labels: np.ndarray) -> np.ndarray:
    """Return the numbers of the labels that have rows, in order. Raises DataError for fewer than two."""
    numbers = np.unique(labels)
    if len(numbers) < 2:
        raise DataError("rows of one label alone: a classifier tells two or more apart. Give rows of other labels.")
    return numbers


def of_all_labels(
    coefficients: np.ndarray, bias: np.ndarray, present: np.ndarray, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return a row of coefficients for every label, FP [count, inputs], and the bias FP [count].

    A label without a row is the last that the layer says.

    Args:
        coefficients: FP [lines, inputs], a line for each label that is `present`, or one that tells two apart.
        bias: FP [lines].
    """
    if len(present) == 2:
        # Half of the line each way is what a logistic regression's probability is the softmax of.
        coefficients, bias = np.concatenate([-coefficients, coefficients]) / 2, np.concatenate([-bias, bias]) / 2
    of_all, bias_of_all = np.zeros((count, coefficients.shape[1])), np.full(count, bias.min() - _ABSENT)
    of_all[present], bias_of_all[present] = coefficients, bias
    return of_all, bias_of_all
