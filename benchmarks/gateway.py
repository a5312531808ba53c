"""Measure the gateway: single texts by its protocols and straight to Triton's gRPC, and a file of many rows.

    python -m benchmarks.gateway [--texts test.csv.gz] [--seconds 10] [--rounds 3] [--quality balanced]
    python -m benchmarks.gateway --rows 1000000 [--distinct 6400 --cache 256MB]
    python -m benchmarks.gateway --doors keys tls
    python -m benchmarks.gateway --doors redis-tls otlp-tls

One server, one generator, and all of them on the same cores: rounds of all sides in turn, of which the medians count.
All ask for the same outputs at the same quality. How much longer one client waits is the median of the differences
of texts that all sides are asked in turn: a text that a further member reads takes ten times as long, on each side. The
rows of a file are made as they are sent; its answers are read and checked as they come, while the gateway's memory is
sampled. With --distinct, the file repeats that many rows, and
with --cache Triton answers those that it has seen: what is measured then is the gateway and not the model. With --doors
further servers are measured in the same rounds: one that asks for a key, one that speaks TLS, one that counts rates in
a Redis, and one that sends traces to a collector, which only counts them. By TLS, the last two are compared with those
without it. Ends with code 1 where a request fails or a goal is not met.
"""

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from benchmarks import bulk, fronts, pages, paired, servers, texts
from benchmarks.fronts import DOORS, Beside
from benchmarks.paired import DIRECT, Front
from newsdesk.server.contract import DEFAULT_QUALITY, QUALITIES

CLIENTS = (32, 128)
LEAST_SHARE, MOST_ADDED_MS, MOST_GROWTH_MB = 0.60, 2.0, 16.0
"""Goals: of direct gRPC's throughput, of a text's latency at one client, and of the gateway's memory over a file."""
_TEXTS_IN_TURN = 500
HEAD = "# What the gateway costs\n\nPrinted by `python -m benchmarks.gateway`, see its help.\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=Path, help="CSV with title and description or text, or a line an article")
    parser.add_argument("--seconds", type=float, default=10, help="counted seconds of each run of single texts")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--clients", nargs="+", type=int, default=CLIENTS, help="numbers of clients at saturation")
    parser.add_argument("--quality", choices=QUALITIES, default=DEFAULT_QUALITY)
    parser.add_argument("--rows", type=int, default=0, help="measure a file of so many rows instead of single texts")
    parser.add_argument("--distinct", type=int, default=0, help="rows of the file that differ; 0: all")
    parser.add_argument("--cache", default="", help="of the server, for the file: 256MB")
    parser.add_argument("--doors", nargs="+", default=[], choices=DOORS, help="measure single texts through these, too")
    parser.add_argument("--write", type=Path, help="put the figures into this page, too, in place of the last ones")
    options = parser.parse_args()
    articles = texts.choose(options.texts)
    flags = ["--cache", options.cache] if options.cache else []
    with servers.newsdesk(*flags, gateway=True) as server, fronts.serve(fronts.wanted(options.doors)) as beside:
        run = _file(server, articles, options) if options.rows else _single(server, articles, options, beside)
        title, lines, missed = run
    lines += [f"\nNot met: {miss}." for miss in missed]
    section = "\n".join([f"## {title}", "", pages.machine(options.quality), "", *lines, ""])
    print(section)
    if options.write:
        pages.put(options.write, HEAD, section)
    sys.exit(bool(missed))


def _single(
    server: servers.Server, articles: list[str], options: argparse.Namespace, beside: Mapping[str, Beside]
) -> tuple[str, list[str], list[str]]:
    sides = paired.doors(Front(server), articles, options.quality)
    plain = list(sides)
    for name, other in beside.items():
        doors = paired.doors(other.front, articles, options.quality)
        sides |= {f"{door}, {name}": side for door, side in doors.items()}
    sides[DIRECT] = paired.direct(server, articles, options.quality)
    runs = paired.measure(sides, [1, *options.clients], options.rounds, options.seconds)
    missed = [f"{runs.failures} requests failed"] if runs.failures else []
    best = {side: max(runs.median(side, clients, "per_second") for clients in options.clients) for side in sides}
    lines = [*runs.table(), ""]
    latencies = paired.in_turn({side: sides[side] for side in (*plain, DIRECT)}, _TEXTS_IN_TURN)
    for side in plain:
        share = best[side] / best[DIRECT]
        added = float(np.median(latencies[side] - latencies[DIRECT]))
        lines.append(
            f"- {side}: {share:.0%} of the texts that Triton answers over gRPC at saturation; one client "
            f"waits {added:.2f} ms longer for a text."
        )
        if share < LEAST_SHARE:
            missed.append(f"{side}: {share:.0%} of direct throughput, expected at least {LEAST_SHARE:.0%}")
        if added > MOST_ADDED_MS:
            missed.append(f"{side}: {added:.2f} ms added at one client, expected at most {MOST_ADDED_MS:g}")
    if beside:
        lines += ["", *runs.compared([name.rpartition(", ")[2] for name in beside])]
    proofs = [f"- {name}: {proof}." for name, other in beside.items() if (proof := other.proof())]
    rounds = f"Medians of {options.rounds} rounds; of one client, of {_TEXTS_IN_TURN} texts that all sides got in turn."
    lines += ["", rounds, *([""] if proofs else []), *proofs]
    return _title(options.doors), lines, missed


def _title(doors: list[str]) -> str:
    if not doors:
        return "Single texts"
    return "Keys and TLS" if {*doors} <= {"keys", "tls"} else "Redis and traces"


def _file(server: servers.Server, articles: list[str], options: argparse.Namespace) -> tuple[str, list[str], list[str]]:
    # A short file first: what the gateway needs for any file is not growth.
    bulk.classify(server, articles, bulk.BATCH * 40, options.distinct, options.quality)
    sent = bulk.classify(server, articles, options.rows, options.distinct, options.quality)
    differ = f"{options.distinct} of them different" if options.distinct else "all different"
    cached = f", Triton's response cache of {options.cache}" if options.cache else ", no response cache"
    lines = [
        f"{options.rows} rows of CSV ({sent.megabytes:.0f} MB), {differ}{cached}: sent in {sent.upload_seconds:.1f} s, "
        f"answered in {sent.answer_seconds:.1f} s ({options.rows / sent.answer_seconds:.0f} rows/s), in order, "
        f"{sent.problems} problems.",
        "",
        "| rows answered | the gateway's memory, MB |",
        "|---:|---:|",
        *(f"| {rows} | {megabytes:.1f} |" for rows, megabytes in sent.marks()),
        "",
        f"Memory is its processes' PSS; from the first to the largest sample it grew by {sent.growth:.1f} MB.",
    ]
    missed = []
    if sent.problems:
        missed.append(f"{sent.problems} answers are wrong: {sent.first_problem}")
    if sent.growth > MOST_GROWTH_MB:
        missed.append(f"memory grew by {sent.growth:.1f} MB, expected at most {MOST_GROWTH_MB:g}")
    return "A file of many rows", lines, missed


if __name__ == "__main__":
    main()
