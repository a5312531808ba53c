"""What to label next, by answers and by texts alone."""

import numpy as np
import pytest
from scipy import sparse

from newsdesk.clients import Prediction, acquisition
from newsdesk.clients.acquisition import Strategy

TEXTS = ["the goal of the cup match", "the goal of a cup match", "shares fall as oil rises", "shares fall as oil slips"]


def answer(*probabilities: float, **more: object) -> Prediction:
    named = dict(zip("abcd", probabilities, strict=False))
    return Prediction(0, max(named, key=named.__getitem__), named, "stand-in", **more)  # type: ignore[arg-type]


def test_uncertainty_is_the_servers_or_the_entropy() -> None:
    assert acquisition.uncertainty(answer(0.5, 0.5)) == pytest.approx(np.log(2))
    assert acquisition.uncertainty(answer(1.0, 0.0)) == 0
    assert acquisition.uncertainty(answer(0.5, 0.5, uncertainty=(0.3, 0.2, 0.1))) == 0.3
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


def test_the_core_set_is_far_apart() -> None:
    angles = np.radians([0, 5, 40, 45, 85, 90])
    vectors = sparse.csr_matrix(np.stack([np.cos(angles), np.sin(angles)], axis=1))
    chosen, distances = acquisition.core_set(vectors, 3)
    assert chosen[0] in (2, 3)  # nearest to the mean
    assert {*chosen[1:]} == {0, 5}
    assert distances == sorted(distances, reverse=True)
    chosen, distances = acquisition.core_set(vectors, 2, vectors[:2])
    assert chosen == [5, 3]
    assert distances[0] == pytest.approx(2 * np.sin(np.radians(85) / 2))
    assert sorted(acquisition.core_set(vectors, 10)[0]) == [*range(6)]


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


def test_mixed_chooses_among_the_most_uncertain() -> None:
    texts = [f"word{number} other{number}" for number in range(40)]
    scores = [number / 40 for number in range(40)]
    (*choices,) = acquisition.choose(Strategy.mixed, texts, scores, 2)
    assert all(choice.place >= 40 - 2 * acquisition.MIXED_FACTOR for choice in choices)
    assert [choice.score for choice in choices] == [scores[choice.place] for choice in choices]


def test_texts_that_say_the_same_have_one_key() -> None:
    assert acquisition.key("Oil  rises\n") == acquisition.key("oil rises") == acquisition.key("ｏil rises")
    assert acquisition.key("oil rises") != acquisition.key("oil, rises")
