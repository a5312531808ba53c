"""A child that lives and does not answer is lost; one that is only late is not, nor one that has yet to start."""

import queue
import socket
import threading

import pytest

from newsdesk.server.serving import pauses, pulse
from newsdesk.server.serving.pauses import Pauses
from newsdesk.server.serving.pulse import Pulse
from tests.holding import until


def test_one_that_answers_no_more_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pulse, "_PERIOD", 0.01)
    monkeypatch.setattr(pulse, "_TIMEOUT", 0.1)
    answering = threading.Event()
    answering.set()
    asked = []

    def answer(listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            asked.append(connection.recv(1000))
            if answering.is_set():
                connection.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                connection.close()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=answer, args=(listener,), daemon=True).start()
        watched = Pulse("127.0.0.1", listener.getsockname()[1], "/health/live")
        until(lambda: watched.answered)
        assert not watched.lost
        answering.clear()
        until(lambda: watched.lost)
        answering.set()
        until(lambda: not watched.lost)
        watched.stop()
    assert asked[0].startswith(b"GET /health/live ")


def test_four_questions_in_a_row_without_an_answer_are_a_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    """A question that has come says that the answer before is counted."""
    asked, answers = queue.Queue[tuple[object, ...]](), queue.Queue[int]()

    def ask(*arguments: object) -> int:
        asked.put(arguments)
        return answers.get()

    def answer(status: int) -> bool:
        answers.put(status)
        asked.get(timeout=10)
        return watched.lost

    monkeypatch.setattr(pulse.health, "ask", ask)
    monkeypatch.setattr(pulse, "_PERIOD", 0.001)
    watched = Pulse("127.0.0.1", 9, "/health/live", True)
    assert asked.get(timeout=10) == ("127.0.0.1", 9, "/health/live", 2.0, True)
    assert (watched._thread.daemon, watched._thread.name) == (True, "pulse of 9")
    assert [answer(status) for status in (200, 0, 0, 0, 0, 503, 0, 0, 0, 0)] == [*[False] * 4, True, *[False] * 4, True]
    watched.stop()
    answers.put(0)


def test_one_that_has_yet_to_listen_is_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pulse, "_PERIOD", 0.001)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    watched = Pulse("127.0.0.1", port, "/")
    until(lambda: watched._missed > 10)
    assert not watched.lost
    watched.stop()


def test_pauses_grow_to_half_a_minute_and_begin_anew_after_a_steady_quarter(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(pauses.time, "monotonic", lambda: now)
    monkeypatch.setattr(pauses.time, "time", lambda: 0.0)  # the clock of the day changes nothing
    growing = Pauses()
    assert [growing.next() for _ in range(10)] == [0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 30.0, 30.0]
    growing.works()
    now += 15
    growing.works()  # still: it counts from the first time
    assert growing.next() == 30.0
    growing.works()
    now += 15.1
    growing.works()
    assert growing.next() == 0.2
    now += 100  # a start that never came to work
    assert growing.next() == 0.4
