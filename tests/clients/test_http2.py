"""The lean channel, against gRPC's own server."""

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import grpc
import pytest

from newsdesk.clients import http2
from newsdesk.clients.http2 import CallFailed, Channel

LARGE = 3 * 2**20


@dataclass
class GrpcEcho(grpc.GenericRpcHandler):
    """A server of gRPC's whose methods are of the tests."""

    netloc: str = ""
    held: threading.Event = field(default_factory=threading.Event)
    cancelled: threading.Event = field(default_factory=threading.Event)
    metadata: dict[str, Any] = field(default_factory=dict)

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        method = getattr(self, details.method.rpartition("/")[2], None)
        return method and grpc.unary_unary_rpc_method_handler(method)

    def echo(self, message: bytes, context: grpc.ServicerContext) -> bytes:
        self.metadata = dict(context.invocation_metadata())
        return message

    def refuse(self, message: bytes, context: grpc.ServicerContext) -> bytes:
        context.set_trailing_metadata((("x-more", "y" * 200), ("x-bin", b"\xff\x00")))
        context.abort(grpc.StatusCode.INVALID_ARGUMENT, message.decode())

    def hold(self, message: bytes, context: grpc.ServicerContext) -> bytes:
        context.add_callback(self.cancelled.set)
        self.held.set()
        self.cancelled.wait(30)
        return message


@pytest.fixture
def peer() -> Iterator[GrpcEcho]:
    handler = GrpcEcho()
    most = (("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1))
    server = grpc.server(ThreadPoolExecutor(4), (handler,), options=most)
    handler.netloc = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    handler.stop = partial(server.stop, 0)  # type: ignore[attr-defined]
    yield handler
    server.stop(0).wait()


def run(peer: GrpcEcho, calls: Callable[[Channel], Coroutine[Any, Any, None]]) -> None:
    async def main() -> None:
        channel = Channel(peer.netloc)
        try:
            await asyncio.wait_for(calls(channel), 60)
        finally:
            channel.close()

    asyncio.run(main())


def test_messages_of_any_size_many_at_once(peer: GrpcEcho) -> None:
    """Larger than a frame, and than both windows, each way."""

    async def calls(channel: Channel) -> None:
        sizes = [0, 1, 16_378, 16_379, 16_380, 65_530, 65_531, 70_000, LARGE, LARGE + 1, *range(50)]
        messages = [bytes([size % 251]) * size for size in sizes]
        answers = await asyncio.gather(*(channel.call("/s/echo", message, 50) for message in messages))
        assert answers == messages

    run(peer, calls)


def test_more_than_a_window_of_answers_is_renewed(peer: GrpcEcho, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http2, "_RENEWED", 100_000)

    async def calls(channel: Channel) -> None:
        for _ in range(3):
            assert len(await channel.call("/s/echo", b"x" * LARGE, 50)) == LARGE

    run(peer, calls)


def test_metadata_goes_with_a_call(peer: GrpcEcho) -> None:
    async def calls(channel: Channel) -> None:
        await channel.call("/s/echo", b"", 50, [("traceparent", "00-1"), ("long", "z" * 300)])
        assert peer.metadata["traceparent"] == "00-1"
        assert peer.metadata["long"] == "z" * 300

    run(peer, calls)


@pytest.mark.parametrize("words", ["plain", "a % sign, a new\nline, ünd €", "w" * 3000])
def test_errors_have_the_servers_code_and_words(peer: GrpcEcho, words: str) -> None:
    async def calls(channel: Channel) -> None:
        for _ in range(2):
            with pytest.raises(CallFailed) as failed:
                await channel.call("/s/refuse", words.encode(), 50)
            assert (failed.value.code, failed.value.details) == ("INVALID_ARGUMENT", words)
        with pytest.raises(CallFailed) as failed:
            await channel.call("/s/absent", b"", 50)
        assert failed.value.code == "UNIMPLEMENTED"

    run(peer, calls)


def test_a_deadline_ends_the_call_here_and_there(peer: GrpcEcho) -> None:
    async def calls(channel: Channel) -> None:
        with pytest.raises(CallFailed) as failed:
            await channel.call("/s/hold", b"", 0.2)
        assert failed.value.code == "DEADLINE_EXCEEDED"
        assert await asyncio.to_thread(peer.cancelled.wait, 30)

    run(peer, calls)


def test_a_caller_who_goes_cancels_the_call_there_and_no_other(peer: GrpcEcho) -> None:
    async def calls(channel: Channel) -> None:
        call = asyncio.create_task(channel.call("/s/hold", b"", 50))
        await asyncio.to_thread(peer.held.wait, 30)
        call.cancel()
        assert await asyncio.to_thread(peer.cancelled.wait, 30)
        assert await channel.call("/s/echo", b"still there", 50) == b"still there"
        assert isinstance((await asyncio.gather(call, return_exceptions=True))[0], asyncio.CancelledError)

    run(peer, calls)


def test_a_server_that_ends_fails_what_is_under_way(peer: GrpcEcho) -> None:
    async def calls(channel: Channel) -> None:
        call = asyncio.create_task(channel.call("/s/hold", b"", 50))
        await asyncio.to_thread(peer.held.wait, 30)
        peer.stop()  # type: ignore[attr-defined]
        with pytest.raises(CallFailed):
            await call
        failed = None
        while failed is None or "failed to connect to all addresses" not in failed.details:
            (failed,) = await asyncio.gather(channel.call("/s/echo", b"", 50), return_exceptions=True)
            assert isinstance(failed, CallFailed)
        assert failed.code == "UNAVAILABLE"

    run(peer, calls)


def test_a_connection_that_breaks_says_so_and_the_next_call_opens_another(peer: GrpcEcho) -> None:
    async def calls(channel: Channel) -> None:
        call = asyncio.create_task(channel.call("/s/hold", b"", 50))
        await asyncio.to_thread(peer.held.wait, 30)
        channel.close()
        with pytest.raises(CallFailed, match="Socket closed"):
            await call
        assert await channel.call("/s/echo", b"again", 50) == b"again"

    run(peer, calls)


def test_a_connection_whose_numbers_are_used_up_makes_room_for_another(
    peer: GrpcEcho, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http2, "_LAST_STREAM", 5)

    async def calls(channel: Channel) -> None:
        for number in range(20):
            assert await channel.call("/s/echo", b"%d" % number, 50) == b"%d" % number

    run(peer, calls)


def test_headers_in_huffmans_code_or_of_a_table_are_passed_over() -> None:
    huffman = b"\x00\x88" + b"h" * 8 + b"\x83abc"
    indexed, status, resized = b"\x88", b"\x00\x0bgrpc-status\x010", b"\x20"
    assert http2._fields(resized + indexed + huffman + b"\x5f\x01x" + status)["grpc-status"] == "0"
