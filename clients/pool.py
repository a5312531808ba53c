"""Several servers that serve the same, asked as one: the one with the fewest requests in flight, past those put aside.

Health is seen in passing, and nothing is sent only to look. A server that cannot be reached, or says that it cannot
answer now, is put aside at once; one that fails or lets time run out, when it does so three times in a row. After a
pause, which doubles each time, one request tries it; what answers is used as before. Where all are put aside, the one
whose pause ends first is asked. Nothing is repeated here: the client's retries do that, and are only told that another
server may answer at once.
"""

import random
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Generic, TypeVar, cast

from newsdesk.clients.errors import (
    BadResponse,
    DeadlineExceeded,
    NewsdeskError,
    ServerFailed,
    ServerUnavailable,
    TooManyRequests,
)
from newsdesk.clients.options import Options
from newsdesk.clients.transports import (
    AsyncKeeper,
    AsyncTransport,
    FeedbackTransport,
    ModelFacts,
    ServerAnswer,
    Transport,
)

_FIRST_PAUSE = 0.25
_LONGEST_PAUSE = 10.0
_MOST_LAPSES = 3
_LAPSES = DeadlineExceeded, ServerFailed, BadResponse
"""Failures that may be the request's fault as well as the server's."""
_SHORTEST_TRIAL = 1.0

T = TypeVar("T")


@dataclass(slots=True)
class Replica(Generic[T]):
    """A server of a pool, and what its answers say of it.

    Attributes:
        flying: requests in flight
        failures: how often in a row it was put aside
        lapses: errors in a row, of the kinds of _LAPSES
        until: monotonic time before which it is not asked
        spell: how often it was put aside in all: what was sent in an earlier spell says nothing of this one
    """

    transport: T
    flying: int = 0
    failures: int = 0
    lapses: int = 0
    until: float = 0.0
    spell: int = 0

    def free(self, now: float) -> bool:
        """Return whether it may be asked at `now`. One that was put aside is tried by one request at a time."""
        return self.until <= now and not (self.failures and self.flying)

    def judge(self, error: NewsdeskError | None, now: float) -> None:
        """Put it aside, or take it back, by how a request ended.

        Args:
            error: of the request; None: it was answered
            now: monotonic time
        """
        if isinstance(error, TooManyRequests):
            self.failures = self.lapses = 0
            self.until = now + error.retry_after
            return
        if isinstance(error, _LAPSES):
            self.lapses += 1
            if self.lapses < _MOST_LAPSES and not self.failures:
                return
        elif not isinstance(error, ServerUnavailable):
            if self.failures:
                self.until = 0.0
            self.failures = self.lapses = 0
            return
        pause = min(_FIRST_PAUSE * 2**self.failures, _LONGEST_PAUSE) * random.uniform(0.75, 1.0)
        self.until = now + max(pause, getattr(error, "retry_after", 0.0))
        self.failures += 1
        self.spell += 1
        self.lapses = 0


@dataclass(frozen=True, slots=True)
class Attempt(Generic[T]):
    """The server for one request, and the seconds that it has to answer."""

    transport: T
    timeout: float


