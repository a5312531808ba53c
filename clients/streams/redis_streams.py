"""Redis Streams, by consumer groups. A message that a consumer left unanswered is claimed by another after a while."""

import os
import secrets
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import redis

from newsdesk.clients.streams.brokers import BrokerAway, BrokerError, Group, StreamUrl
from newsdesk.clients.streams.messages import Message, StreamRecord

_STARTS = {"start": "0", "end": "$"}
_VALUE = "value"
_AWAY = redis.ConnectionError, redis.TimeoutError, redis.exceptions.BusyLoadingError
_Read = TypeVar("_Read")


class RedisSource:
    """A stream. Every entry that is answered is acknowledged; none is deleted."""

    def __init__(self, place: StreamUrl, group: Group, password: str) -> None:
        self._stream, self._group, self._start = place.name, group.name, _STARTS[group.start]
        self._client = _client(place, password)
        self._name = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"
        self._patience = group.claim_after
        self._cursor, self._claim_at, self._touched = "0-0", 0.0, time.monotonic()
        self._unsettled: set[bytes] = set()

    def read(self, most: int, wait: float) -> list[Message]:
        """Return at most `most` entries, claimed ones first, after at most `wait` seconds."""
        self._touch()
        entries = self._in_group(lambda: self._claim(most))
        if not entries:
            entries = self._in_group(lambda: self._fresh(most, wait))
        self._unsettled |= {entry for entry, _ in entries}
        return [self._message(entry, fields) for entry, fields in entries]

    def hold(self) -> None:
        """Keep others from claiming what was read."""
        self._touch()

    def settle(self, messages: Sequence[Message]) -> None:
        """Acknowledge entries."""
        with _translated():
            self._client.xack(self._stream, self._group, *(message.place for message in messages))
        self._unsettled -= {message.place for message in messages}

    def lag(self) -> int | None:
        """Return how many entries wait to be read, None where Redis does not say."""
        try:
            groups = self._client.xinfo_groups(self._stream)
        except redis.RedisError:
            return None
        lags = [group.get("lag") for group in groups if group["name"] == self._group.encode()]
        return lags[0] if lags else None

    def close(self) -> None:
        """Take this consumer's name out of the group; Redis would forget entries that it holds, so those keep it."""
        try:
            if not self._client.xpending_range(self._stream, self._group, "-", "+", 1, consumername=self._name):
                self._client.xgroup_delconsumer(self._stream, self._group, self._name)
        except redis.RedisError:
            pass  # nothing is lost: the name stays in the group
        self._client.close()

    def _fresh(self, most: int, wait: float) -> list[Any]:
        block = max(1, round(wait * 1000))  # 0 would wait for ever
        read: Any = self._client.xreadgroup(self._group, self._name, {self._stream: ">"}, count=most, block=block)
        if not read:
            return []
        # A list of stream and entries by the second version of Redis' protocol, a mapping by the third.
        entries = next(iter(read.values()))[0] if isinstance(read, dict) else read[0][1]
        return list(entries)

    def _claim(self, most: int) -> list[Any]:
        """Take over what others, or this one before it was cut off, have left; the whole stream once in a while."""
        if time.monotonic() < self._claim_at:
            return []
        idle = round(self._patience * 1000)
        claimed: Any = self._client.xautoclaim(
            self._stream, self._group, self._name, idle, start_id=self._cursor, count=most
        )
        self._cursor = claimed[0].decode() if isinstance(claimed[0], bytes) else claimed[0]
        if self._cursor == "0-0":
            self._claim_at = time.monotonic() + self._patience / 2
        return [entry for entry in claimed[1] if entry[1] is not None and entry[0] not in self._unsettled]

    def _touch(self) -> None:
        """Keep others from claiming what is still being answered here."""
        if time.monotonic() - self._touched < self._patience / 3:
            return
        self._touched = time.monotonic()
        if self._unsettled:
            with _translated():
                self._client.xclaim(self._stream, self._group, self._name, 0, list(self._unsettled), justid=True)

    def _in_group(self, action: Callable[[], _Read]) -> _Read:
        """Do something as a member of the group, which is made where it is not there."""
        with _translated():
            try:
                return action()
            except redis.ResponseError as error:
                if "NOGROUP" not in str(error):
                    raise
            try:
                self._client.xgroup_create(self._stream, self._group, self._start, mkstream=True)
            except redis.ResponseError as error:
                if "BUSYGROUP" not in str(error):  # another consumer was quicker
                    raise
            return action()

    def _message(self, entry: bytes, fields: dict[bytes, bytes]) -> Message:
        named = {name.decode(errors="replace"): value for name, value in fields.items()}
        return Message(f"{self._stream}/{entry.decode()}", entry, named, entry)


class RedisSink:
    """A stream. A value that is no set of fields is the field `value`, beside `id`."""

    def __init__(self, place: StreamUrl, password: str) -> None:
        self._stream, self._client = place.name, _client(place, password)

    def write(self, records: Sequence[StreamRecord]) -> None:
        """Write records, and return when Redis has them all."""
        with _translated():
            pipeline = self._client.pipeline(transaction=False)
            for record in records:
                pipeline.xadd(self._stream, _fields(record))
            pipeline.execute()

    def close(self) -> None:
        """Close the connection."""
        self._client.close()


def _fields(record: StreamRecord) -> dict[Any, Any]:
    if isinstance(record.content, bytes | None):
        key = {} if record.key is None else {"id": record.key}
        return {**key, _VALUE: record.content or b"", **record.headers}
    return {**record.content, **record.headers}


def _client(place: StreamUrl, password: str) -> Any:
    query = "&".join(f"{name}={value}" for name, value in place.options.items())
    url = f"{place.scheme}://{place.servers}" + (f"?{query}" if query else "")
    secret = {"password": password} if password else {}
    try:
        return redis.Redis.from_url(url, **secret)
    except (ValueError, TypeError, redis.RedisError) as error:
        raise ValueError(f"the options of {place.scheme}://{place.servers} cannot be used: {error}") from error


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except redis.AuthenticationError as error:
        raise BrokerError(f"Redis refuses the password (--redis-password-file): {error}") from error
    except _AWAY as error:
        raise BrokerAway(f"Redis does not answer: {error}") from error
    except redis.RedisError as error:
        raise BrokerError(f"Redis refuses: {error}") from error
