"""More requests than it can take: what is still answered, how fast the rest is refused, how soon it is over.

    python -m benchmarks.overload [--texts test.csv.gz] [--seconds 20] [--times 2]

First the peak in a closed loop of 128 clients; then an open loop that sends `times` as many requests a second over as
many connections as it takes, whether answered or not; then one request after another until it is as fast as at first,
and the peak again: a shared machine's speed may have changed, so goodput is a share of the mean of both. The
generator's part of the cores is that until the last answer.
"""

import argparse
import asyncio
import time
from itertools import cycle
from pathlib import Path

import numpy as np

from benchmarks import MODEL, servers, texts
from newsdesk.server.runtime import processor
from newsdesk.server.serving import load
from newsdesk.server.serving.settings import granted_cores

_SETTLE = 1 / 3
"""Share of the open loop before what is answered counts: the queue fills meanwhile."""
_MOST_CONNECTIONS = 12_000


class OneRequestProtocol(asyncio.Protocol):
    """A connection that is used for one request at a time: (status, when sent, when answered) go to `done`."""

    def __init__(self, idle: "list[OneRequestProtocol]", done: list[tuple[int, float, float]]) -> None:
        self._idle, self._done, self._buffer, self._sent = idle, done, b"", 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def send(self, request: bytes) -> None:
        self._sent = time.perf_counter()
        self.transport.write(request)  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, parted, body = self._buffer.partition(b"\r\n\r\n")
        if parted and load.whole(head, body):
            self._buffer = b""
            self._done.append((int(head.split(b" ", 2)[1]), self._sent, time.perf_counter()))
            self._idle.append(self)


async def open_loop(port: int, requests: list[bytes], rate: float, seconds: float) -> list[tuple[int, float, float]]:
    """Send `rate` requests a second for `seconds`; return each answered one's status, and when it came and went."""
    loop, source = asyncio.get_running_loop(), cycle(requests)
    idle: list[OneRequestProtocol] = []
    done: list[tuple[int, float, float]] = []
    opened: list[OneRequestProtocol] = []
    began, sent = time.perf_counter(), 0
    while (passed := time.perf_counter() - began) < seconds:
        for _ in range(int(passed * rate) - sent):
            if not idle:
                if len(opened) == _MOST_CONNECTIONS:
                    raise RuntimeError(
                        f"{_MOST_CONNECTIONS} requests under way: the server neither answers nor refuses"
                    )
                _, made = await loop.create_connection(lambda: OneRequestProtocol(idle, done), "127.0.0.1", port)
                opened.append(made)
                idle.append(made)
            idle.pop().send(next(source))
            sent += 1
        await asyncio.sleep(0.005)
    while len(done) < sent and time.perf_counter() - began < 2 * seconds + 30:
        await asyncio.sleep(0.05)
    for connection in opened:
        connection.transport.close()
    if len(done) < sent:
        raise RuntimeError(f"{sent - len(done)} of {sent} requests got no answer")
    return done


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=Path, help="CSV with title and description; made-up articles without it")
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--times", type=float, default=2)
    options = parser.parse_args()
    articles = texts.choose(options.texts)
    with servers.newsdesk() as server:
        port = server.http_port
        requests = load.asking(port, MODEL, articles)
        idle = load.run("127.0.0.1", port, requests, 1, 3)
        peak = load.run("127.0.0.1", port, requests, 128, options.seconds / 2)
        began, spent = time.perf_counter(), time.process_time()
        done = asyncio.run(open_loop(port, requests, options.times * peak.per_second, options.seconds))
        share = (time.process_time() - spent) / (time.perf_counter() - began) / granted_cores()
        counted = began + _SETTLE * options.seconds, began + options.seconds
        good = sum(1 for status, _, at in done if status == 200 and counted[0] <= at < counted[1])
        goodput = good / (counted[1] - counted[0])
        recovered = _recovery(port, requests, idle.p50_ms)
        after = load.run("127.0.0.1", port, requests, 128, options.seconds / 2)
    waits = [1e3 * (at - sent) for status, sent, at in done if status == 200]
    refusals = [1e3 * (at - sent) for status, sent, at in done if status == 503]
    others = sum(1 for status, _, _ in done if status not in (200, 503))
    print(
        f"{processor.describe()}, {len(articles)} articles, {options.times:g} times the capacity "
        f"for {options.seconds:g} s\n"
    )
    mean = (peak.per_second + after.per_second) / 2
    print(f"peak, 128 clients     {peak.per_second:.0f} articles/s before, {after.per_second:.0f} after")
    print(f"goodput in overload   {goodput:.0f} articles/s, {100 * goodput / mean:.0f} % of their mean; ", end="")
    print(f"the generator took {100 * share:.0f} % of the cores")
    print(f"answered after        p50 {np.median(waits):.0f} ms, at most {max(waits):.0f} ms")
    if refusals:
        print(f"refused as UNAVAILABLE {len(refusals)}, p50 {np.median(refusals):.1f} ms, ", end="")
        print(f"p99 {np.quantile(refusals, 0.99):.1f} ms; failed otherwise {others}")
    print(f"fast again            {recovered:.1f} s after the last answer of the overload")


def _recovery(port: int, requests: list[bytes], p50_ms: float) -> float:
    """Return the seconds until a second of one client's requests has less than twice the idle p50."""
    began = time.perf_counter()
    while time.perf_counter() - began < 60:
        at = time.perf_counter()
        if load.run("127.0.0.1", port, requests, 1, 0.5, warm_up=0).p50_ms < 2 * p50_ms:
            return at - began
    raise RuntimeError("still slow a minute after the overload")


if __name__ == "__main__":
    main()
