"""Measure the response cache: it saves on texts that come again, and costs on texts that never do.

    python -m benchmarks.cache [--texts test.csv.gz] [--member minilm]

One client over gRPC, one connection: the time of a request without a cache, of a first request with one, and of the
same request again; articles/s at saturation on texts that are all different, with the cache and without, in turns.
"""

import argparse
import re
import time
import urllib.request
from itertools import count, cycle, islice
from pathlib import Path

import numpy as np

from benchmarks import MODEL, one_member, servers, texts
from newsdesk.clients import Client
from newsdesk.server.runtime import processor
from newsdesk.server.serving import load
from newsdesk.server.serving.settings import Settings

ONE_CLIENT = 300
CLIENTS = 64
MOST_A_SECOND = 8000
"""So many texts are made for each second: more than are answered."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=Path, help="CSV with title and description; made-up articles without it")
    parser.add_argument("--size", default="256MB")
    parser.add_argument("--seconds", type=float, default=10, help="counted seconds of each run at saturation")
    parser.add_argument("--rounds", type=int, default=3, help="turns of both servers at saturation")
    parser.add_argument("--member", help="the shipped model's member that answers alone")
    options = parser.parse_args()
    articles = texts.choose(options.texts)
    number = count()
    with (
        one_member.choose(Settings().model_repository, options.member) as repository,
        servers.newsdesk("--model-repository", str(repository)) as plain,
        servers.newsdesk("--model-repository", str(repository), "--cache", options.size) as cached,
    ):
        alone = _one_client(plain, articles)
        first, again = _one_client(cached, articles), _one_client(cached, articles)
        hits = _hits(cached)
        if hits < ONE_CLIENT:
            raise RuntimeError(f"{hits} hits for {ONE_CLIENT} requests that came again")
        speeds: dict[str, list[float]] = {"plain": [], "cached": []}
        for _ in range(options.rounds):
            for name, server in ("plain", plain), ("cached", cached):
                speeds[name].append(_saturated(server, articles, number, options.seconds))
    print(f"{len(articles)} articles, {processor.describe()}")
    print(f"{options.member or 'the whole model'}, cache of {options.size}\n")
    print("| one client, gRPC | p50 ms |\n|---|---:|")
    for name, p50 in ("no cache", alone), ("cache, a text's first time", first), ("cache, the same again", again):
        print(f"| {name} | {p50:.2f} |")
    medians = {name: float(np.median(values)) for name, values in speeds.items()}
    print(f"\nA hit is {first / again:.1f} times as fast. At {CLIENTS} clients, all texts different: ", end="")
    print(f"{medians['plain']:.0f} articles/s without, {medians['cached']:.0f} with the cache ", end="")
    print(f"({100 * (medians['cached'] / medians['plain'] - 1):+.1f} %, medians of {options.rounds} turns).")


def _one_client(server: servers.Server, articles: list[str]) -> float:
    """Return the median time of a request, in ms, for the first articles."""
    taken = []
    with Client(f"grpc://127.0.0.1:{server.grpc_port}") as client:
        client.classify("The connection is made before the clock starts")
        for text in articles[:ONE_CLIENT]:
            began = time.perf_counter()
            client.classify(text)
            taken.append(time.perf_counter() - began)
    return 1e3 * float(np.median(taken))


def _saturated(server: servers.Server, articles: list[str], number: "count[int]", seconds: float) -> float:
    """Return articles/s on texts that no server has seen: a number in front, never the same."""
    fresh = [f"{next(number)} {text}" for text in islice(cycle(articles), int(MOST_A_SECOND * (seconds + 3)))]
    reading = load.run("127.0.0.1", server.http_port, load.asking(server.http_port, MODEL, fresh), CLIENTS, seconds)
    if reading.failures or reading.answers > len(fresh):
        raise RuntimeError(f"{reading.failures} failures; {reading.answers} answers to {len(fresh)} different texts")
    return reading.per_second


def _hits(server: servers.Server) -> int:
    with urllib.request.urlopen(f"http://127.0.0.1:{server.metrics_port}/metrics", timeout=10) as response:
        hits = re.findall(r"^nv_cache_num_hits_per_model{.*} (\d+)$", response.read().decode(), re.MULTILINE)
    return sum(map(int, hits))


if __name__ == "__main__":
    main()
