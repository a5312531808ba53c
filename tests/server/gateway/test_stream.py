"""WebSocket and server-sent events."""

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosedError, InvalidStatus

from newsdesk.server.gateway.keys import KeyFile, Role
from tests.holding import Hold, until
from tests.server.gateway import gateways
from tests.server.gateway.conftest import Served
from tests.server.gateway.gateways import token


def address(served: Served) -> str:
    return served.url.replace("http://", "ws://") + "/v1/stream"


def opened(served: Served, **headers: str) -> connect:
    authorization = {"Authorization": f"Bearer {served.keys['reader']}"} | headers
    return connect(address(served), additional_headers=authorization, max_queue=4, proxy=None)


def exchange(served: Served, messages: list[str]) -> list[dict[str, Any]]:
    async def run() -> list[dict[str, Any]]:
        async with opened(served) as socket:
            sending = asyncio.create_task(send(socket, messages))
            answers = [json.loads(await socket.recv()) for _ in messages]
            await sending
            return answers

    return asyncio.run(run())


async def send(socket: ClientConnection, messages: list[str]) -> None:
    for message in messages:
        await socket.send(message)


def test_answers_come_in_order_with_their_ids(served: Served) -> None:
    messages = [json.dumps({"text": f"shares {i}" if i % 2 else f"match {i}", "id": f"n{i}"}) for i in range(300)]
    answers = exchange(served, messages)
    assert [answer["id"] for answer in answers] == [f"n{i}" for i in range(300)]
    assert [answer["index"] for answer in answers] == list(range(300))
    assert [answer["label"] for answer in answers] == ["Business" if i % 2 else "Sports" for i in range(300)]


def test_all_that_rest_takes(served: Served, reader: httpx.Client) -> None:
    asked = {"text": "the shares 5000", "quality": "best", "members": True, "explain": True, "uncertainty": True}
    (answer,) = exchange(served, [json.dumps(asked)])
    (item,) = reader.post("/v1/classify", json=asked).json()["items"]
    assert answer == {**item, "id": None}
    assert len(answer["words"]) == 3
    assert answer["uncertainty"] == {"total": 0.75, "data": 0.5, "model": 0.25}


def test_one_answer_does_not_wait_for_another_text(served: Served) -> None:
    async def run() -> None:
        async with opened(served) as socket:
            for i in range(3):
                await socket.send(json.dumps({"text": {"title": "treaty"}, "top_k": 1, "id": i}))
                answer = json.loads(await asyncio.wait_for(socket.recv(), 30))
                assert (answer["id"], list(answer["probabilities"])) == (i, ["World"])

    asyncio.run(run())


def test_bad_messages_are_answered_in_their_place(served: Served) -> None:
    messages = ['{"text": "shares"}', "{", '{"text": ["a"]}', '{"text": ""}', '{"id": 1}', '{"text": "stand-in, fail"}']
    deep = '{"text": ' + "[" * 200_000
    answers = exchange(served, [*messages, '{"text": "match", "id": 7}', deep, '{"text": [' + "1," * 200_000])
    assert ["error" in answer for answer in answers] == [False, True, True, True, True, True, False, True, True]
    assert "not JSON" in answers[1]["error"]
    assert "nested more than 32 deep" in answers[7]["error"]
    assert "more than 20000 values" in answers[8]["error"]
    assert (answers[6]["label"], answers[6]["id"]) == ("Sports", 7)


def test_a_caller_who_does_not_read_is_not_read_from(served: Served, reader: httpx.Client) -> None:
    """Back-pressure: sending stops when the sockets' buffers are full, and nobody else notices."""
    message = json.dumps({"text": "shares", "id": "x" * 50_000})

    async def run() -> None:
        sent = 0
        async with opened(served) as socket:
            while sent < 5000:
                try:
                    await asyncio.wait_for(socket.send(message), 1)
                    sent += 1
                except TimeoutError:
                    if await asyncio.to_thread(gateways.queued, reader, 0):
                        break
            assert 64 < sent < 5000
            answer = await asyncio.to_thread(reader.post, "/v1/classify", json={"text": "match"})
            assert answer.status_code == 200
            await asyncio.to_thread(until, lambda: gateways.queued(reader, 0))
            for i in range(sent):
                assert json.loads(await socket.recv())["index"] == i

    asyncio.run(run())


def test_a_message_that_is_too_large_ends_the_stream(served: Served) -> None:
    async def run() -> ConnectionClosedError:
        async with opened(served) as socket:
            await socket.send(json.dumps({"text": "x" * 2**20}))
            with pytest.raises(ConnectionClosedError) as closed:
                await asyncio.wait_for(socket.recv(), 30)
            return closed.value

    received = asyncio.run(run()).rcvd
    assert received is not None
    assert received.code == 1009


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"Authorization": "Bearer nd_x"}, 401),
        ({"Authorization": f"Bearer {token(exp=1)}"}, 401),
        ({"Authorization": "good", "Origin": "https://evil.example"}, 403),
        ({"Authorization": "good", "Origin": "null"}, 403),
    ],
)
def test_callers_who_may_not(served: Served, headers: dict[str, str], status: int) -> None:
    if headers.get("Authorization") == "good":
        headers = headers | {"Authorization": f"Bearer {served.keys['reader']}"}

    async def run() -> InvalidStatus:
        with pytest.raises(InvalidStatus) as refused:
            async with connect(address(served), additional_headers=headers, proxy=None):
                pass
        return refused.value

    response = asyncio.run(run()).response
    assert response.status_code == status
    assert json.loads(response.body)["status"] == status


