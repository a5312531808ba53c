"""What the gateway costs: single texts through its protocols and straight to Triton's gRPC, and a file of many rows.

    python -m benchmarks.gateway [--texts test.csv.gz] [--seconds 10] [--rounds 3] [--quality balanced]
    python -m benchmarks.gateway --rows 1000000 [--distinct 6400 --cache 256MB]
    python -m benchmarks.gateway --canary 10%

One server, one generator, and all of them on the same cores: rounds of all sides in turn, of which the medians count.
All ask for the same outputs at the same quality. The rows of a file are made as they are sent; its answers are read
and checked as they come, while the gateway's memory is sampled. With --distinct, the file repeats that many rows, and
with --cache Triton answers those that it has seen: what is measured then is the gateway and not the model. With
--canary two more servers are measured in the same rounds: one whose second version, a copy of the first, answers that
share of the texts, and one where it is a shadow. Ends with code 1 where a request fails or a goal is not met.
"""

import argparse
import contextlib
import json
import platform
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from benchmarks import MODEL, bulk, grpc_load, pages, servers, texts
from newsdesk.server.contract import DEFAULT_QUALITY, QUALITIES, STANDARD_OUTPUTS
from newsdesk.server.runtime import processor
from newsdesk.server.runtime.repository import latest_version
from newsdesk.server.serving import load
from newsdesk.server.serving.settings import default_repository, granted_cores

CLIENTS = (32, 128)
LEAST_SHARE, MOST_ADDED_MS, MOST_GROWTH_MB = 0.60, 2.0, 16.0
"""Goals: of direct gRPC's throughput, of p50 at one client, and of the gateway's memory over a file."""
_DIRECT = "Triton, gRPC"
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
    parser.add_argument("--canary", default="", help="measure single texts with a canary of this share, and a shadow")
    parser.add_argument("--write", type=Path, help="put the figures into this page, too, in place of the last ones")
    options = parser.parse_args()
    articles = texts.choose(options.texts)
    flags = ["--cache", options.cache] if options.cache else []
    with servers.newsdesk(*flags, gateway=True) as server, _trials(options.canary) as trials:
        run = _file(server, articles, options) if options.rows else _single(server, articles, options, trials)
        title, lines, missed = run
    lines += [f"\nNot met: {miss}." for miss in missed]
    about = f"{processor.describe()}, {granted_cores()} cores, Python {platform.python_version()}"
    about += f", quality {options.quality}"
    section = "\n".join([f"## {title}", "", f"{about}, {time.strftime('%Y-%m-%d')}.", "", *lines, ""])
    print(section)
    if options.write:
        pages.put(options.write, HEAD, section)
    sys.exit(bool(missed))


@contextlib.contextmanager
def _trials(share: str) -> Iterator[Mapping[str, servers.Server]]:
    """Serve a second version, a copy of the first, as a canary and as a shadow; without a share nothing."""
    if not share:
        yield {}
        return
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        shipped = default_repository() / MODEL
        shutil.copytree(shipped, folder / MODEL)
        version = latest_version(folder / MODEL)
        shutil.copytree(version, version.with_name(str(int(version.name) + 1)))
        number = str(int(version.name) + 1)
        options = {f"canary of {share}": ("--canary", f"{number}:{share}"), "shadow": ("--shadow", number)}
        common = "--model-repository", str(folder), "--rollout-rule", "latency=1000"
        yield {
            name: stack.enter_context(servers.newsdesk(*common, *flags, gateway=True))
            for name, flags in options.items()
        }


def _single(
    server: servers.Server, articles: list[str], options: argparse.Namespace, trials: Mapping[str, servers.Server]
) -> tuple[str, list[str], list[str]]:
    rest = [json.dumps({"text": text, "quality": options.quality}).encode() for text in articles]
    grpc = grpc_load.encode(articles, options.quality, STANDARD_OUTPUTS)
    oip = _oip(articles, options.quality)
    sides: dict[str, tuple[int, type[load.Client], str, list[bytes]]] = {}
    for name, front in {"": server, **trials}.items():
        beside = f", {name}" if name else ""
        sides[f"gateway, REST{beside}"] = front.gateway_port, load.Client, "/v1/classify", rest
        sides[f"gateway, HTTP{beside}"] = front.gateway_port, load.Client, f"/v2/models/{MODEL}/infer", oip
        sides[f"gateway, gRPC{beside}"] = front.gateway_grpc_port, grpc_load.Client, "", grpc
    sides[_DIRECT] = server.grpc_port, grpc_load.Client, "", grpc
    runs: dict[tuple[str, int], list[load.Reading]] = {}
    for turn in range(options.rounds + 1):
        for clients in (1, *options.clients):
            for name, (port, kind, path, requests) in sides.items():
                encoded = load.encode("127.0.0.1", port, path, requests) if path else requests
                seconds = options.seconds if turn else min(options.seconds, 3)  # at first every process warms up
                reading = load.run("127.0.0.1", port, encoded, clients, seconds, kind=kind)
                runs.setdefault((name, clients), []).extend([reading] if turn else [])
    lines = ["| side | clients | texts/s | p50 ms | p99 ms | failures |", "|---|---:|---:|---:|---:|---:|"]
    for (name, clients), readings in runs.items():
        p99, failures = _median(readings, "p99_ms"), sum(reading.failures for reading in readings)
        lines.append(
            f"| {name} | {clients} | {_median(readings, 'per_second'):.0f} | {_median(readings, 'p50_ms'):.2f} "
            f"| {p99:.1f} | {failures} |"
        )
    best = {
        side: max(_median(runs[side, clients], "per_second") for clients in options.clients) for side in sides
    }  # at saturation
    added = {side: _median(runs[side, 1], "p50_ms") - _median(runs[_DIRECT, 1], "p50_ms") for side in sides}
    missed = []
    if failures := sum(reading.failures for readings in runs.values() for reading in readings):
        missed.append(f"{failures} requests failed")
    lines.append("")
    for side in (side for side in sides if side != _DIRECT):
        share = best[side] / best[_DIRECT]
        lines.append(
            f"- {side}: {share:.0%} of the texts that Triton answers over gRPC at saturation; at one client "
            f"{added[side]:.2f} ms are added to p50."
        )
        plain, _, trial = side.rpartition(", ")
        if trial in trials:
            lines[-1] += f" That is {best[side] / best[plain]:.0%} of {plain} without it."
            continue
        if share < LEAST_SHARE:
            missed.append(f"{side}: {share:.0%} of direct throughput, expected at least {LEAST_SHARE:.0%}")
        if added[side] > MOST_ADDED_MS:
            missed.append(f"{side}: {added[side]:.2f} ms added at one client, expected at most {MOST_ADDED_MS:g}")
    lines += ["", f"Medians of {options.rounds} rounds."]
    return "Single texts", lines, missed


def _oip(texts: Sequence[str], quality: str) -> list[bytes]:
    """Return requests of the Open Inference Protocol, a text each, in JSON."""
    inputs = ({"TEXT": text, "QUALITY": quality} for text in texts)
    outputs = [{"name": name} for name in STANDARD_OUTPUTS]
    return [
        json.dumps({"inputs": [_tensor(name, value) for name, value in tensors.items()], "outputs": outputs}).encode()
        for tensors in inputs
    ]


def _tensor(name: str, value: str) -> dict[str, object]:
    return {"name": name, "shape": [1, 1], "datatype": "BYTES", "data": [value]}


def _median(readings: list[load.Reading], name: str) -> float:
    return statistics.median(getattr(reading, name) for reading in readings)


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
