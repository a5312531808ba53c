"""The rule for windows: the one that the texts were made by, and the mean where nothing is won."""

import numpy as np
import pytest

from newsdesk.build.ensemble import windows
from newsdesk.build.errors import DataError
from newsdesk.server.runtime.windows import Confidence, Place
from tests.build.ensemble.simulated import softmax


def _drawn(sharpness: np.ndarray, seed: int = 1, texts: int = 600) -> tuple[list[np.ndarray], np.ndarray]:
    """Texts of as many windows as `sharpness` has numbers: how much of the label each of them shows."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, 3, texts)
    signal = sharpness[None, :, None] * np.eye(3)[labels][:, None] + random.normal(size=(texts, len(sharpness), 3))
    return [*softmax(signal)], labels


def test_windows_that_tell_the_same_are_averaged() -> None:
    assert windows.fit(*_drawn(np.full(5, 1.5))) == "mean"


def test_texts_whose_opening_tells_most_are_read_by_place() -> None:
    rule = windows.fit(*_drawn(np.array([2.0, 0, 0, 0, 0, 0])))
    assert isinstance(rule, Place)
    assert rule.first > 3


def test_texts_of_which_any_window_may_tell_are_read_by_confidence() -> None:
    random = np.random.default_rng(2)
    labels = random.integers(0, 3, 800)
    logits = 0.3 * random.normal(size=(800, 6, 3))
    logits[np.arange(800), random.integers(0, 6, 800), labels] += 5
    rule = windows.fit([*softmax(logits)], labels)
    assert isinstance(rule, Confidence)
    assert rule.power > 1


def test_texts_of_one_window_say_nothing() -> None:
    told, labels = _drawn(np.array([2.0, 0, 0, 0, 0, 0]))
    alone, of_alone = _drawn(np.array([0.1]), 3, 5000)
    assert windows.fit([*alone, *told], np.concatenate([of_alone, labels])) == windows.fit(told, labels)
    assert windows.fit(alone, of_alone) == windows.fit([], labels[:0]) == "mean"
    with pytest.raises(DataError, match="windows of 600 texts and 599 labels"):
        windows.fit(told, labels[:-1])
