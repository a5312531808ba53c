"""The shapes of the load, and what a run is judged by, without Locust."""

from itertools import islice
from random import Random

import pytest

from benchmarks import texts
from benchmarks.locust import answers
from benchmarks.locust.objective import Figures, Objective
from benchmarks.locust.profiles import PROFILES, arrivals

LABELS = ("World", "Sports")
KEPT = Figures(1000, 0, 50.0, 10.0, 20.0, 30.0, 40.0)


def over(profile: str, most: int = 200, seconds: int = 100) -> list[int | None]:
    return [PROFILES[profile].users(second, most, seconds) for second in range(seconds + 1)]


@pytest.mark.parametrize("profile", PROFILES)
def test_every_profile_lasts_as_long_as_the_run_and_then_ends(profile: str) -> None:
    *running, end = over(profile)
    assert all(running)
    assert end is None


def test_steady_is_all_users_all_the_time() -> None:
    assert set(over("steady")) == {200, None}


def test_a_spike_comes_and_goes() -> None:
    users = over("spike")
    assert users[:40] == [20] * 40
    assert users[40:60] == [200] * 20
    assert users[60:100] == [20] * 40


def test_a_soak_warms_up_with_half_of_the_users() -> None:
    users = over("soak")
    assert users[:10] == [100] * 10
    assert users[10:100] == [200] * 90


def test_few_users_are_at_least_one() -> None:
    assert set(over("spike", most=1)) == {1, None}


def test_arrivals_come_at_their_rate_at_random_and_do_not_wait_for_a_late_reader() -> None:
    now = 100.0
    due = list(islice(arrivals(50, Random(3), lambda: now), 20_000))
    gaps = [b - a for a, b in zip([100.0, *due], due, strict=False)]
    mean = sum(gaps) / len(gaps)
    assert mean == pytest.approx(1 / 50, rel=0.03)
    # Exponential gaps scatter as widely as they are long; even ones would not at all.
    assert (sum((gap - mean) ** 2 for gap in gaps) / len(gaps)) ** 0.5 == pytest.approx(mean, rel=0.05)


def test_an_objective_that_is_kept_says_nothing() -> None:
    assert Objective(p99_ms=30, failures=0).broken(KEPT) == []


@pytest.mark.parametrize(
    ("figures", "broken"),
    [
        (Figures(1000, 2, 50.0, 10.0, 20.0, 30.0, 40.0), "2 of 1000 requests failed (0.20%); at most 0.10% may"),
        (Figures(1000, 1, 50.0, 10.0, 20.0, 31.0, 40.0), "p99 is 31 ms; at most 30 ms may it be"),
        (Figures(0, 0, 0.0, 0.0, 0.0, 0.0, 0.0), "no request was answered"),
    ],
)
def test_an_objective_that_is_broken_says_by_what(figures: Figures, broken: str) -> None:
    assert Objective(p99_ms=30, failures=0.001).broken(figures) == [broken]


@pytest.mark.parametrize(
    ("label", "shares", "complaint"),
    [
        ("World", {"World": 0.7, "Sports": 0.3}, ""),
        ("Weather", {"World": 0.7, "Sports": 0.3}, "label 'Weather'"),
        ("World", {"World": 1.0}, "probabilities of ['World']"),
        ("World", {"World": 0.7, "Sports": 0.4}, "that sum to 1"),
        ("World", {"World": 1.2, "Sports": -0.2}, "that sum to 1"),
        ("World", {"World": float("nan"), "Sports": 0.3}, "that sum to 1"),
        ("Sports", {"World": 0.7, "Sports": 0.3}, "not the most probable"),
    ],
)
def test_wrong_answers_are_told(label: str, shares: dict[str, float], complaint: str) -> None:
    problem = answers.problem(label, shares, LABELS)
    assert complaint in problem if complaint else not problem


def test_texts_are_read_from_what_there_is(tmp_path) -> None:
    lines, titled, plain = tmp_path / "a.txt", tmp_path / "b.csv", tmp_path / "c.csv"
    lines.write_text("one article\n\nanother\n")
    titled.write_text("title,description\nRain,all day\n")
    plain.write_text("text,label\nSnow,1\n")
    assert texts.choose(lines) == ["one article", "another"]
    assert texts.choose(titled) == ["Rain all day"]
    assert texts.choose(plain) == ["Snow"]
    assert len(set(texts.choose(None))) == 2000
    plain.write_text("body\nSnow\n")
    with pytest.raises(ValueError, match="neither columns title and description nor a column text"):
        texts.choose(plain)
