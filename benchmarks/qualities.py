"""Measure each quality through Triton: the shipped model at fast, balanced and best, in turns, in one run.

    python -m benchmarks.qualities [--texts test.csv.gz] [--seconds 10] [--rounds 3]

One server on all cores, one generator over gRPC that shares them: single texts in their natural order, 128 clients in a
closed loop. The medians of the rounds count. Ends with code 1 where a request fails or a goal is not met.
"""

import argparse
import statistics
import sys
import time
from pathlib import Path

from benchmarks import grpc_load, pages, servers, texts
from newsdesk.server.contract import LABEL, PROBABILITIES, QUALITIES
from newsdesk.server.runtime import processor
from newsdesk.server.serving import load
from newsdesk.server.serving.settings import granted_cores

CLIENTS = 128
GOALS = {"fast": 10.0, "balanced": 4.0}
"""Times the throughput at best."""
HEAD = "# What each quality costs\n\nPrinted by `python -m benchmarks.qualities`, see its help.\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=Path, help="CSV with title and description or text, or a line an article")
    parser.add_argument("--seconds", type=float, default=10, help="counted seconds of each run")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--write", type=Path, help="put the table into this page, too, in place of the last one")
    options = parser.parse_args()
    articles = texts.choose(options.texts)
    requests = {quality: grpc_load.encode(articles, quality, (LABEL, PROBABILITIES)) for quality in QUALITIES}
    runs: dict[str, list[load.LoadReading]] = {quality: [] for quality in QUALITIES}
    with servers.newsdesk() as server:
        for turn in range(options.rounds + 1):
            for quality, encoded in requests.items():
                seconds = options.seconds if turn else min(options.seconds, 3)  # at first every process warms up
                reading = load.run(
                    "127.0.0.1", server.grpc_port, encoded, CLIENTS, seconds, warm_up=2, kind=grpc_load.Client
                )
                runs[quality] += [reading] if turn else []
    speeds = {
        quality: statistics.median(reading.per_second for reading in readings) for quality, readings in runs.items()
    }
    lines = ["| quality | articles/s | times best | p50 ms | p99 ms |", "|---|---:|---:|---:|---:|"]
    for quality, readings in runs.items():
        p50, p99 = (statistics.median(getattr(reading, name) for reading in readings) for name in ("p50_ms", "p99_ms"))
        lines.append(
            f"| {quality} | {speeds[quality]:.0f} | {speeds[quality] / speeds['best']:.1f} | {p50:.1f} | {p99:.1f} |"
        )
    missed = [
        f"{quality} answers {speeds[quality] / speeds['best']:.1f} times as many as best, expected {goal:g}"
        for quality, goal in GOALS.items()
        if speeds[quality] < goal * speeds["best"]
    ]
    if failures := sum(reading.failures for readings in runs.values() for reading in readings):
        missed.append(f"{failures} requests failed")
    section = "\n".join(
        [
            f"## Single texts, {CLIENTS} clients",
            "",
            f"{len(articles)} articles, {processor.describe()}, {granted_cores()} cores, {time.strftime('%Y-%m-%d')}; "
            f"medians of {options.rounds} rounds of {options.seconds:g} s.",
            "",
            *lines,
            *(f"\nNot met: {miss}." for miss in missed),
            "",
        ]
    )
    print(section)
    if options.write:
        pages.put(options.write, HEAD, section)
    sys.exit(bool(missed))


if __name__ == "__main__":
    main()
