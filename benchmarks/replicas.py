"""Simulate the replicas that a load needs for a p99, and measure how far the simulation is right.

    python -m benchmarks.replicas --rate 1000 --p99-ms 250 --fixed-ms 2 --text-ms 5    # by times that you give
    python -m benchmarks.replicas --rate 1000 --p99-ms 250 --url grpc://127.0.0.1:8001 # by those of a running server
    python -m benchmarks.replicas --compare                                            # with 1 and 3 real servers

A running server's times are measured by one caller: nobody else should ask it meanwhile.

The comparison is of queues, batches and balancing, not of computing: its servers are tritonservers, on loopback, whose
model sleeps (benchmarks/timed_model.py), so that three of them do not share this machine's cores. Their load is open:
single texts at random times, by one AsyncClient with all their URLs.
"""

import argparse
import asyncio
import json
import os
import random
import statistics
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path

import numpy as np

from benchmarks import autoscaling, pages
from benchmarks.autoscaling import Outcome, Scaler, Service
from newsdesk.clients import AsyncClient, Client
from newsdesk.server.runtime import processor
from tests.clients.triton_process import Triton

_SIZES = 1, 2, 4, 8
_TIMES = 5
_BATCH = 8
_SLEPT = 0.600, 0.120
"""Seconds that the stand-in takes for a batch, and for each text in it."""
_POINTS = (1, 5), (1, 8), (3, 15), (3, 24)
"""Replicas, and texts a second: half and eight tenths of what each number can answer, about."""
_SECONDS = 45.0
_WARM_SECONDS = 6.0
_CALM, _BUSY = 60.0, 300.0
"""Seconds of a quarter of the load, and of the load."""
_HEAD = "# How many replicas a load needs\n\nPrinted by `python -m benchmarks.replicas`, see its help.\n"


@dataclass(frozen=True)
class Run:
    """The result of one load: seconds of the middle and of the slowest of a hundred, texts a second.

    lag is how many seconds too late the caller sent a text, in the middle.
    """

    p50: float
    p99: float
    rate: float
    failures: int = 0
    lag: float = 0.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=float, default=1000, help="texts a second (default: 1000)")
    parser.add_argument("--p99-ms", type=float, default=250, help="slowest of a hundred texts (default: 250)")
    parser.add_argument("--fixed-ms", type=float, help="of each batch")
    parser.add_argument("--text-ms", type=float, help="of each text in it")
    parser.add_argument("--url", help="a running server to measure these two at")
    parser.add_argument("--instances", type=int, default=2, help="backend processes of a replica (default: 2)")
    parser.add_argument("--batch", type=int, default=64, help="most texts of a batch (default: 64)")
    parser.add_argument("--start-seconds", type=float, default=60, help="until a new replica is ready (default: 60)")
    parser.add_argument("--target", type=float, default=64, help="texts in flight a replica (default: 64)")
    parser.add_argument("--compare", action="store_true", help="with real servers")
    parser.add_argument("--write", type=Path, help="page to put the section into")
    options = parser.parse_args()
    if options.compare:
        section = compare()
    else:
        if options.url is None and None in (options.fixed_ms, options.text_ms):
            parser.error("expected --fixed-ms and --text-ms, or --url, or --compare")
        times = (
            (options.fixed_ms, options.text_ms)
            if options.url is None
            else [1e3 * part for part in measure(options.url)]
        )
        service = Service(times[0] / 1e3, times[1] / 1e3, options.instances, options.batch)
        scaler = Scaler(target=options.target, start_seconds=options.start_seconds, most=100)
        section = sized(service, options.rate, options.p99_ms / 1e3, scaler)
    print(section)
    if options.write:
        pages.put(options.write, _HEAD, section)


