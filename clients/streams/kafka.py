"""Kafka's topics, by librdkafka. Offsets are committed behind the answers, now and then and as partitions leave."""

import json
import time
from collections.abc import Mapping, Sequence
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka import Message as KafkaMessage

from newsdesk.clients.streams.brokers import BrokerAway, BrokerError, Group, StreamUrl
from newsdesk.clients.streams.messages import Content, Message, StreamRecord
from newsdesk.clients.streams.report import warn

_COMMIT_EVERY = 1.0
"""Seconds: after a crash, the answers of so long may be written twice."""
_DELIVERY_SECONDS = 30
_CLOSE_SECONDS = 10.0
_RESETS = {"start": "earliest", "end": "latest"}
_PASSING = {KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC, KafkaError._MAX_POLL_EXCEEDED}
"""Errors of a reader that end by themselves: the topic is made, the partitions are handed out again."""
_Partition = tuple[str, int]


class KafkaSource:
    """A topic. Partitions come and go; a message of one that has gone meanwhile is answered and not committed."""

    def __init__(self, place: StreamUrl, group: Group, options: Mapping[str, str]) -> None:
        self._answered: dict[_Partition, int] = {}
        self._stored: dict[_Partition, int] = {}  # as far as the group has taken it: what it refuses is sent again
        self._assignments: dict[_Partition, int] = {}
        self._count = 0
        self._committed = time.monotonic()
        self._held = False
        self._early: list[KafkaMessage] = []
        self._consumer = _made(
            Consumer,
            {
                "auto.offset.reset": _RESETS[group.start],
                "partition.assignment.strategy": "cooperative-sticky",  # what stays here is read on without a stop
                **options,
                "bootstrap.servers": place.servers,
                "group.id": group.name,
                "enable.auto.commit": False,
                "error_cb": _warn,
                "on_commit": self._after_commit,
            },
        )
        self._consumer.subscribe([place.name], on_assign=self._assigned, on_revoke=self._revoked, on_lost=self._lost)

    def read(self, most: int, wait: float) -> list[Message]:
        """Return at most `most` messages, after at most `wait` seconds."""
        if self._held:
            self._consumer.resume(self._consumer.assignment())
            self._held = False
        messages, self._early = self._early, []
        if not messages:
            first = self._consumer.poll(wait)
            messages = [] if first is None else [first]
        if messages and len(messages) < most:
            messages += self._consumer.consume(most - len(messages), 0)
        if time.monotonic() - self._committed > _COMMIT_EVERY:
            self._commit(asynchronous=True)
        return [self._message(message) for message in messages if _sound(message)]

    def hold(self) -> None:
        """Keep the place in the group while nothing is read."""
        self._held = True
        self._consumer.pause(self._consumer.assignment())
        early = self._consumer.poll(0)  # of a partition that came just now
        if early is not None:
            self._early.append(early)

    def settle(self, messages: Sequence[Message]) -> None:
        """Note the offsets behind messages, to be committed."""
        for message in messages:
            topic, partition, offset, assignment = message.place
            if self._assignments.get((topic, partition)) == assignment:
                self._answered[topic, partition] = offset + 1

    def lag(self) -> int | None:
        """Return how many messages of this consumer's partitions wait to be read."""
        try:
            lag = 0
            for position in self._consumer.position(self._consumer.assignment()):
                _, end = self._consumer.get_watermark_offsets(position, cached=True)
                lag += max(end - position.offset, 0) if position.offset >= 0 and end >= 0 else 0
        except KafkaException:
            return None
        return lag

    def close(self) -> None:
        """Commit what is answered, and leave the group."""
        self._commit(asynchronous=False)
        self._consumer.close()

    def _message(self, message: KafkaMessage) -> Message:
        topic, partition, offset = message.topic() or "", message.partition() or 0, message.offset() or 0
        key, value = message.key(), message.value()
        place = topic, partition, offset, self._assignments.get((topic, partition), 0)
        return Message(f"{topic}/{partition}/{offset}", _bytes(key), _bytes(value), place)

    def _commit(self, asynchronous: bool) -> None:
        self._committed = time.monotonic()
        offsets = [
            TopicPartition(*partition, offset)
            for partition, offset in self._answered.items()
            if self._stored.get(partition) != offset
        ]
        if not offsets:
            return
        try:
            committed = self._consumer.commit(offsets=offsets, asynchronous=asynchronous)
        except KafkaException as error:
            self._after_commit(error.args[0], offsets)
        else:
            self._after_commit(None, committed or ())  # None where it is asynchronous

    def _after_commit(self, error: KafkaError | None, partitions: Sequence[TopicPartition]) -> None:
        if error is None:
            self._stored |= {(part.topic, part.partition): part.offset for part in partitions if part.error is None}
        elif error.code() != KafkaError._NO_OFFSET:
            warn(f"offsets are not committed, their texts may be answered twice: {error.str()}")

    def _assigned(self, _: Any, partitions: list[TopicPartition]) -> None:
        self._count += 1
        self._assignments |= {(part.topic, part.partition): self._count for part in partitions}

    def _revoked(self, consumer: Any, partitions: list[TopicPartition]) -> None:
        self._commit(asynchronous=False)
        self._lost(consumer, partitions)

    def _lost(self, _: Any, partitions: list[TopicPartition]) -> None:
        for part in partitions:
            self._assignments.pop((part.topic, part.partition), None)
            self._answered.pop((part.topic, part.partition), None)
            self._stored.pop((part.topic, part.partition), None)


