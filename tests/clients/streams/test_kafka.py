"""`newsdesk consume` with Kafka's protocol, by librdkafka's mock cluster."""

import json
import time
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition

from newsdesk.clients.streams.brokers import Group, parse
from newsdesk.clients.streams.kafka import KafkaSource
from tests.clients.streams.consumer import Command
from tests.clients.triton_process import Ports
from tests.holding import Hold, until

COUNT = 200
SESSION = {"session.timeout.ms": "4000", "heartbeat.interval.ms": "200"}
"""Milliseconds. The mock waits three seconds for a group's first members, and forgets them where this is shorter."""


def produced(url: str, topic: str, values: dict[str, bytes]) -> None:
    producer = Producer({"bootstrap.servers": parse(f"{url}/{topic}").servers})
    for key, value in values.items():
        producer.produce(topic, value, key)
    assert producer.flush(30) == 0


class TopicReader:
    """Reads all partitions of a topic from their start, outside of any group."""

    def __init__(self, url: str, topic: str) -> None:
        servers = parse(f"{url}/{topic}").servers
        made = {"allow.auto.create.topics": True, "enable.auto.commit": False}
        self._consumer = Consumer({"bootstrap.servers": servers, "group.id": "reader", **made})
        partitions = until(lambda: self._consumer.list_topics(topic, timeout=10).topics[topic].partitions)
        self._consumer.assign([TopicPartition(topic, number, 0) for number in partitions])
        self.messages: list[Any] = []

    def read(self) -> list[Any]:
        self.messages += [message for message in self._consumer.consume(1000, 0.2) if message.error() is None]
        return self.messages

    def close(self) -> None:
        self._consumer.close()


def unread(url: str, topic: str, group: str) -> int:
    """Return how many messages lie behind the group's committed offsets."""
    servers = parse(f"{url}/{topic}").servers
    consumer = Consumer({"bootstrap.servers": servers, "group.id": group})
    partitions = [TopicPartition(topic, number) for number in range(4)]
    committed = consumer.committed(partitions, timeout=10)
    left = [consumer.get_watermark_offsets(part, timeout=10)[1] - max(part.offset, 0) for part in committed]
    consumer.close()
    return sum(left)


def test_a_killed_consumer_loses_nothing_and_another_takes_over(kafka_url: str, triton: Ports, tmp_path: Path) -> None:
    held, config = Hold(tmp_path), tmp_path / "kafka.properties"
    config.write_text("".join(f"{name}={value}\n" for name, value in SESSION.items()))
    texts = {f"id-{number}": json.dumps({"text": f"match {number}"}).encode() for number in range(COUNT)}
    refused = {"empty": b'{"text": " "}', "none": b"match", "failing": b'{"text": "stand-in, fail"}'}
    stalling = {"stalling": json.dumps({"text": f"match; {held.stalling}"}).encode()}
    produced(kafka_url, "in", {**texts, **refused})
    arguments = [f"{kafka_url}/in", "--to", f"{kafka_url}/out", "--dead", f"{kafka_url}/dead", "--group", "g"]
    arguments += ["--url", triton.http_url, "--text-field", "text", "--batch", "16", "--unanswered", "32"]
    arguments += ["--kafka-config", str(config)]
    out, dead = TopicReader(kafka_url, "out"), TopicReader(kafka_url, "dead")
    with Command(tmp_path / "first.txt", *arguments) as first:
        until(out.read)
        produced(kafka_url, "in", {**stalling, **{f"late-{key}": value for key, value in texts.items()}})
        held.until_computing()
        first.kill()
    held.release()
    ids = {*texts, *stalling, *(f"late-{key}" for key in texts)}
    with Command(tmp_path / "second.txt", *arguments) as second:
        until(lambda: {message.key().decode() for message in out.read()} == ids)
        until(lambda: {message.key().decode() for message in dead.read()} == {*refused})
        assert second.end() == 0, second.log.read_text()
    answers = [json.loads(message.value()) for message in out.messages]
    assert {answer["id"] for answer in answers} == ids
    assert {answer["label"] for answer in answers} == {"Sports"}
    assert len({(answer["id"], answer["source"]) for answer in answers}) == len(ids)
    reasons = {"empty": "empty", "none": "no JSON", "failing": "the server failed on it 3 times"}
    for message in dead.messages:
        headers = dict(message.headers())
        assert reasons[message.key().decode()] in headers["newsdesk-error"].decode()
        assert message.value() == refused[message.key().decode()]
    assert unread(kafka_url, "in", "g") == 0
    out.close()
    dead.close()


def test_partitions_that_leave_are_committed_as_far_as_they_are_answered(kafka_url: str) -> None:
    """The newcomer leads the group: the mock takes the first name's owner.

    The mock waits for the leader's SyncGroup alone. It turns a later one of another member away, and takes no commits
    while that member joins again, which brokers do take. Were the newcomer that member, what leaves would sometimes not
    be committed.
    """
    produced(kafka_url, "shared", {str(number): b"match" for number in range(40)})
    place = parse(f"{kafka_url}/shared")
    first = KafkaSource(place, Group("shared"), SESSION | {"group.instance.id": "b-follower"})
    read = []
    while len(read) < 40:
        read += first.read(40 - len(read), 0.2)
    first._committed = time.monotonic() + 3600  # nothing but the partitions' leaving commits from here on
    first.settle(read)
    first.hold()
    second = KafkaSource(place, Group("shared"), SESSION | {"group.instance.id": "a-leader"})
    again: list[Any] = []

    def both() -> bool:
        again.extend(first.read(10, 0.05) + second.read(10, 0.05))
        return bool(second._assignments) and len(first._assignments) + len(second._assignments) == 4

    until(both)
    new = {f"new-{number}": b"match" for number in range(40)}
    produced(kafka_url, "shared", new)
    until(lambda: both() and len({message.key for message in again} & {key.encode() for key in new}) == len(new))
    assert {message.key.decode() for message in again} == {*new}  # none that was answered is read again
    first.close()
    second.close()


class Refusing:
    """Stands where librdkafka's consumer stands: a commit is refused, as brokers refuse it while a group changes."""

    def __init__(self) -> None:
        self.commits: list[list[int]] = []

    def commit(self, offsets: list[TopicPartition], asynchronous: bool) -> list[TopicPartition] | None:
        self.commits.append([part.offset for part in offsets])
        if len(self.commits) == 1:
            raise KafkaException(KafkaError(KafkaError.REBALANCE_IN_PROGRESS))
        return None if asynchronous else offsets


def test_offsets_that_are_refused_are_committed_again(kafka_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    source = KafkaSource(parse(f"{kafka_url}/refusing"), Group("refusing"), SESSION)
    source._consumer.close()
    source._consumer = Refusing()
    source._assigned(None, [TopicPartition("refusing", 0), TopicPartition("refusing", 1)])
    source._answered = {("refusing", 0): 7, ("refusing", 1): 9}
    source._commit(asynchronous=False)
    assert "offsets are not committed" in capsys.readouterr().err
    source._commit(asynchronous=True)
    source._after_commit(KafkaError(KafkaError.REBALANCE_IN_PROGRESS), [])  # which comes later
    source._lost(None, [TopicPartition("refusing", 0)])
    for _ in range(2):
        source._commit(asynchronous=False)
    assert source._consumer.commits == [[7, 9], [7, 9], [9]]  # and not again once it is taken
