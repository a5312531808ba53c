"""Texts, labels and members whose truth is known."""

import numpy as np

LABELS = 3


def softmax(logits: np.ndarray) -> np.ndarray:
    shifted = np.exp(logits - logits.max(-1, keepdims=True))
    return shifted / shifted.sum(-1, keepdims=True)


def draw(rows: int, seed: int, noises: tuple[float, ...] = (3.0, 1.5, 1.0)) -> tuple[np.ndarray, np.ndarray]:
    """Return members FP64 [members, rows, labels] and labels INT [rows].

    A member sees the label through noise of its own, and says what follows from that: each is calibrated.
    """
    random = np.random.default_rng(seed)
    labels = random.integers(0, LABELS, rows)
    signal = 4 * np.eye(LABELS)[labels]
    members = [
        softmax(4 * (signal + noise * 2 * random.normal(size=signal.shape)) / (noise * 2) ** 2) for noise in noises
    ]
    return np.stack(members), labels
