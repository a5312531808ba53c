"""WebSocket and server-sent events."""

import asyncio
import contextlib
import json
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosedError, InvalidStatus

from tests.server.gateway.conftest import Served
from tests.server.gateway.gateways import token


def address(served: Served) -> str:
    return served.url.replace("http://", "ws://") + "/v1/stream"


def opened(served: Served, **headers: str) -> connect:
    given = {"Authorization": f"Bearer {served.keys['reader']}"} | headers
    return connect(address(served), additional_headers=given, max_queue=4, proxy=None)


def exchange(served: Served, messages: list[str]) -> list[dict[str, Any]]:
    async def run() -> list[dict[str, Any]]:
        async with opened(served) as socket:
            sending = asyncio.create_task(send(socket, messages))
            found = [json.loads(await socket.recv()) for _ in messages]
            await sending
            return found

    return asyncio.run(run())


async def send(socket: ClientConnection, messages: list[str]) -> None:
    for message in messages:
        await socket.send(message)


def test_answers_come_in_order_with_their_ids(served: Served) -> None:
    messages = [json.dumps({"text": f"shares {i}" if i % 2 else f"match {i}", "id": f"n{i}"}) for i in range(300)]
    found = exchange(served, messages)
    assert [one["id"] for one in found] == [f"n{i}" for i in range(300)]
    assert [one["index"] for one in found] == list(range(300))
    assert [one["label"] for one in found] == ["Business" if i % 2 else "Sports" for i in range(300)]


def test_all_that_rest_takes(served: Served, reader: httpx.Client) -> None:
    asked = {"text": "the shares 5000", "quality": "best", "members": True, "explain": True, "uncertainty": True}
    (found,) = exchange(served, [json.dumps(asked)])
    (item,) = reader.post("/v1/classify", json=asked).json()["items"]
    assert found == {**item, "id": None}
    assert len(found["words"]) == 3
    assert found["uncertainty"] == {"total": 0.75, "data": 0.5, "model": 0.25}


def test_one_answer_does_not_wait_for_another_text(served: Served) -> None:
    async def run() -> None:
        async with opened(served) as socket:
            for i in range(3):
                await socket.send(json.dumps({"text": {"title": "treaty"}, "top_k": 1, "id": i}))
                answer = json.loads(await asyncio.wait_for(socket.recv(), 5))
                assert (answer["id"], list(answer["probabilities"])) == (i, ["World"])

    asyncio.run(run())


def test_bad_messages_are_answered_in_their_place(served: Served) -> None:
    messages = ['{"text": "shares"}', "{", '{"text": ["a"]}', '{"text": ""}', '{"id": 1}', '{"text": "stand-in, fail"}']
    found = exchange(served, [*messages, '{"text": "match", "id": 7}'])
    assert ["error" in one for one in found] == [False, True, True, True, True, True, False]
    assert "not JSON" in found[1]["error"]
    assert (found[6]["label"], found[6]["id"]) == ("Sports", 7)


def test_a_caller_who_does_not_read_is_not_read_from(served: Served, reader: httpx.Client) -> None:
    """Back-pressure: sending stops when the sockets' buffers are full, and nobody else notices."""
    message = json.dumps({"text": "shares", "id": "x" * 50_000})

    async def run() -> None:
        sent = 0
        async with opened(served) as socket:
            with contextlib.suppress(TimeoutError):
                while sent < 5000:
                    await asyncio.wait_for(socket.send(message), 1)
                    sent += 1
            assert 64 < sent < 5000
            answer = await asyncio.to_thread(reader.post, "/v1/classify", json={"text": "match"})
            assert answer.status_code == 200
            assert "newsdesk_gateway_queued_texts 0.0" in (await asyncio.to_thread(reader.get, "/metrics")).text
            for i in range(sent):
                assert json.loads(await socket.recv())["index"] == i

    asyncio.run(run())


def test_a_message_that_is_too_large_ends_the_stream(served: Served) -> None:
    async def run() -> ConnectionClosedError:
        async with opened(served) as socket:
            await socket.send(json.dumps({"text": "x" * 2**20}))
            with pytest.raises(ConnectionClosedError) as closed:
                await asyncio.wait_for(socket.recv(), 5)
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
        event = next(line for line in answer.iter_lines() if line)
    said = json.loads(event.removeprefix("data: "))
    assert said["ready"]
    assert said["texts_per_second"] > 0
    assert said["refused_per_second"] > 0
    assert said["p50_ms"] <= said["p99_ms"]
