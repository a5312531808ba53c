"""Measure how cost grows: with the number of clients, with the requests answered, and with the length of a text.

    python -m benchmarks.growth [--texts test.csv.gz] [--requests 500000] [--member minilm]

Articles/s at 16 to 512 clients (within 10 % is flat); memory of all processes, idle, before and after so many requests,
in tenths (the default is none: half a million take minutes); the time of one text of up to 20,000 words, alone, at
"best", where every member reads every word of it, whose growth is told as the exponent of a power law from 1,000 words
on (1 is linear).
"""

import argparse
from pathlib import Path
from time import perf_counter

import numpy as np

from benchmarks import MODEL, one_member, servers, texts
from newsdesk.clients import Client
from newsdesk.server.runtime import processor
from newsdesk.server.serving import load
from newsdesk.server.serving.settings import Settings

CLIENTS = 16, 32, 64, 128, 256, 512
WORDS = 50, 200, 1000, 2000, 5000, 10_000, 20_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=Path, help="CSV with title and description; made-up articles without it")
    parser.add_argument("--seconds", type=float, default=10, help="counted seconds at each number of clients")
    parser.add_argument("--requests", type=int, default=0, help="requests to watch the memory over")
    parser.add_argument("--member", help="the shipped model's member that answers alone")
    options = parser.parse_args()
    articles = texts.choose(options.texts)
    print(f"{processor.describe()}, {len(articles)} articles, {options.member or 'the whole model'}\n")
    with (
        one_member.choose(Settings().model_repository, options.member) as repository,
        servers.newsdesk("--model-repository", str(repository)) as server,
    ):
        requests = load.asking(server.http_port, MODEL, articles)
        load.run("127.0.0.1", server.http_port, requests, 32, 5)
        print("| clients | articles/s | p50 ms | p99 ms | failures |\n|---:|---:|---:|---:|---:|")
        speeds = []
        for clients in CLIENTS:
            run = load.run("127.0.0.1", server.http_port, requests, clients, options.seconds)
            speeds.append(run.per_second)
            print(
                f"| {clients} | {run.per_second:.0f} | {run.p50_ms:.0f} | {run.p99_ms:.0f} | {run.failures} |",
                flush=True,
            )
        print(f"\nThe slowest is {100 * (1 - min(speeds) / max(speeds)):.0f} % below the fastest.\n")
        if options.requests:
            _memory(server, requests, options.requests, max(speeds))
        _lengths(server, articles)


def _memory(server: servers.Server, requests: list[bytes], count: int, per_second: float) -> None:
    print("| requests answered | memory MB |\n|---:|---:|")
    answered, sizes = 0, [server.idle_mb()]
    print(f"| 0 | {sizes[0]:.0f} |", flush=True)
    while answered < count:
        run = load.run("127.0.0.1", server.http_port, requests, 128, count / 10 / per_second, warm_up=0)
        answered += run.answers
        sizes.append(server.idle_mb())
        print(f"| {answered} | {sizes[-1]:.0f} |", flush=True)
    print(f"\nFrom the second tenth to the last: {sizes[-1] - sizes[min(2, len(sizes) - 1)]:+.1f} MB.\n")


def _lengths(server: servers.Server, articles: list[str]) -> None:
    words = " ".join(articles).split()
    print("| words | ms | ms per 1,000 words |\n|---:|---:|---:|")
    times = []
    with Client(f"grpc://127.0.0.1:{server.grpc_port}", timeout=120) as client:
        for count in WORDS:
            text, taken = " ".join(words[:count]), []
            client.classify(text, quality="best")
            for _ in range(3):
                began = perf_counter()
                client.classify(text, quality="best")
                taken.append(perf_counter() - began)
            times.append(1e3 * float(np.median(taken)))
            print(f"| {count} | {times[-1]:.1f} | {1000 * times[-1] / count:.1f} |", flush=True)
    long = [i for i, count in enumerate(WORDS) if count >= 1000]
    slope = np.polyfit(np.log([WORDS[i] for i in long]), np.log([times[i] for i in long]), 1)[0]
    print(f"\nTime grows with the power {slope:.2f} of the words.")


if __name__ == "__main__":
    main()
