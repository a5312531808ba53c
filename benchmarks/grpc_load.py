"""The generator of `load` for gRPC: the same clients and clock, each with an HTTP/2 connection and one call under way.

As with HTTP/1.1, requests are encoded before the clock starts, and responses are counted and checked for their status
alone: a call that succeeds has a message, one that fails has trailers only (gRPC over HTTP/2, "Responses").
"""

import asyncio
import struct
from collections.abc import Iterator, Sequence

from tritonclient.grpc import service_pb2

from newsdesk.server.contract import QUALITY, TEXT
from newsdesk.server.serving import load

_DATA, _HEADERS, _RESET, _SETTINGS, _PING, _GOAWAY, _WINDOW = 0, 1, 3, 4, 6, 7, 8
_END_STREAM, _ACK, _END_HEADERS = 0x1, 0x1, 0x4
_MOST = 2**31 - 1
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_PATH = b"/inference.GRPCInferenceService/ModelInfer"


def encode(
    texts: Sequence[str], quality: str, outputs: Sequence[str], model: str = "ag_news", together: int = 1
) -> list[bytes]:
    """Return ModelInfer requests of `together` texts each, in gRPC's frames; what fills none at the end is left out."""
    framed = []
    for at in range(0, len(texts) - together + 1, together):
        options = {
            TEXT: [text.encode() for text in texts[at : at + together]],
            QUALITY: [quality.encode()] * together,
        }
        raw = [b"".join(struct.pack("<I", len(value)) + value for value in values) for values in options.values()]
        request = service_pb2.ModelInferRequest(model_name=model, raw_input_contents=raw)
        for name in options:
            request.inputs.add(name=name, datatype="BYTES", shape=[together, 1])
        for name in outputs:
            request.outputs.add(name=name)
        message = request.SerializeToString()
        framed.append(b"\0" + struct.pack(">I", len(message)) + message)
    return framed


class Client(load.LoadClient):
    """One connection: the next call goes out when the last one's trailers are there."""

    def __init__(self, source: Iterator[bytes], authorization: str = "") -> None:
        super().__init__(source)
        self._authorization = authorization.encode()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._stream, self._answered = -1, False
        host, port = transport.get_extra_info("peername")[:2]
        self._headers = b"".join(
            b"\0" + _short(name) + _short(value)  # literals without indexing (RFC 7541, 6.2.2): no state to keep
            for name, value in (
                (b":method", b"POST"),
                (b":scheme", b"http"),
                (b":path", _PATH),
                (b":authority", f"{host}:{port}".encode()),
                (b"te", b"trailers"),
                (b"content-type", b"application/grpc"),
                (b"authorization", self._authorization),
            )
            if value
        )
        settings = struct.pack(">HIHI", 1, 0, 4, _MOST)  # no table of headers; streams of any length
        # The connection's window begins with 65,535 bytes.
        self.transport.write(
            _PREFACE + _frame(_SETTINGS, 0, 0, settings) + _frame(_WINDOW, 0, 0, struct.pack(">I", _MOST - 65_535))
        )

    def write(self, request: bytes) -> None:
        self._stream += 2
        self._answered = False
        self.transport.write(
            _frame(_HEADERS, _END_HEADERS, self._stream, self._headers)
            + _frame(_DATA, _END_STREAM, self._stream, request)
        )

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while len(self.buffer) >= 9:
            length = int.from_bytes(self.buffer[:3], "big")
            if len(self.buffer) < 9 + length:
                return
            kind, flags = self.buffer[3], self.buffer[4]
            stream = int.from_bytes(self.buffer[5:9], "big") & _MOST
            content, self.buffer = self.buffer[9 : 9 + length], self.buffer[9 + length :]
            self._frame(kind, flags, stream, content)

    def _frame(self, kind: int, flags: int, stream: int, content: bytes) -> None:
        if kind == _SETTINGS and not flags & _ACK:
            self.transport.write(_frame(_SETTINGS, _ACK, 0, b""))
        elif kind == _PING and not flags & _ACK:
            self.transport.write(_frame(_PING, _ACK, 0, content))
        elif kind == _GOAWAY:
            self.transport.close()
        elif stream == self._stream and kind == _DATA:
            self._answered = self._answered or bool(content)
        elif stream == self._stream and kind == _RESET:
            self.answer(False)
        if stream == self._stream and kind in (_DATA, _HEADERS) and flags & _END_STREAM:
            self.answer(self._answered)


def _short(text: bytes) -> bytes:
    """Return a string of HPACK without Huffman's code: at most 126 bytes."""
    return bytes([len(text)]) + text


def _frame(kind: int, flags: int, stream: int, content: bytes) -> bytes:
    return len(content).to_bytes(3, "big") + bytes([kind, flags]) + struct.pack(">I", stream) + content