def sized(service: Service, rate: float, p99: float, scaler: Scaler, busy: float = _BUSY) -> str:
    """Return a section: the replicas that a steady load needs, and what an autoscaler makes of its coming."""
    needed = autoscaling.replicas_for(service, rate, p99)
    before = autoscaling.replicas_for(service, rate / 4, p99)
    profile = [(_CALM, rate / 4), (busy, rate)]
    rows = []
    for least in sorted({before, (before + needed + 1) // 2, needed}):
        outcome = autoscaling.simulate(service, least, profile, replace(scaler, least=least))
        late = _late(outcome, p99, busy)
        rows.append(
            f"| {least} | {max(count for _, count in outcome.replicas)} | {1e3 * outcome.quantile(0.99, _CALM):,.0f} | "
            f"{f'{late:.0f} s' if late else 'never'} |"
        )
    return (
        f"## Plan for {rate:,.0f} texts/s: p99 at most {1e3 * p99:,.0f} ms\n\n"
        f"A batch takes {1e3 * service.fixed:.1f} ms and {1e3 * service.per_text:.1f} ms more for each text, up to "
        f"{service.most} texts, in {service.instances} processes of a replica: {service.capacity:,.0f} texts/s at "
        f"most.\n\n**{needed} replicas** keep a steady load. A quarter of it needs {before}.\n\n"
        f"Where the load grows from a quarter to the whole at once, with an autoscaler on {scaler.target:g} texts in "
        f"flight a replica, a look each {scaler.tick:g} s, and {scaler.start_seconds:g} s until a replica is "
        "ready:\n\n"
        "| least replicas | most in the run | p99 of it all, ms | p99 is missed for |\n|---:|---:|---:|---:|\n"
        + "\n".join(rows)
        + "\n"
    )


def _late(outcome: Outcome, p99: float, busy: float) -> float:
    """Return the seconds, after the load grew, until the last tenth of a minute that misses the p99 has ended."""
    starts = np.arange(_CALM, _CALM + busy, 6.0)
    missed = [start for start in starts if outcome.quantile(0.99, start, start + 6) > p99]
    return float(missed[-1] + 6 - _CALM) if missed else 0.0


def measure(url: str) -> tuple[float, float]:
    """Return a server's seconds for a batch and for each text in it: a line through medians of several sizes."""
    with Client(url, timeout=60) as client:
        medians = [statistics.median(_timed(client, size) for _ in range(_TIMES)) for size in _SIZES]
    per_text, fixed = np.polyfit(_SIZES, medians, 1)
    return max(float(fixed), 0.0), max(float(per_text), 0.0)


def _timed(client: Client, size: int) -> float:
    texts = [f"{random.random()} shares slide as oil rises" for _ in range(size)]
    start = time.perf_counter()
    client.classify(texts)
    return time.perf_counter() - start


def compare() -> str:
    """Return a section: what is predicted of 1 and 3 servers, and what they do."""
    load = os.getloadavg()[0]
    with _servers(max(replicas for replicas, _ in _POINTS)) as servers:
        urls = [server.ports.grpc_url for server in servers]
        fixed, per_text = measure(urls[0])
        service = Service(fixed, per_text, 2, _BATCH)
        rows = []
        for replicas, rate in _POINTS:
            predicted = _summary(autoscaling.simulate(service, replicas, [(3000, rate)]), 3000)
            before = _batches(servers)
            measured = asyncio.run(_ask(urls[:replicas], rate))
            count, texts, seconds = _batches(servers) - before
            longer = seconds / count - _SLEPT[0] - _SLEPT[1] * texts / count
            rows.append(
                f"| {replicas} | {rate} | "
                + " | ".join(
                    f"{1e3 * run.p50:.0f} | {1e3 * run.p99:.0f} | {run.rate:.0f}" for run in (predicted, measured)
                )
                + f" | {measured.failures} | {1e3 * longer:.0f} | {1e3 * measured.lag:.1f} |"
            )
    return (
        "## Compared with real servers\n\n"
        f"{processor.describe()}, {os.cpu_count()} cores, load {load:.1f} before, {date.today()}. Each is a "
        f"tritonserver of two processes on loopback, whose model sleeps {1e3 * _SLEPT[0]:.0f} ms for a "
        f"batch and {1e3 * _SLEPT[1]:.0f} ms for each of at most {_BATCH} texts: cores are not what "
        f"bounds it. Measured at one server, by one caller: {1e3 * fixed:.1f} and {1e3 * per_text:.1f} ms. From these "
        "two numbers come the predictions. Single texts at random times, by one `AsyncClient` with all URLs, "
        f"{_SECONDS:.0f} s each.\n\n"
        "| replicas | texts/s sent | predicted p50 ms | p99 ms | texts/s | measured p50 ms | p99 ms | texts/s | "
        "failures | a batch longer by ms | sent late by ms |\n"
        "|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|\n" + "\n".join(rows) + "\n\n"
        "The last two columns are the machine's, where other work runs beside it: by how much a batch took longer "
        "than its sleep, on the mean, and how late the caller sent a text, in the middle. The simulation knows "
        "neither.\n"
    )


def _summary(outcome: Outcome, seconds: float) -> Run:
    return Run(
        outcome.quantile(0.5), outcome.quantile(0.99), float((outcome.came + outcome.took <= seconds).sum()) / seconds
    )


@contextmanager
def _servers(count: int) -> Iterator[list[Triton]]:
    model = Path(__file__).with_name("timed_model.py").read_text()
    model = model.replace("SLEPT = 0.0, 0.0", f"SLEPT = {_SLEPT}")
    with tempfile.TemporaryDirectory(prefix="newsdesk-replicas-") as folder, ExitStack() as stack:
        started = []
        for number in range(count):
            server = Triton(Path(folder) / str(number), model)
            config = Path(folder) / str(number) / "models" / "ag_news" / "config.pbtxt"
            config.write_text(config.read_text().replace("max_batch_size: 64", f"max_batch_size: {_BATCH}"))
            stack.callback(server.stop)
            server.start()
            started.append(server)
        for server in started:
            server.wait(180)
        yield started


def _batches(servers: Sequence[Triton]) -> np.ndarray:
    """Return how many batches the servers have answered, of how many texts, in how many seconds."""
    total = np.zeros(3)
    for server in servers:
        with urllib.request.urlopen(f"{server.ports.http_url}/v2/models/ag_news/stats", timeout=30) as response:
            (model,) = json.load(response)["model_stats"]
        taken = [batch["compute_infer"] for batch in model["batch_stats"]]
        count, nanoseconds = (sum(part[name] for part in taken) for name in ("count", "ns"))
        total += [count, model["inference_count"], nanoseconds / 1e9]
    return total


async def _ask(urls: Sequence[str], rate: float) -> Run:
    """Send texts at random times, whether answers come or not, and leave out the first seconds."""
    chance, failures, times, lags = random.Random(7), 0, [], []

    async def ask(came: float) -> None:
        nonlocal failures
        try:
            await client.classify(f"{came} shares slide as oil rises")
        except Exception:
            failures += 1
        else:
            times.append((came, time.monotonic()))

    async with AsyncClient(urls, timeout=60) as client:
        await client.labels()
        start = due = time.monotonic()
        asked = set()
        while due < start + _WARM_SECONDS + _SECONDS:
            due += chance.expovariate(rate)
            await asyncio.sleep(max(due - time.monotonic(), 0))
            lags.append(time.monotonic() - due)
            asked.add(task := asyncio.create_task(ask(due)))
            task.add_done_callback(asked.discard)
        await asyncio.gather(*asked)
    begin, end = start + _WARM_SECONDS, start + _WARM_SECONDS + _SECONDS
    took = [ended - came for came, ended in times if came >= begin]
    p50, p99 = np.quantile(took, [0.5, 0.99])
    return Run(
        float(p50),
        float(p99),
        sum(begin <= ended < end for _, ended in times) / _SECONDS,
        failures,
        statistics.median(lags),
    )


if __name__ == "__main__":
    main()