class Pool(Generic[T]):
    """Servers that serve the same, for any number of threads, or for one event loop."""

    def __init__(self, transports: Sequence[T]) -> None:
        self._replicas = [Replica(transport) for transport in transports]
        self._lock = threading.Lock()

    @property
    def transports(self) -> list[T]:
        """The transports to all servers."""
        return [replica.transport for replica in self._replicas]

    @contextmanager
    def attempt(self, timeout: float) -> Iterator[Attempt[T]]:
        """Choose the server for a request, and judge it by how the body ends.

        A server that is tried again gets a part of the time, so that enough is left to ask another.

        Args:
            timeout: seconds

        Raises:
            NewsdeskError: what the body raised; ServerUnavailable where a server that was tried again was late.
        """
        with self._lock:
            replica = self._choose(time.monotonic())
            replica.flying += 1
            spell, on_trial = replica.spell, replica.failures > 0 and len(self._replicas) > 1
        seconds = min(timeout, max(_SHORTEST_TRIAL, timeout / 4)) if on_trial else timeout
        try:
            yield Attempt(replica.transport, seconds)
        except NewsdeskError as error:
            if isinstance(error, DeadlineExceeded) and seconds < timeout:
                short = ServerUnavailable(f"{error} It was put aside before, and had {seconds:.1f} s to show itself.")
                self._judge(replica, spell, short)
                raise short from error
            self._judge(replica, spell, error)
            raise
        else:
            self._judge(replica, spell, None)
        finally:
            with self._lock:
                replica.flying -= 1

    def _choose(self, now: float) -> Replica[T]:
        free = [replica for replica in self._replicas if replica.free(now)]
        if not free:
            return min(self._replicas, key=lambda replica: replica.until)
        fewest = min(replica.flying for replica in free)
        return random.choice([replica for replica in free if replica.flying == fewest])

    def _judge(self, replica: Replica[T], spell: int, error: NewsdeskError | None) -> None:
        now = time.monotonic()
        with self._lock:
            if replica.spell == spell:
                replica.judge(error, now)
            if isinstance(error, ServerUnavailable) and not isinstance(error, TooManyRequests):
                error.elsewhere = any(other.free(now) for other in self._replicas if other is not replica)


class PooledTransport:
    """The blocking transport to any of several servers."""

    def __init__(self, transports: Sequence[Transport]) -> None:
        self._pool = Pool(transports)

    def models(self, timeout: float) -> tuple[str, ...]:
        """Return the names of the models that one of them serves."""
        with self._pool.attempt(timeout) as attempt:
            return attempt.transport.models(attempt.timeout)

    def describe(self, name: str, timeout: float) -> ModelFacts:
        """Return what a model is."""
        with self._pool.attempt(timeout) as attempt:
            return attempt.transport.describe(name, attempt.timeout)

    def infer(
        self, texts: Sequence[bytes], model: ModelFacts, options: Options, timeout: float
    ) -> Sequence[ServerAnswer | str]:
        """Return an answer for each text, or why it is refused."""
        with self._pool.attempt(timeout) as attempt:
            return attempt.transport.infer(texts, model, options, attempt.timeout)

    def feedback(self, corrections: bytes, path: str, timeout: float) -> int:
        """Send corrections to one of them, and return how many were kept."""
        with self._pool.attempt(timeout) as attempt:
            return cast(FeedbackTransport, attempt.transport).feedback(corrections, path, attempt.timeout)

    def close(self) -> None:
        """Close the connections to all."""
        for transport in self._pool.transports:
            transport.close()


class AsyncPooledTransport:
    """The transport to any of several servers, for the event loop that it is made in."""

    def __init__(self, transports: Sequence[AsyncTransport]) -> None:
        self._pool = Pool(transports)

    async def models(self, timeout: float) -> tuple[str, ...]:
        """Return the names of the models that one of them serves."""
        with self._pool.attempt(timeout) as attempt:
            return await attempt.transport.models(attempt.timeout)

    async def describe(self, name: str, timeout: float) -> ModelFacts:
        """Return what a model is."""
        with self._pool.attempt(timeout) as attempt:
            return await attempt.transport.describe(name, attempt.timeout)

    async def infer(
        self, texts: Sequence[bytes], model: ModelFacts, options: Options, timeout: float
    ) -> Sequence[ServerAnswer | str]:
        """Return an answer for each text, or why it is refused."""
        with self._pool.attempt(timeout) as attempt:
            return await attempt.transport.infer(texts, model, options, attempt.timeout)

    async def feedback(self, corrections: bytes, path: str, timeout: float) -> int:
        """Send corrections to one of them, and return how many were kept."""
        with self._pool.attempt(timeout) as attempt:
            return await cast(AsyncKeeper, attempt.transport).feedback(corrections, path, attempt.timeout)

    async def close(self) -> None:
        """Close the connections to all."""
        for transport in self._pool.transports:
            await transport.close()

    def abandon(self) -> None:
        """Close what can be closed when the loop has ended."""
        for transport in self._pool.transports:
            transport.abandon()
