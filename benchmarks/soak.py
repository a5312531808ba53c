"""A bounded soak on the loopback: mixed lengths, bad inputs and clients that vanish, and every answer checked.

    python -m benchmarks.soak [--texts test.csv.gz] [--minutes 10] [--clients 256]

Each text is first asked alone; under load every answer must be that one (the same label, and probabilities within
what int8 rounds differently in another batch's shape). Ends with code 1 where one is wrong, a good request fails, a
bad one is answered, a backend process is no longer the one it was, or memory grows by more than 1 MB a minute.
"""

import argparse
import asyncio
import contextlib
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from scipy.stats import theilslopes

from benchmarks import servers, texts
from newsdesk.server.contract import LABEL, PROBABILITIES, TEXT
from newsdesk.server.machine import processes
from newsdesk.server.runtime import processor
from newsdesk.server.serving.triton import STUB

PATH = "/v2/models/ag_news/infer"
BAD, VANISH = 0.05, 0.02
"""Shares of requests that are bad, and whose client goes while they are under way."""
TOLERANCE = 0.02
"""Largest difference of a probability from the solo answer's; within it of a tie, the label may differ, too."""
MOST_MB_A_MINUTE = 1.0
_BAD_BODIES = [
    b"{",
    b'{"inputs": null}',
    b'{"inputs": [{"name": "TEXT", "shape": [1, 1], "datatype": "BYTES", "data": [""]}]}',
    b'{"inputs": [{"name": "TEXT", "shape": [1, 1], "datatype": "BYTES", "data": [" \\t "]}]}',
    b'{"inputs": [{"name": "TEXT", "shape": [1, 1], "datatype": "FP32", "data": [1.5]}]}',
    b'{"inputs": [{"name": "TEXT", "shape": [-1, 1], "datatype": "BYTES", "data": ["x"]}]}',
    b'{"inputs": [{"name": "TEXT", "shape": [3, 1], "datatype": "BYTES", "data": ["x"]}]}',
]
_SAMPLE_SECONDS = 2.0


