"""The choice of what to label next, by answers and by texts alone."""

import numpy as np
import pytest
from scipy import sparse

from newsdesk.clients import Prediction, acquisition
from newsdesk.clients.acquisition import Strategy

TEXTS = ["the goal of the cup match", "the goal of a cup match", "shares fall as oil rises", "shares fall as oil slips"]


def answer(*probabilities: float, **more: object) -> Prediction:
    named = dict(zip("abcd", probabilities, strict=False))
    return Prediction(0, max(named, key=named.__getitem__), named, "stand-in", **more)  # type: ignore[arg-type]


def test_uncertainty_is_how_close_the_next_label_is() -> None:
    assert acquisition.uncertainty(answer(0.5, 0.5)) == 1
    assert acquisition.uncertainty(answer(1.0, 0.0)) == 0
    assert acquisition.uncertainty(answer(0.2, 0.5, 0.3)) == pytest.approx(0.8)
    assert acquisition.reason(Strategy.uncertainty, answer(0.6, 0.4)) == "uncertain: a 0.60, b 0.40"


def test_disagreement_is_of_members_that_were_asked() -> None:
    sure = {"first": {"a": 1.0, "b": 0.0}, "second": {"a": 0.0, "b": 1.0}}
    apart = answer(0.5, 0.5, members=sure)
    assert acquisition.disagreement(apart) == pytest.approx(np.log(2))
    assert acquisition.reason(Strategy.disagreement, apart) == "members: first a, second b"
    alike = {"first": {"a": 0.5, "b": 0.5}, "second": {"a": 0.5, "b": 0.5}}
    assert acquisition.disagreement(answer(0.5, 0.5, members=alike)) == pytest.approx(0)
    assert acquisition.disagreement(answer(0.5, 0.5, members={"first": {"a": 0.5, "b": 0.5}})) is None
    assert acquisition.disagreement(answer(0.5, 0.5)) is None


def on_a_circle(*degrees: float) -> sparse.csr_matrix:
    angles = np.radians(degrees)
    return sparse.csr_matrix(np.stack([np.cos(angles), np.sin(angles)], axis=1))


def test_representatives_stand_for_many() -> None:
    vectors = on_a_circle(0, 5, 10, 120)
    assert [place for place, _ in acquisition.representatives(vectors, [1] * 4, 2)] == [1, 3]
    # What is like a known row needs no label, and what has no weight stands for nothing.
    assert acquisition.representatives(vectors, [1] * 4, 1, vectors[:1]) == [(3, pytest.approx(1))]
    assert acquisition.representatives(vectors, [0, 0, 0, 0.5], 1) == [(3, pytest.approx(0.5))]
    assert sorted(place for place, _ in acquisition.representatives(vectors, [1] * 4, 9)) == [0, 1, 2, 3]


def test_what_is_not_looked_at_again_would_not_be_chosen() -> None:
    """The lazy greedy choice is the greedy one."""
    chance = np.random.default_rng(0)
    dense = np.abs(chance.normal(size=(60, 8))) * (chance.random((60, 8)) < 0.4) + 1e-3
    dense /= np.linalg.norm(dense, axis=1, keepdims=True)
    weights = chance.random(60)
    nearest, expected = np.zeros(60), []
    for _ in range(15):
        gains = weights @ np.maximum(dense @ dense.T - nearest[:, None], 0)
        gains[expected] = -1
        expected.append(int(gains.argmax()))
        nearest = np.maximum(nearest, dense @ dense[expected[-1]])
    chosen = acquisition.representatives(sparse.csr_matrix(dense), weights.tolist(), 15)
    assert [place for place, _ in chosen] == expected


def test_each_strategy_chooses() -> None:
    def chosen(by: Strategy, count: int, labelled: tuple[str, ...] = ()) -> list[int]:
        return [choice.place for choice in acquisition.choose(by, TEXTS, [0.1, 0.4, 0.3, 0.2], count, labelled)]

    assert chosen(Strategy.uncertainty, 3) == [1, 2, 3]
    assert chosen(Strategy.disagreement, 9) == [1, 2, 3, 0]
    for by in (Strategy.diversity, Strategy.mixed):
        pair = chosen(by, 2)
        assert {place // 2 for place in pair} == {0, 1}, by  # one of each two that are alike
        (other,) = chosen(by, 1, labelled=("a goal of the cup match",))
        assert other in (2, 3), by
    assert acquisition.choose(Strategy.mixed, [], [], 5) == []


def test_texts_that_say_the_same_have_one_key() -> None:
    assert acquisition.key("Oil  rises\n") == acquisition.key("oil rises") == acquisition.key("ｏil rises")
    assert acquisition.key("oil rises") != acquisition.key("oil, rises")
