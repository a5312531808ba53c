"""`newsdesk consume` with a real Redis, of which the first consumer is killed in mid-run."""

import json
import time
from pathlib import Path
from typing import Any

import pytest
import redis

from newsdesk.clients.streams.brokers import Group, StreamUrl
from newsdesk.clients.streams.redis_streams import RedisSource
from tests import brokers
from tests.clients.cli.command import run
from tests.clients.streams.consumer import Command
from tests.clients.triton_process import Ports
from tests.holding import Hold, until

COUNT = 200


@pytest.fixture
def client(redis_url: str) -> Any:
    connection: Any = redis.Redis.from_url(redis_url, decode_responses=True)
    connection.flushall()
    yield connection
    connection.close()


def answers(client: Any) -> list[dict[str, Any]]:
    return [json.loads(fields["value"]) for _, fields in client.xrange("out")]


def test_a_killed_consumer_loses_nothing_and_another_takes_over(
    client: Any, redis_url: str, triton: Ports, tmp_path: Path
) -> None:
    held = Hold(tmp_path)
    entries = [client.xadd("in", {"text": f"match {number}"}) for number in range(COUNT)]
    entries.insert(0, client.xadd("in", {"text": f"match; {held.stalling}"}))
    entries += [client.xadd("in", {"text": f"shares {number}"}) for number in range(COUNT)]
    refused = {
        client.xadd("in", {"text": " "}): "empty",
        client.xadd("in", {"body": "match"}): "no field 'text'",
        client.xadd("in", {"text": "stand-in, fail"}): "the server failed on it 3 times",
    }
    arguments = [f"{redis_url}/in", "--to", f"{redis_url}/out", "--dead", f"{redis_url}/dead", "--url", triton.grpc_url]
    arguments += ["--claim-after", "1", "--batch", "16", "--unanswered", "32", "--group", "g"]
    with Command(tmp_path / "first.txt", *arguments) as first:
        held.until_computing()
        until(lambda: answers(client))
        first.kill()
    held.release()
    answered = {answer["id"] for answer in answers(client)}
    assert 0 < len(answered) < len(entries)
    with Command(tmp_path / "second.txt", *arguments) as second:
        until(lambda: client.xlen("dead") == 3 and client.xpending("in", "g")["pending"] == 0)
        assert second.end() == 0, second.log.read_text()
    assert {answer["id"] for answer in answers(client)} == {*entries}
    labels = {(answer["id"], answer["label"]) for answer in answers(client)}
    assert len(labels) == len(entries)  # one that came twice was answered alike
    answer = answers(client)[0]
    assert answer["source"] == f"in/{answer['id']}"
    assert {"label", "probabilities", "quality", "answered_by", "version"} <= answer.keys()
    for _, fields in client.xrange("dead"):
        assert refused[fields["newsdesk-id"]] in fields["newsdesk-error"]
    group, *_ = client.xinfo_groups("in")
    assert (group["lag"], group["pending"]) == (0, 0)
    assert client.xinfo_consumers("in", "g")[0]["pending"] == 0
    assert "in flight, 0 not yet read" in second.log.read_text()


def test_what_is_being_answered_is_kept_and_what_is_left_is_claimed(client: Any, redis_url: str) -> None:
    def idle() -> int:
        return min(entry["time_since_delivered"] for entry in client.xpending_range("in", "g", "-", "+", 9))

    place = StreamUrl("redis", redis_url.removeprefix("redis://"), "in")
    for number in range(4):
        client.xadd("in", {"text": str(number)})
    first, second = (RedisSource(place, Group("g", claim_after=0.1), "") for _ in range(2))
    read = first.read(4, 0.01)
    first.settle(read[:2])
    before = until(lambda: value if (value := idle()) > 1000 else 0)
    first.hold()
    assert idle() < before
    until(lambda: idle() > 200)
    for _ in range(2):
        first._claim_at, first._touched = 0.0, time.monotonic()
        assert first.read(4, 0.01) == []  # it is not handed again what it has
    taken = until(lambda: second.read(4, 0.01))
    assert [message.at for message in taken] == [message.at for message in read[2:]]
    second.settle(taken)
    first.close()
    second.close()
    assert client.xpending("in", "g")["pending"] == 0
    assert client.xinfo_consumers("in", "g") == []


def test_a_redis_with_a_password_and_a_key_of_another_kind(triton: Ports, tmp_path: Path) -> None:
    with brokers.redis_server(tmp_path, "--requirepass", "sesame") as url:
        secret = tmp_path / "password"
        secret.write_text("sesame\n")
        arguments = [f"{url}/in", "--to", f"{url}/out", "--url", triton.http_url, "--most-idle", "0"]
        refused = run("consume", *arguments)
        assert (refused.exit_code, "Redis refuses" in refused.stderr) == (2, True), refused.stderr
        arguments += ["--redis-password-file", str(secret)]
        connection: Any = redis.Redis.from_url(url, password="sesame", decode_responses=True)
        connection.xadd("in", {"text": "match"})
        connection.set("kind", "string")
        assert run("consume", *arguments).exit_code == 0
        assert [json.loads(fields["value"])["label"] for _, fields in connection.xrange("out")] == ["Sports"]
        wrong = run("consume", f"{url}/kind", *arguments[1:])
        assert (wrong.exit_code, "WRONGTYPE" in wrong.stderr) == (2, True)
