"""The loop by itself: back-pressure, order, and brokers and servers that are away."""

import json
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest

from newsdesk.clients import Client, ServerFailed, ServerUnavailable
from newsdesk.clients.errors import Interrupted
from newsdesk.clients.streams.answering import Abandoned, Answering
from newsdesk.clients.streams.brokers import BrokerAway, BrokerError
from newsdesk.clients.streams.consumption import ConsumerLimits, Consumption
from newsdesk.clients.streams.messages import MessageForm
from newsdesk.clients.streams.report import Report
from tests.clients.streams.consumer import Messages, Server, Written
from tests.clients.triton_process import Triton
from tests.holding import until

TEXTS = [f"match {number}".encode() for number in range(100)]


def consumption(source: Messages, server: Any, answers: Written, dead: Written | None = None, **limits: Any) -> Any:
    bounds = ConsumerLimits(**{"batch": 8, "unanswered": 24, "most_idle": 0.0} | limits)
    return Consumption(source, answers, dead, Answering(server, None), MessageForm(), bounds, Report(3600, False))


@contextmanager
def running(consumer: Consumption) -> Iterator[threading.Thread]:
    thread = threading.Thread(target=consumer.run)
    thread.start()
    try:
        yield thread
    finally:
        consumer.stop()
        thread.join(60)
        assert not thread.is_alive()


def ids(sink: Written) -> list[str]:
    return [json.loads(record.content or b"")["id"] for record in sink.records]  # type: ignore[arg-type]


def test_it_reads_no_more_than_the_limit_while_answers_are_missing() -> None:
    source, server, answers = Messages(TEXTS), Server(), Written()
    server.open.clear()
    consumer = consumption(source, server, answers, most_idle=None)
    with running(consumer):
        until(lambda: source.held)  # a second after the last message, the broker is shown a sign of life
        assert (source.read_count, answers.records, source.settled) == (24, [], [])
        server.open.set()
        until(lambda: len(source.settled) == len(TEXTS))
    assert source.settled == [*range(100)]
    assert ids(answers) == [f"in/{place}" for place in range(100)]
    assert (consumer.counts.answered, consumer.counts.unanswered) == (100, 0)


def test_a_message_is_settled_behind_its_answer_though_the_broker_goes_away() -> None:
    source, answers = Messages(TEXTS[:20]), Written(BrokerAway("away"), BrokerAway("away"))
    written: list[tuple[int, int]] = []
    source.before_settling = lambda: written.append((len(answers.records), len(source.settled)))
    consumption(source, Server(), answers).run()
    assert source.settled == [*range(20)]
    assert all(answered > settled for answered, settled in written)
    assert ids(answers) == [f"in/{place}" for place in range(20)]


def test_a_broker_that_refuses_ends_it_and_nothing_is_settled() -> None:
    source = Messages(TEXTS)
    with pytest.raises(BrokerError, match="no topic"):
        consumption(source, Server(), Written(BrokerError("no topic"))).run()
    assert source.settled == []


def test_what_gets_no_label_goes_to_the_dead_letters_as_it_came_or_is_answered_with_the_reason() -> None:
    def fails(texts: Sequence[Any]) -> ServerFailed | None:
        return ServerFailed("a model that stumbles") if b"match 5" in texts else None

    for dead in Written(), None:
        source, answers = Messages(TEXTS[:10]), Written()
        consumption(source, Server(fails), answers, dead).run()
        assert source.settled == [*range(10)]
        if dead:
            (letter,) = dead.records
            assert (letter.content, letter.headers["newsdesk-source"]) == (b"match 5", "in/5")
            assert "failed on it 3 times, and answers others: a model that stumbles" in letter.headers["newsdesk-error"]
            assert len(answers.records) == 9
        else:
            assert len(answers.records) == 10
            (error,) = (body for record in answers.records if "error" in (body := json.loads(record.content or b"")))  # type: ignore[arg-type]
            assert (error["id"], "a model that stumbles" in error["error"]) == ("in/5", True)


def test_a_text_that_ends_the_server_is_refused_and_one_that_waits_for_the_server_is_not() -> None:
    def ends(texts: Sequence[Any]) -> Interrupted | None:
        return Interrupted("gone") if b"deadly" in texts else None

    answers = Answering(Server(ends), None).answer([b"one", b"deadly", b"other"])
    assert [isinstance(answer, str) for answer in answers] == [False, True, False]

    for error in ServerUnavailable("away"), ServerFailed("fails on everything"):
        server = Server(lambda texts, error=error: error)  # type: ignore[misc]
        answering = Answering(server, None)
        with ThreadPoolExecutor() as executor:
            outcomes = executor.submit(answering.answer, [b"one"])
            until(lambda server=server: len(server.asked) > 5)
            assert not outcomes.done()
            answering.abandon()
            assert isinstance(outcomes.exception(60), Abandoned)


def test_at_the_end_what_was_read_is_answered_within_the_time_of_grace() -> None:
    source, server, answers = Messages(TEXTS), Server(), Written()
    server.open.clear()
    consumer = consumption(source, server, answers, most_idle=None)
    with running(consumer):
        until(lambda: source.read_count == 24)
        consumer.stop()
        server.open.set()
    assert (len(answers.records), len(source.settled), source.read_count) == (24, 24, 24)

    away = consumption(Messages(TEXTS), Server(lambda texts: ServerUnavailable("away")), Written(), grace=0.1)
    with running(away):
        until(lambda: away.counts.unanswered == 24)
    assert away.counts.unanswered == 24  # left to the next consumer


def test_a_server_that_is_away_is_waited_for(own_triton: Triton, capsys: pytest.CaptureFixture[str]) -> None:
    source, answers = Messages(TEXTS), Written()
    with Client(own_triton.ports.grpc_url, retries=0) as client:
        consumer = consumption(source, client, answers, most_idle=None)
        with running(consumer):
            until(lambda: "does not answer" in capsys.readouterr().err)
            assert answers.records == []
            own_triton.start()
            own_triton.wait()
            until(lambda: len(source.settled) == 100)
    assert ids(answers) == [f"in/{place}" for place in range(100)]
