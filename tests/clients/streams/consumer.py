"""`newsdesk consume` as a process of its own, and sources, sinks and servers without a broker or a model."""

import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from newsdesk.clients.chunk import Item
from newsdesk.clients.errors import NewsdeskError
from newsdesk.clients.prediction import Prediction
from newsdesk.clients.streams.messages import Message, StreamRecord
from newsdesk.server.contract import Quality
from tests.clients.cli.command import NEWSDESK


class Command:
    """A consumer that is started, and ended by the test."""

    def __init__(self, log: Path, *arguments: str) -> None:
        self.log = log
        with log.open("wb") as file:
            self.process = subprocess.Popen([NEWSDESK, "consume", *arguments], stdout=file, stderr=file)

    def __enter__(self) -> "Command":
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def end(self) -> int:
        """Ask it to end, and return its exit code."""
        self.process.terminate()
        return self.process.wait(60)


class Messages:
    """A source of messages that are there from the start."""

    def __init__(self, texts: Sequence[bytes]) -> None:
        self.waiting = deque(Message(f"in/{place}", None, text, place) for place, text in enumerate(texts))
        self.read_count, self.held = 0, 0
        self.settled: list[int] = []
        self.before_settling: Callable[[], None] = lambda: None

    def read(self, most: int, wait: float) -> list[Message]:
        messages = [self.waiting.popleft() for _ in range(min(most, len(self.waiting)))]
        self.read_count += len(messages)
        if not messages:
            time.sleep(min(wait, 0.01))
        return messages

    def hold(self) -> None:
        self.held += 1

    def settle(self, messages: Sequence[Message]) -> None:
        self.before_settling()
        self.settled += [message.place for message in messages]

    def lag(self) -> int:
        return len(self.waiting)

    def close(self) -> None: ...


class Written:
    """A sink; `failing` are errors that it raises first."""

    def __init__(self, *failing: Exception) -> None:
        self.records: list[StreamRecord] = []
        self._failing = list(failing)

    def write(self, records: Sequence[StreamRecord]) -> None:
        if self._failing:
            raise self._failing.pop(0)
        self.records += records

    def close(self) -> None: ...


class Server:
    """Answers every text, unless it is `shut` or `fails` on it."""

    def __init__(self, fails: Callable[[Sequence[Any]], NewsdeskError | None] = lambda texts: None) -> None:
        self._fails = fails
        self.open = threading.Event()
        self.open.set()
        self.asked: list[int] = []

    def classify(self, text: list[Any], *, quality: Quality | None) -> list[Item]:
        self.asked.append(len(text))
        assert self.open.wait(60)
        error = self._fails(text)
        if error is not None:
            raise error
        return [Prediction(place, "World", {"World": 1.0}, "stand-in") for place in range(len(text))]
