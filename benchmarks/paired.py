"""Gateways and Triton itself, asked in turn by one generator on the same cores: each round has all of them."""

import asyncio
import json
import ssl
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from benchmarks import MODEL, grpc_load, servers
from newsdesk.server.contract import STANDARD_OUTPUTS
from newsdesk.server.serving import load

_WARM_SECONDS = 3
"""The length of the first round, which is not counted: every process warms up."""
DIRECT = "Triton, gRPC"


@dataclass(frozen=True)
class Front:
    """A gateway, and what a caller shows it: a key, and the authority that it trusts."""

    server: servers.Server
    key: str = ""
    authority: str = ""


@dataclass(frozen=True)
class Side:
    """A door that is measured: its port, the whole requests, who sends them, and over which TLS."""

    port: int
    requests: Sequence[bytes]
    client: Callable[..., load.LoadClient] = load.LoadClient
    tls: ssl.SSLContext | None = None

    def run(self, clients: int, seconds: float) -> load.LoadReading:
        return load.run("127.0.0.1", self.port, self.requests, clients, seconds, kind=self.client, tls=self.tls)


@dataclass(frozen=True)
class Runs:
    """The readings of all sides, round by round, by the number of clients."""

    by_side: Mapping[tuple[str, int], Sequence[load.LoadReading]]

    def median(self, side: str, clients: int, name: str) -> float:
        return statistics.median(getattr(reading, name) for reading in self.by_side[side, clients])

    def ratios(self, side: str, base: str, clients: int, name: str) -> list[float]:
        """Return a figure of a side over that of another, of each round."""
        pairs = zip(self.by_side[side, clients], self.by_side[base, clients], strict=True)
        return [getattr(own, name) / getattr(other, name) for own, other in pairs]

    @property
    def failures(self) -> int:
        return sum(reading.failures for readings in self.by_side.values() for reading in readings)

    def table(self) -> list[str]:
        lines = ["| side | clients | texts/s | p50 ms | p99 ms | failures |", "|---|---:|---:|---:|---:|---:|"]
        for (side, clients), readings in self.by_side.items():
            figures = partial(self.median, side, clients)
            lines.append(
                f"| {side} | {clients} | {figures('per_second'):.0f} | {figures('p50_ms'):.2f} "
                f"| {figures('p99_ms'):.1f} | {sum(reading.failures for reading in readings)} |"
            )
        return lines

    def compared(self, beside: Sequence[str]) -> list[str]:
        """Return a table of the gateway's doors "NAME, BESIDE" over those without BESIDE, round by round."""
        lines = [
            "| side | clients | texts/s | p50 | p99 | texts/s, lowest and highest round |",
            "|---|---:|---:|---:|---:|---:|",
        ]
        for side, clients in self.by_side:
            base, _, name = side.rpartition(", ")
            if name in beside:
                ratios = {of: self.ratios(side, base, clients, of) for of in ("per_second", "p50_ms", "p99_ms")}
                medians = " | ".join(f"× {statistics.median(ratio):.2f}" for ratio in ratios.values())
                share = ratios["per_second"]
                lines.append(f"| {side} | {clients} | {medians} | {min(share):.2f} to {max(share):.2f} |")
        return [*lines, "", "Each is over the same door of the gateway without it, in the same round; medians count."]


def doors(front: Front, articles: Sequence[str], quality: str) -> dict[str, Side]:
    """Return the three doors of a gateway, which ask for the same outputs of single texts."""
    host, port = "127.0.0.1", front.server.gateway_port
    rest = [json.dumps({"text": text, "quality": quality}).encode() for text in articles]
    inputs = ({"TEXT": text, "QUALITY": quality} for text in articles)
    outputs = [{"name": name} for name in STANDARD_OUTPUTS]
    oip = [
        json.dumps({"inputs": [_tensor(*pair) for pair in tensors.items()], "outputs": outputs}).encode()
        for tensors in inputs
    ]
    headers = {"Authorization": f"Bearer {front.key}"} if front.key else {}
    paths = {"gateway, REST": ("/v1/classify", rest), "gateway, HTTP": (f"/v2/models/{MODEL}/infer", oip)}
    sides = {
        name: Side(port, load.encode(host, port, path, bodies, headers), tls=_tls(front, "http/1.1"))
        for name, (path, bodies) in paths.items()
    }
    client = partial(grpc_load.Client, authorization=headers.get("Authorization", ""))
    framed = grpc_load.encode(articles, quality, STANDARD_OUTPUTS)
    return {**sides, "gateway, gRPC": Side(front.server.gateway_grpc_port, framed, client, _tls(front, "h2"))}


def direct(server: servers.Server, articles: Sequence[str], quality: str) -> Side:
    """Return Triton's own gRPC port, asked for the same."""
    return Side(server.grpc_port, grpc_load.encode(articles, quality, STANDARD_OUTPUTS), grpc_load.Client)


def measure(sides: Mapping[str, Side], clients: Sequence[int], rounds: int, seconds: float) -> Runs:
    """Ask all sides in turn, by one number of clients after another, round by round."""
    runs: dict[tuple[str, int], list[load.LoadReading]] = {}
    for turn in range(rounds + 1):
        for count in clients:
            for name, side in sides.items():
                reading = side.run(count, seconds if turn else min(seconds, _WARM_SECONDS))
                runs.setdefault((name, count), []).extend([reading] if turn else [])
    return Runs(runs)


def in_turn(sides: Mapping[str, Side], count: int) -> dict[str, np.ndarray]:
    """Return the milliseconds in which each side answers each of the first texts, FP64 [texts].

    One text is asked of all sides, one after the other, and then the next: differences of a text are of one moment and
    of the same members. Which side begins changes from text to text.

    Raises:
        RuntimeError: a request failed.
    """
    return asyncio.run(_in_turn(sides, min(count, *(len(side.requests) for side in sides.values()))))


async def _in_turn(sides: Mapping[str, Side], count: int) -> dict[str, np.ndarray]:
    loop = asyncio.get_running_loop()
    clients = {}
    for name, side in sides.items():
        made = partial(side.client, iter(side.requests[:count]))
        _, clients[name] = await loop.create_connection(made, "127.0.0.1", side.port, ssl=side.tls)
    names = [*sides]
    for i in range(count):
        for name in names[i % len(names) :] + names[: i % len(names)]:
            client = clients[name]
            client.stopped, client.done = True, loop.create_future()  # it is told of each request to send
            client.send()
            await client.done
            if client.failures or len(client.latencies) <= i:
                raise RuntimeError(f"{name}: request {i + 1} of {count} failed")
    for client in clients.values():
        client.transport.close()
    return {name: 1000 * np.array(client.latencies) for name, client in clients.items()}


def _tls(front: Front, protocol: str) -> ssl.SSLContext | None:
    if not front.authority:
        return None
    context = ssl.create_default_context(cafile=front.authority)
    context.set_alpn_protocols([protocol])
    return context


def _tensor(name: str, value: str) -> dict[str, object]:
    return {"name": name, "shape": [1, 1], "datatype": "BYTES", "data": [value]}
