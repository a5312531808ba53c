"""A closed-loop HTTP/1.1 load generator that takes little of the machine it shares with the server.

Each of N clients keeps one connection and one request under way. Requests are encoded before the clock starts and
responses are only counted and checked for their status: about 30 microseconds of one core a request.
"""

import asyncio
import json
import ssl
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle

import numpy as np

from newsdesk.server.contract import TEXT

_FULL_SECONDS = 15


@dataclass(frozen=True)
class LoadReading:
    """The result of one run: answers per second, and the latency's quantiles in milliseconds.

    A server that answers in bursts may end two of them within a run, more than it can go on with: what it is credited
    with is at most its clients over their mean latency, which is the same where no time passes between an answer and
    the next request (Little 1961).
    """

    clients: int
    answers: int
    failures: int
    per_second: float
    p50_ms: float
    p99_ms: float


def asking(port: int, model: str, texts: Sequence[str]) -> list[bytes]:
    """Return a whole POST request for each text, to a model on this machine, in the Open Inference Protocol."""
    tensors = ({"name": TEXT, "shape": [1, 1], "datatype": "BYTES", "data": [text]} for text in texts)
    bodies = [json.dumps({"inputs": [tensor]}).encode() for tensor in tensors]
    return encode("127.0.0.1", port, f"/v2/models/{model}/infer", bodies)


def encode(
    host: str, port: int, path: str, bodies: Sequence[bytes], headers: Mapping[str, str] | None = None
) -> list[bytes]:
    """Return whole POST requests with JSON bodies."""
    named = {"Host": f"{host}:{port}", **(headers or {}), "Content-Type": "application/json"}
    lines = "".join(f"{name}: {value}\r\n" for name, value in named.items())
    head = f"POST {path} HTTP/1.1\r\n{lines}Content-Length: "
    return [head.encode() + str(len(body)).encode() + b"\r\n\r\n" + body for body in bodies]


def run(
    host: str,
    port: int,
    requests: Sequence[bytes],
    clients: int,
    seconds: float,
    warm_up: float = 2,
    kind: "Callable[[Iterator[bytes]], LoadClient] | None" = None,
    tls: ssl.SSLContext | None = None,
) -> LoadReading:
    """Send requests round and round, and return what was seen.

    Before that, uncounted: `warm_up` seconds, and on until each client was answered once (at most _FULL_SECONDS), or
    a slow server's queue would not yet be as long as it will be.

    Args:
        host: of the server
        port: of the server
        requests: whole, as `encode` makes them
        clients: connections, each with one request under way
        seconds: that are counted
        warm_up: seconds
        kind: another protocol's client
        tls: where the server speaks it

    Raises:
        RuntimeError: nothing was answered within `seconds`.
    """
    return asyncio.run(_run(host, port, requests, clients, seconds, warm_up, kind or LoadClient, tls))


async def _run(
    host: str,
    port: int,
    requests: Sequence[bytes],
    clients: int,
    seconds: float,
    warm_up: float,
    kind: "Callable[[Iterator[bytes]], LoadClient]",
    tls: ssl.SSLContext | None,
) -> LoadReading:
    source = cycle(requests)
    loop = asyncio.get_running_loop()
    made = [await loop.create_connection(lambda: kind(source), host, port, ssl=tls) for _ in range(clients)]
    connections = [client for _, client in made]
    for client in connections:
        client.send()
    await asyncio.sleep(warm_up)
    await asyncio.wait([client.answered for client in connections], timeout=_FULL_SECONDS)
    for client in connections:
        client.reset()
    start = time.perf_counter()
    await asyncio.sleep(seconds)
    elapsed = time.perf_counter() - start
    for client in connections:
        client.stopped = True
    latencies = np.concatenate([client.latencies for client in connections])
    failures = sum(client.failures for client in connections)
    # What is under way is let finish, so that the next run meets an idle server.
    await asyncio.wait([client.done for client in connections], timeout=30)
    for transport, _ in made:
        transport.close()
    if not len(latencies):
        raise RuntimeError(f"no answer from {host}:{port} within {seconds} s at {clients} clients")
    return read(clients, latencies, failures, elapsed)


def read(clients: int, latencies: np.ndarray, failures: int, elapsed: float) -> LoadReading:
    """Return what was seen of closed-loop clients.

    Args:
        clients: how many
        latencies: seconds, FP64 [answers], one at least
        failures: answers that were no success
        elapsed: seconds
    """
    per_second = min(len(latencies) / elapsed, clients / float(latencies.mean()))
    p50, p99 = 1e3 * np.quantile(latencies, [0.5, 0.99])
    return LoadReading(clients, len(latencies), failures, per_second, float(p50), float(p99))


class LoadClient(asyncio.Protocol):
    """One connection: the next request goes out when the last one's response is whole."""

    def __init__(self, source: Iterator[bytes]) -> None:
        self.source, self.buffer, self.stopped, self.sent = source, b"", False, 0.0
        self.done, self.answered = (asyncio.get_running_loop().create_future() for _ in range(2))
        self.reset()

    def reset(self) -> None:
        """Count from here on."""
        self.latencies: list[float] = []
        self.failures = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the connection."""
        self.transport: asyncio.Transport = transport  # type: ignore[assignment]

    def send(self) -> None:
        """Send the next request."""
        self.sent = time.perf_counter()
        self.write(next(self.source))

    def write(self, request: bytes) -> None:
        """Write a request to the connection."""
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        """Take bytes of a response, and count it once it is whole."""
        self.buffer += data
        head, parted, body = self.buffer.partition(b"\r\n\r\n")
        if not parted or not whole(head, body):
            return
        self.buffer = b""
        self.answer(head.startswith(b"HTTP/1.1 200"))

    def answer(self, good: bool) -> None:
        """Count an answer that is whole, and send the next request."""
        if not self.answered.done():
            self.answered.set_result(None)
        self.latencies.append(time.perf_counter() - self.sent)
        self.failures += not good
        if not self.stopped:
            self.send()
        elif not self.done.done():
            self.done.set_result(None)

    def connection_lost(self, error: Exception | None) -> None:
        """Count a connection that was closed too early as a failure."""
        if not self.stopped:
            self.failures += 1
        if not self.done.done():
            self.done.set_result(None)


def whole(head: bytes, body: bytes) -> bool:
    """Return whether a response is complete.

    Args:
        head: its header lines, with Content-Length or chunks
        body: the bytes so far

    Raises:
        RuntimeError: the head says no length.
    """
    for line in head.lower().split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name == b"content-length":
            return len(body) >= int(value)
        if name == b"transfer-encoding":
            return body.endswith(b"0\r\n\r\n")
    raise RuntimeError(f"a response without a length: {head!r}")
