"""A file of many rows to the gateway: made while it is sent, checked while it is answered, memory sampled meanwhile."""

import asyncio
import csv
import io
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import psutil

from benchmarks import servers
from newsdesk.server.contract import MAX_BATCH

BATCH = MAX_BATCH
"""Rows that the gateway asks the model for at once."""
_ROWS_A_CHUNK = 1000
_SAMPLE_SECONDS = 0.5
_MARKS = 10
_LONGEST_LINE = 2**20


@dataclass
class Sent:
    """The result of a file: `memory` has (rows answered, MB), those from while it was sent with 0 rows."""

    rows: int
    megabytes: float = 0.0
    upload_seconds: float = 0.0
    answer_seconds: float = 0.0
    answered: int = 0
    problems: int = 0
    first_problem: str = ""
    memory: list[tuple[int, float]] = field(default_factory=list)

    def problem(self, what: str) -> None:
        self.problems += 1
        self.first_problem = self.first_problem or what

    @property
    def growth(self) -> float:
        """MB from the first sample, before the file, to the largest."""
        return max(megabytes for _, megabytes in self.memory) - self.memory[0][1]

    def marks(self) -> list[tuple[int, float]]:
        """Return some samples, evenly, with the first and the last."""
        last = len(self.memory) - 1
        return [self.memory[round(last * i / _MARKS)] for i in range(_MARKS + 1)] if last > _MARKS else self.memory


def classify(server: servers.Server, articles: Sequence[str], rows: int, distinct: int, quality: str) -> Sent:
    """Send `rows` rows, of which the first `distinct` come again and again (0: all differ), and read the answers."""
    return asyncio.run(_classify(server, articles, rows, distinct, quality))


async def _classify(server: servers.Server, articles: Sequence[str], rows: int, distinct: int, quality: str) -> Sent:
    sent, gateway = Sent(rows), _gateway(server.pid)
    sent.memory.append((0, servers.resident_mb(gateway)))
    sampling = asyncio.create_task(_sample(gateway, sent))
    reader, writer = await asyncio.open_connection("127.0.0.1", server.gateway_port, limit=_LONGEST_LINE)
    try:
        began = time.perf_counter()
        path = f"/v1/classify/file?format=csv&quality={quality}"
        head = (
            f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/csv\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        writer.write(head.encode())
        for chunk in _chunks(articles, rows, distinct):
            sent.megabytes += len(chunk) / 1e6
            writer.write(b"%x\r\n%b\r\n" % (len(chunk), chunk))
            await writer.drain()
        writer.write(b"0\r\n\r\n")
        await writer.drain()
        sent.upload_seconds = time.perf_counter() - began
        status = await reader.readuntil(b"\r\n\r\n")
        if not status.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(f"the file was answered {status.splitlines()[0]!r}: {await reader.read(500)!r}")
        await _read(reader, sent)
        sent.answer_seconds = time.perf_counter() - began - sent.upload_seconds
    finally:
        sampling.cancel()
        writer.close()
    sent.memory.append((sent.answered, servers.resident_mb(gateway)))
    if sent.answered != rows:
        sent.problem(f"{sent.answered} answers to {rows} rows")
    return sent


async def _read(reader: asyncio.StreamReader, sent: Sent) -> None:
    """Read the chunks of the response to their end, and check each line."""
    left = b""
    while size := int(await reader.readline(), 16):
        *lines, left = (left + await reader.readexactly(size)).split(b"\n")
        await reader.readexactly(2)
        for line in lines:
            item = json.loads(line)
            shares = item.get("probabilities", {})
            if item.get("index") != sent.answered or not shares or abs(sum(shares.values()) - 1) > 1e-3:
                sent.problem(f"the answer to row {sent.answered} is {line[:200]!r}")
            elif shares[item["label"]] < max(shares.values()):
                sent.problem(f"row {sent.answered}: the label is not the most probable: {line[:200]!r}")
            sent.answered += 1


def _chunks(articles: Sequence[str], rows: int, distinct: int) -> Iterator[bytes]:
    yield b"text\r\n"
    for first in range(0, rows, _ROWS_A_CHUNK):
        text = io.StringIO()
        write = csv.writer(text).writerow
        for row in range(first, min(first + _ROWS_A_CHUNK, rows)):
            number = row % distinct if distinct else row
            write([f"{number}: {articles[number % len(articles)]}"])
        yield text.getvalue().encode()


async def _sample(pids: Sequence[int], sent: Sent) -> None:
    while True:
        await asyncio.sleep(_SAMPLE_SECONDS)
        sent.memory.append((sent.answered, servers.resident_mb(pids)))


def _gateway(pid: int) -> list[int]:
    """Return the gateway's processes below a server's."""
    commands = {below: psutil.Process(below).cmdline() for below in servers.family(pid)}
    for below, command in commands.items():
        if "newsdesk.server.gateway" in command:
            return servers.family(below)
    raise RuntimeError(f"no gateway among the processes below {pid}: {sorted(commands)}")