def test_a_page_of_the_gateway_itself_may(served: Served) -> None:
    async def run() -> None:
        async with opened(served, Origin=served.url) as socket:
            await socket.send('{"text": "shares"}')
            assert json.loads(await socket.recv())["label"] == "Business"

    asyncio.run(run())


def test_live_metrics(reader: httpx.Client) -> None:
    with reader.stream("GET", "/v1/metrics/live") as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert reader.post("/v1/classify", json={"text": ["shares", ""]}).status_code == 200
        events = (json.loads(line.removeprefix("data: ")) for line in answer.iter_lines() if line)
        event = next(event for event in events if event["texts_per_second"] > 0)  # the second in which it was answered
    assert event["ready"]
    assert event["refused_per_second"] > 0
    assert event["p50_ms"] <= event["p99_ms"]


def test_a_message_counts_as_a_request(served: Served, tmp_path: Path) -> None:
    """A connection passes no rate limit: 30 texts under 10 a minute, bad ones among them."""
    with gateways.gateway(tmp_path, served.server.ports, rate_limit="10/minute") as client:

        async def run() -> list[dict[str, Any]]:
            async with connect(str(client.base_url.join("/v1/stream")).replace("http", "ws"), proxy=None) as socket:
                for i in range(30):
                    await socket.send(json.dumps({"text": "shares", "id": i}) if i % 5 else "{")
                return [json.loads(await socket.recv()) for _ in range(30)]

        answers = asyncio.run(run())
        assert client.get("/v1/labels").status_code == 429
    answered = [answer for answer in answers if "label" in answer]
    assert len(answered) == 7  # of nine after the handshake two are no JSON
    limited = [answer for answer in answers if "retry_after" in answer]
    assert len(limited) == 21
    assert all(
        "limit of 10 per 1 minute is reached" in answer["error"] and answer["retry_after"] > 50 for answer in limited
    )
    assert [answer["index"] for answer in answers] == list(range(30))


def test_a_binary_message_is_answered_in_its_place(served: Served) -> None:
    async def run() -> list[dict[str, Any]]:
        async with opened(served) as socket:
            await socket.send(b'{"text": "shares"}')
            await socket.send('{"text": "shares", "id": 1}')
            return [json.loads(await socket.recv()) for _ in range(2)]

    binary, text = asyncio.run(run())
    assert binary == {"error": "The message is binary, expected text: an object in JSON.", "index": 0, "id": None}
    assert (text["label"], text["index"], text["id"]) == ("Business", 1, 1)


def test_a_revoked_key_ends_what_it_opened(served: Served, reader: httpx.Client) -> None:
    """Within seconds, and said why: a WebSocket and server-sent events."""
    state, key = served.server.state, gateways.key(served.server.state, Role.reader)
    headers = {"Authorization": f"Bearer {key}"}

    async def run() -> ConnectionClosedError:
        async with opened(served, **headers) as socket:
            await socket.send('{"text": "shares"}')
            assert json.loads(await socket.recv())["label"] == "Business"
            KeyFile(state / "keys.json").revoke(key.split("_")[1])
            with pytest.raises(ConnectionClosedError) as closed:
                await asyncio.wait_for(socket.recv(), 30)
            return closed.value

    with httpx.stream("GET", f"{served.url}/v1/metrics/live", headers=headers, timeout=10) as live:
        lines = live.iter_lines()
        assert next(lines).startswith("data: ")
        received = asyncio.run(run()).rcvd
        last = [line for line in lines if line][-2:]  # it ends
    assert received is not None
    assert (received.code, received.reason) == (1008, "The key is not valid: unknown, expired or revoked.")
    assert last[0] == "event: problem"
    assert json.loads(last[1].removeprefix("data: "))["status"] == 401


def test_what_a_caller_who_left_waits_for_is_dropped(served: Served, reader: httpx.Client, hold: Hold) -> None:
    """The test holds sixty texts, and those on their way are computed."""

    def computed() -> int:
        return sum(
            model["inference_count"] for model in served.server.ask("/v2/models/ag_news/stats")[1]["model_stats"]
        )

    async def run() -> None:
        async with opened(served) as socket:
            for _ in range(60):
                await socket.send(json.dumps({"text": f"{hold.text} {'x' * 20_000}"}))
            await asyncio.to_thread(hold.until_computing)

    before = computed()
    asyncio.run(run())
    until(lambda: gateways.queued(reader, 0))
    hold.release()
    assert reader.post("/v1/classify", json={"text": "shares"}).status_code == 200
    assert computed() - before < 20


def test_a_refused_handshake_is_one_line_of_the_log(tmp_path: Path) -> None:
    with gateways.gateway(tmp_path, [1, 1, 1], auth=True) as client:

        async def run() -> None:
            with pytest.raises(InvalidStatus):
                async with connect(str(client.base_url.join("/v1/stream")).replace("http", "ws"), proxy=None):
                    pass

        asyncio.run(run())
    (line,) = gateways.logged(tmp_path / "gateway.log")
    assert (line["event"], line["status"], line["address"]) == ("request", 401, "127.0.0.1")
    assert line["cause"].startswith("A key or token is needed")
    assert "traceback" not in line
