"""newsdesk against FastAPI around a transformers pipeline: same checkpoint, articles, generator and cores, in one run.

    python -m benchmarks.first_table --checkpoint artifacts/train/<key>/checkpoint [--texts test.csv.gz]

Every side is started, warmed up, measured at each number of clients in a closed loop over HTTP with JSON, and ended
before the next. The generator shares the two cores with the server, so each side pays for it.
"""

import argparse
import json
import platform
from contextlib import AbstractContextManager
from pathlib import Path

from benchmarks import machine, servers, texts
from newsdesk.server import load
from newsdesk.server.settings import granted_cores

CLIENTS = (1, 8, 32, 128)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, required=True, help="the `train` stage's from_pretrained folder")
    parser.add_argument("--texts", type=Path, help="CSV with title and description; made-up articles without it")
    parser.add_argument("--seconds", type=float, default=10, help="counted seconds at each number of clients")
    parser.add_argument("--json", type=Path, help="write the readings there, too")
    given = parser.parse_args()
    articles = texts.read(given.texts, ["title", "description"]) if given.texts else texts.make(2000)
    cores = granted_cores()
    oip = [
        json.dumps({"inputs": [{"name": "TEXT", "shape": [1, 1], "datatype": "BYTES", "data": [text]}]}).encode()
        for text in articles
    ]
    plain = [json.dumps({"text": text}).encode() for text in articles]
    sides: list[tuple[str, AbstractContextManager[servers.Server], str, list[bytes]]] = [
        ("newsdesk", servers.newsdesk(), "/v2/models/ag_news/infer", oip),
        # The two ways to spend the same thread budget; the better of them is the peer.
        (
            f"pipeline, {cores} workers × 1 thread",
            servers.fastapi_pipeline(given.checkpoint, cores, 1),
            "/classify",
            plain,
        ),
        (
            f"pipeline, 1 worker × {cores} threads",
            servers.fastapi_pipeline(given.checkpoint, 1, cores),
            "/classify",
            plain,
        ),
    ]
    readings = {name: _measure(*side, given.seconds) for name, *side in sides}
    _print(readings, len(articles), cores)
    if given.json:
        given.json.write_text(json.dumps(readings, indent=1))


def _measure(
    starting: AbstractContextManager[servers.Server], path: str, bodies: list[bytes], seconds: float
) -> dict[str, object]:
    with starting as server:
        requests = load.encode("127.0.0.1", server.http_port, path, bodies)
        load.run("127.0.0.1", server.http_port, requests, clients=8, seconds=5)  # every worker warm
        runs = [load.run("127.0.0.1", server.http_port, requests, clients, seconds) for clients in CLIENTS]
        return {
            "start_seconds": server.start_seconds,
            "resident_mb": server.resident_mb(),
            "runs": [vars(reading) for reading in runs],
        }


def _print(readings: dict[str, dict], articles: int, cores: int) -> None:
    print(f"{articles} articles, {cores} cores, {machine.describe()}, Python {platform.python_version()}\n")
    print("| server | clients | articles/s | p50 ms | p99 ms | failures | resident MB | start s |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|")
    for name, of_side in readings.items():
        for run in of_side["runs"]:
            print(
                f"| {name} | {run['clients']} | {run['per_second']:.0f} | {run['p50_ms']:.1f} | {run['p99_ms']:.1f} "
                f"| {run['failures']} | {of_side['resident_mb']:.0f} | {of_side['start_seconds']:.1f} |"
            )
    best = {name: max(run["per_second"] for run in of_side["runs"]) for name, of_side in readings.items()}
    ours = best.pop("newsdesk")
    print(f"\nAt saturation newsdesk answers {ours / max(best.values()):.1f} × the articles of the better pipeline.")


if __name__ == "__main__":
    main()
