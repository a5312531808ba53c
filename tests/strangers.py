"""Another user of the machine: what a function sees and gets there when nobody in particular runs it."""

import json
import os
import pwd
import socket
import struct
import time
from collections.abc import Callable
from typing import Any

import pytest

needs_root = pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
_STATUS = b"grpc-status"


def as_nobody(act: Callable[[], Any]) -> Any:
    """Return what a function returns, JSON, in a forked process of the user nobody."""
    reading, writing = os.pipe()
    if child := os.fork():
        os.close(writing)
        with os.fdopen(reading, "rb") as pipe:
            raw = pipe.read()
        os.waitpid(child, 0)
        return json.loads(raw)
    try:
        nobody = pwd.getpwnam("nobody")
        os.setgroups([])
        os.setgid(nobody.pw_gid)
        os.setuid(nobody.pw_uid)
        try:
            answer = act()
        except Exception as error:
            answer = f"failed: {error!r}"
        os.write(writing, json.dumps(answer).encode())
    finally:
        os._exit(0)


def readable(*paths: str) -> list[str]:
    """Return those of the files and folders that this user can read."""
    opened = []
    for path in paths:
        try:
            os.listdir(path) if os.path.isdir(path) else open(path, "rb").close()
        except OSError:
            continue
        opened.append(path)
    return opened


def send_http(port: int, method: str, path: str, body: bytes = b"", header: bytes = b"") -> int:
    """Return the status of an answer to a request with a header as it stands, 0 where there is none."""
    head = f"{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n".encode()
    with socket.create_connection(("127.0.0.1", port), 5) as connection:
        connection.settimeout(2)
        try:
            connection.sendall(head + (header + b"\r\n" if header else b"") + b"\r\n" + body)
            return int(connection.recv(4096).split(b" ", 2)[1])
        except (OSError, ValueError, IndexError):
            return 0


def send_grpc(port: int, method: str, header: tuple[bytes, bytes] | None = None) -> str:
    """Call a method of Triton's with an empty message, frame by frame, so that no client refuses a header.

    Returns "ok", or in words what came instead.
    """
    headers = [
        (b":method", b"POST"), (b":scheme", b"http"), (b":authority", b"x"), (b"te", b"trailers"),
        (b":path", f"/inference.GRPCInferenceService/{method}".encode()), (b"content-type", b"application/grpc"),
    ]  # fmt: skip
    block = b"".join(_literal(*pair) for pair in [*headers, *([header] if header else [])])
    frames = _frame(4, 0, 0, b"") + _frame(1, 4, 1, block) + _frame(0, 1, 1, bytes(5))
    came = b""
    with socket.create_connection(("127.0.0.1", port), 5) as connection:
        connection.settimeout(0.2)
        connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frames)
        until = time.monotonic() + 5
        while _STATUS not in came and time.monotonic() < until:
            try:
                came += connection.recv(65536)
            except TimeoutError:
                continue
            except OSError:
                break
    code = came.partition(_STATUS)[2][:3]
    return "ok" if code[:2] == b"\x010" else f"refused {code!r}" if code else "no answer"


def _literal(name: bytes, value: bytes) -> bytes:
    return b"\0" + bytes([len(name)]) + name + bytes([len(value)]) + value


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return struct.pack("!I", len(payload))[1:] + bytes([kind, flags]) + struct.pack("!I", stream) + payload