@dataclass
class SoakOutcome:
    """The result of a soak: counts by kind, the first problems in words, and MB resident over seconds."""

    counts: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    memory: list[tuple[float, float]] = field(default_factory=list)

    def problem(self, what: str) -> None:
        self.counts["problems"] += 1
        if len(self.problems) < 20:
            self.problems.append(what)

    @property
    def slope(self) -> float:
        """MB a minute: the median of the slopes between all samples of the last two thirds (Theil and Sen)."""
        settled = self.memory[len(self.memory) // 3 :]
        seconds, resident = zip(*settled, strict=True) if settled else ((), ())
        return 60 * float(theilslopes(resident, seconds).slope) if len(settled) > 1 else 0.0


def mixed(articles: Sequence[str], count: int = 300) -> list[str]:
    """Return articles as they are, and among them one word, many words, and many articles in one (to 2,000 words)."""
    chance = random.Random(11)
    made = []
    for i in range(count):
        article = articles[i % len(articles)]
        if i % 20 == 7:
            words = " ".join(chance.sample(list(articles), 60)).split()
            article = " ".join(words[: chance.randint(200, 2000)])
        elif i % 20 == 13:
            article = article.split()[0]
        made.append(article)
    return made


def soak(server: servers.Server, articles: Sequence[str], clients: int, seconds: float) -> SoakOutcome:
    """Run it against a server of one's own on this machine; ends after `seconds` and what was then under way."""
    return asyncio.run(_soak(server, articles, clients, seconds))


async def _soak(server: servers.Server, articles: Sequence[str], clients: int, seconds: float) -> SoakOutcome:
    outcome, port = SoakOutcome(), server.http_port
    bodies = [_body(text) for text in articles]
    connection = await asyncio.open_connection("127.0.0.1", port)
    alone = [_answer(*await _ask(connection, body)) for body in bodies]
    connection[1].close()
    before = _stubs(server)
    end = time.monotonic() + seconds
    sampling = asyncio.create_task(_sample(server, outcome, end))
    await asyncio.gather(*(_client(port, bodies, alone, outcome, end, random.Random(i)) for i in range(clients)))
    await sampling
    if (after := _stubs(server)) != before:
        outcome.problem(f"backend processes {sorted(before)} before, {sorted(after)} after")
    return outcome


async def _client(
    port: int, bodies: list[bytes], alone: list[dict], outcome: SoakOutcome, end: float, chance: random.Random
) -> None:
    connection = await asyncio.open_connection("127.0.0.1", port)
    while time.monotonic() < end:
        kind, i = chance.random(), chance.randrange(len(bodies))
        try:
            if kind < VANISH:
                connection[1].write(_request(bodies[i]))
                await connection[1].drain()
                await asyncio.sleep(chance.random() * 0.1)
                connection[1].transport.abort()
                outcome.counts["vanished"] += 1
                connection = await asyncio.open_connection("127.0.0.1", port)
            elif kind < VANISH + BAD:
                status, body = await _ask(connection, bad := chance.choice(_BAD_BODIES))
                outcome.counts["refused"] += 1
                if status not in (400, 500) or b"error" not in body:
                    outcome.problem(f"{bad!r} was answered {status} {body[:200]!r}")
            else:
                status, body = await _ask(connection, bodies[i])
                outcome.counts["answers"] += 1
                _check(i, status, body, alone[i], outcome)
        except (OSError, asyncio.IncompleteReadError, ValueError) as error:
            outcome.problem(f"a request failed: {error!r}")
            await asyncio.sleep(0.1)
            with contextlib.suppress(OSError):
                connection = await asyncio.open_connection("127.0.0.1", port)
    connection[1].close()


def _check(i: int, status: int, body: bytes, alone: dict, outcome: SoakOutcome) -> None:
    if status != 200:
        outcome.problem(f"text {i}: {status} {body[:200]!r}")
        return
    answer = _answer(status, body)
    expected, options = (np.array(output[PROBABILITIES]) for output in (alone, answer))
    top = np.sort(expected)[::-1]
    if np.abs(options - expected).max() > TOLERANCE:
        outcome.problem(f"text {i}: {options} under load, {expected} alone")
    elif answer[LABEL] != alone[LABEL] and top[0] - top[1] > 2 * TOLERANCE:
        outcome.problem(f"text {i}: {answer[LABEL]} under load, {alone[LABEL]} alone")


async def _sample(server: servers.Server, outcome: SoakOutcome, end: float) -> None:
    while time.monotonic() < end:
        resident = await asyncio.to_thread(server.resident_mb)
        outcome.memory.append((time.monotonic(), resident))
        await asyncio.sleep(_SAMPLE_SECONDS)


def _body(text: str) -> bytes:
    options = {"name": TEXT, "shape": [1, 1], "datatype": "BYTES", "data": [text]}
    return json.dumps({"inputs": [options], "outputs": [{"name": LABEL}, {"name": PROBABILITIES}]}).encode()


def _request(body: bytes) -> bytes:
    return f"POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


async def _ask(connection: tuple[asyncio.StreamReader, asyncio.StreamWriter], body: bytes) -> tuple[int, bytes]:
    reader, writer = connection
    writer.write(_request(body))
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    length = int(head.partition(b"content-length:")[2].split(b"\r\n", 1)[0])
    return int(head.split()[1]), await reader.readexactly(length)


def _answer(status: int, body: bytes) -> dict:
    if status != 200:
        raise RuntimeError(f"a good text alone was answered {status}: {body[:200]!r}")
    return {output["name"]: output["data"] for output in json.loads(body)["outputs"]}


def _stubs(server: servers.Server) -> set[int]:
    (triton,) = processes.children(server.pid, "tritonserver")
    return {stub.pid for stub in processes.children(triton.pid, STUB)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=Path, help="CSV with title and description; made-up articles without it")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--clients", type=int, default=256)
    options = parser.parse_args()
    articles = texts.choose(options.texts)
    with servers.newsdesk() as server:
        outcome = soak(server, mixed(articles), options.clients, 60 * options.minutes)
    counts = outcome.counts
    print(f"{options.minutes:g} minutes, {options.clients} clients, {processor.describe()}")
    print(f"{counts['answers']} answers, each as when asked alone but for {counts['problems']} problems; ", end="")
    print(f"{counts['refused']} bad requests refused, {counts['vanished']} clients vanished")
    print(f"memory {outcome.memory[0][1]:.0f} MB at first, {outcome.memory[-1][1]:.0f} at last, ", end="")
    print(f"{outcome.slope:+.2f} MB a minute once settled")
    print("\n".join(outcome.problems))
    if outcome.problems or outcome.slope > MOST_MB_A_MINUTE:
        sys.exit(1)


if __name__ == "__main__":
    main()