class KafkaSink:
    """A topic, written once for each try: librdkafka numbers what it sends, and brokers drop what comes twice."""

    def __init__(self, place: StreamUrl, options: Mapping[str, str]) -> None:
        self._topic = place.name
        ours = {"enable.idempotence": True, "linger.ms": 5, "message.timeout.ms": _DELIVERY_SECONDS * 1000}
        kept = {name: value for name, value in options.items() if name not in _OF_CONSUMERS}
        self._producer = _made(Producer, {**ours, **kept, "bootstrap.servers": place.servers, "error_cb": _warn})

    def write(self, records: Sequence[StreamRecord]) -> None:
        """Write records, and return when the broker has them all."""
        errors: list[KafkaError] = []

        def delivered(error: KafkaError | None, _: Any) -> None:
            errors.extend([error] if error else [])

        for record in records:
            self._produce(record, delivered)
        while self._producer.flush(1.0):
            pass
        if errors:
            raise _refused(errors[0], self._topic)

    def _produce(self, record: StreamRecord, delivered: Any) -> None:
        headers = [(name, value.encode()) for name, value in record.headers.items()]
        while True:
            try:
                self._producer.produce(
                    self._topic, _value(record.content), record.key, headers=headers, on_delivery=delivered
                )
                return
            except BufferError:  # its queue is full
                self._producer.poll(0.1)
            except KafkaException as error:
                raise _refused(error.args[0], self._topic) from error

    def close(self) -> None:
        """Send what is left, for ten seconds at most."""
        self._producer.flush(_CLOSE_SECONDS)


_OF_CONSUMERS = {"session.timeout.ms", "max.poll.interval.ms", "auto.offset.reset", "partition.assignment.strategy"}
_OF_CONSUMERS |= {"heartbeat.interval.ms", "group.instance.id", "group.protocol", "isolation.level", "fetch.min.bytes"}
"""Options of a file that serves both ends; a producer would warn of them."""


def _made(kind: Any, options: dict[str, Any]) -> Any:
    try:
        return kind(options)
    except KafkaException as error:
        raise ValueError(f"librdkafka cannot use what it is given (--kafka-config): {error.args[0].str()}") from error


def _sound(message: KafkaMessage) -> bool:
    """Whether it is a message, and no event. Raises BrokerError for an error that stays."""
    error = message.error()
    if error is None:
        return True
    if error.fatal() or not (error.retriable() or error.code() in _PASSING):
        raise BrokerError(f"Kafka refuses to be read: {error.str()}")
    warn(error.str())
    return False


def _refused(error: KafkaError, topic: str) -> BrokerError:
    timed_out = error.code() in (KafkaError._MSG_TIMED_OUT, KafkaError._TRANSPORT, KafkaError._TIMED_OUT)
    if not error.fatal() and (timed_out or error.retriable()):
        return BrokerAway(f"Kafka does not take messages of {topic!r} now: {error.str()}")
    return BrokerError(f"Kafka refuses a message of {topic!r}: {error.str()}")


def _warn(error: KafkaError) -> None:
    warn(f"Kafka: {error.str()}")


def _bytes(value: str | bytes | None) -> bytes | None:
    return value.encode() if isinstance(value, str) else value


def _value(content: Content) -> bytes | None:
    if content is None or isinstance(content, bytes):
        return content
    return json.dumps({name: value.decode(errors="replace") for name, value in content.items()}).encode()
