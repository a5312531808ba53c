"""Retries: as long as the server asks, twice as long each time, and never beyond the deadline; the clock is ours."""

from types import SimpleNamespace

import pytest

from newsdesk.clients import deadline
from newsdesk.clients.deadline import Deadline, Retries
from newsdesk.clients.errors import DeadlineExceeded, ServerFailed, ServerUnavailable, TooManyRequests

URL = "grpc://127.0.0.1:8001"


class DeadlineClock:
    now = 1000.0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> DeadlineClock:
    """A clock that stands until it is moved; jitter is three quarters."""
    clock = DeadlineClock()
    monkeypatch.setattr(deadline, "time", SimpleNamespace(monotonic=lambda: clock.now))
    monkeypatch.setattr(deadline, "random", SimpleNamespace(uniform=lambda low, high: (low + high) / 2))
    return clock


def asking(seconds: float) -> TooManyRequests:
    error = TooManyRequests("come later")
    error.retry_after = seconds
    return error


def test_a_deadline_counts_down_and_ends(clock: DeadlineClock) -> None:
    limit = Deadline(10, URL)
    assert (limit.end, limit.url) == (1010.0, URL)
    clock.now += 9.5
    assert limit.left() == 0.5
    clock.now += 0.5
    with pytest.raises(DeadlineExceeded, match=URL):
        limit.left()


def test_pauses_double_up_to_the_longest(clock: DeadlineClock) -> None:
    retries = Retries(9, Deadline(100, URL))
    pauses = [retries.pause(ServerUnavailable("away")) for _ in range(8)]
    assert pauses == pytest.approx([0.75 * wait for wait in (0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0)])


def test_what_the_server_asks_to_wait_is_kept_with_the_jitter_upon_it(clock: DeadlineClock) -> None:
    retries = Retries(9, Deadline(100, URL))
    assert retries.pause(asking(7)) == pytest.approx(7.0375)
    assert retries.pause(asking(3)) == pytest.approx(3.075)
    assert retries.pause(ServerUnavailable("away")) == pytest.approx(0.15)


def test_where_another_server_may_answer_nobody_waits_and_no_pause_grows(clock: DeadlineClock) -> None:
    """Whatever the one that was asked wants; but no more often than any other repetition."""
    retries = Retries(3, Deadline(100, URL))
    elsewhere = asking(7)
    elsewhere.elsewhere = True
    assert [retries.pause(elsewhere) for _ in range(2)] == [0, 0]
    assert retries.pause(ServerUnavailable("away")) == pytest.approx(0.75 * 0.05)
    with pytest.raises(TooManyRequests, match="come later"):
        retries.pause(elsewhere)


def test_a_wait_that_does_not_fit_raises_the_error_at_once(clock: DeadlineClock) -> None:
    retries = Retries(9, Deadline(7, URL))
    with pytest.raises(TooManyRequests, match="come later"):
        retries.pause(asking(7))
    with pytest.raises(TooManyRequests, match="come later"):  # just as long as is left
        retries.pause(asking(7 - 0.0375))
    assert retries.pause(asking(6.9)) == pytest.approx(6.9375)


def test_no_more_than_so_many_repetitions(clock: DeadlineClock) -> None:
    retries = Retries(2, Deadline(100, URL))
    for _ in range(2):
        retries.pause(ServerUnavailable("away"))
    with pytest.raises(ServerUnavailable, match="away"):
        retries.pause(ServerUnavailable("away"))


def test_another_error_is_raised_as_it_is(clock: DeadlineClock) -> None:
    retries = Retries(2, Deadline(100, URL))
    for error in (ServerFailed("broken"), DeadlineExceeded("late")):
        with pytest.raises(type(error), match=str(error)):
            retries.pause(error)


def test_a_deadline_that_ends_a_repetition_raises_why_it_was_repeated(clock: DeadlineClock) -> None:
    retries = Retries(2, Deadline(100, URL))
    retries.pause(ServerUnavailable("away"))
    with pytest.raises(ServerUnavailable, match="away"):
        retries.pause(DeadlineExceeded("late"))


def test_a_deadline_that_is_over_raises_the_error(clock: DeadlineClock) -> None:
    retries = Retries(2, Deadline(100, URL))
    clock.now += 100
    with pytest.raises(ServerUnavailable, match="away"):
        retries.pause(ServerUnavailable("away"))
