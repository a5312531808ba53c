"""A broker: where messages are read and written, named by a URL; the interface of every kind of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol
from urllib.parse import parse_qsl, unquote, urlsplit

from newsdesk.clients.streams.messages import Message, StreamRecord

_EXPECTED = "kafka://host:9092/topic, redis://host:6379/stream or rediss://host:6379/stream"
_SCHEMES = "kafka", "redis", "rediss"


class BrokerError(Exception):
    """The broker refuses what is asked of it, and will go on refusing it."""


class BrokerAway(BrokerError):
    """The broker does not answer now. Answers on their way to it may have been written."""


class MessageSource(Protocol):
    """A stream of messages that a group of consumers reads."""

    def read(self, most: int, wait: float) -> list[Message]:
        """Return at most `most` messages, after at most about `wait` seconds.

        Raises:
            BrokerError: the broker refuses, or is away.
        """

    def hold(self) -> None:
        """Keep the place in the group, and what was read, without reading on.

        Raises:
            BrokerError: the broker refuses, or is away.
        """

    def settle(self, messages: Sequence[Message]) -> None:
        """Note that messages, in the order in which they were read, are answered: nobody reads them again.

        Raises:
            BrokerError: the broker refuses, or is away.
        """

    def lag(self) -> int | None:
        """Return how many messages wait to be read, None where the broker does not say."""

    def close(self) -> None:
        """Leave the group, so that others read on at once."""


class Sink(Protocol):
    """A stream of messages that is written."""

    def write(self, records: Sequence[StreamRecord]) -> None:
        """Write records, and return when the broker has them all.

        Raises:
            BrokerError: the broker refuses, or is away.
        """

    def close(self) -> None:
        """Close the connection."""


@dataclass(frozen=True)
class StreamUrl:
    """A URL taken apart: the broker's kind and servers, the topic or stream there, and options of the connection."""

    scheme: str
    servers: str
    name: str
    options: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Group:
    """The group of consumers that this one belongs to.

    Attributes:
        start: where a group that is new begins: "start" or "end" of the stream
        claim_after: seconds after which Redis hands over what another consumer has read and not answered
    """

    name: str
    start: str = "start"
    claim_after: float = 60.0


@dataclass(frozen=True)
class Access:
    """The means by which brokers are asked: options of librdkafka, and Redis' password."""

    kafka: Mapping[str, str] = field(default_factory=dict, repr=False)
    redis_password: str = field(default="", repr=False)


def parse(url: str) -> StreamUrl:
    """Take a stream's URL apart.

    Raises:
        ValueError: it is none, or holds a password; the message shows none.
    """
    try:
        parts = urlsplit(url)
        secret = parts.password is not None
    except ValueError:
        raise ValueError(f"the stream is no URL, expected {_EXPECTED}") from None
    if secret:
        raise ValueError(
            f"the URL {parts.scheme}://…@… holds a password, which all users of this machine can read: expected "
            "it in a file (--redis-password-file, --kafka-config)"
        )
    name = unquote(parts.path.removeprefix("/"))
    if parts.scheme not in _SCHEMES or not parts.netloc or not name or parts.fragment:
        raise ValueError(f"the stream is {url!r}, expected {_EXPECTED}")
    return StreamUrl(parts.scheme, parts.netloc, name, dict(parse_qsl(parts.query)))


def read_properties(file: Path) -> dict[str, str]:
    """Return the options of a file of lines "name=value", as Kafka's tools take it.

    Raises:
        OSError: it cannot be read.
        ValueError: a line is none of these.
    """
    options: dict[str, str] = {}
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
        name, separator, value = line.partition("=")
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        if not separator:
            raise ValueError(f"{file}, line {number}: expected name=value, as librdkafka's CONFIGURATION.md names them")
        options[name.strip()] = value.strip()
    return options
