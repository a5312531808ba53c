"""The rows that choosing saves, of curves and of a small task."""

import numpy as np
import pytest

from benchmarks import select
from newsdesk.build.members.linear import Counted
from newsdesk.build.recipe import Linear
from newsdesk.server.runtime.ngrams import Features


def test_rows_for_an_accuracy_lie_on_the_curve() -> None:
    curve = np.array([0.5, 0.6, 0.58, 0.8])
    assert select.rows_for(0.5, [32, 64, 96, 128], curve) == 32
    assert select.rows_for(0.55, [32, 64, 96, 128], curve) == pytest.approx(48)
    assert select.rows_for(0.7, [32, 64, 96, 128], curve) == pytest.approx(96 + 32 * 0.12 / 0.22)
    assert select.rows_for(0.9, [32, 64, 96, 128], curve) is None


def test_every_strategy_grows_and_is_on_the_page() -> None:
    settings = Linear(blocks=(Features(buckets=256, words=(1,)), Features(buckets=256, words=(), parts=(3,))))
    words = (("oil", "shares", "bank"), ("match", "goal", "cup"))
    texts = [f"{words[place // 30][place % 3]} of {place}" for place in range(60)]
    labels = np.arange(60) // 30
    counted = Counted.of(texts, settings)
    task = select.Task(texts, counted, labels, counted, labels, 2, settings)
    curves = {column: np.array([select.grow(task, column, [8, 16, 24], 0)]) for column in select.COLUMNS}
    assert all(0.5 < curve[0, -1] <= 1 for curve in curves.values())
    assert len({curve[0, 0] for curve in curves.values()}) == 1  # all begin with the same rows
    page = select.render({"oil and cups": curves}, [8, 16, 24], 1.0)
    assert "| oil and cups | 24 |" in page
    assert "mixed" in page
