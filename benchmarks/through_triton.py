"""Measure Triton: the shipped model through the server, and the same engine in processes of one's own.

    python -m benchmarks.through_triton [--texts test.csv.gz] [--seconds 20] [--member minilm]

At saturation: as many processes as the server has, one thread each, which classify batches of 64 without a pause,
against 128 clients of the server over HTTP. The clients' generator takes its part of the same cores, which is measured
(its processor time) and named. At one client: the time of a text alone, through the server and in this process in
turn, so that both meet the same neighbours, and a core that was idle before; what Triton adds is the median of the
differences. And the padding waste, as the server's metrics tell it. With --member it is that member alone, as it is
compared with its peers.
"""

import argparse
import multiprocessing
import os
import re
import socket
import time
import urllib.request
from pathlib import Path

import numpy as np

from benchmarks import MODEL, one_member, servers, texts
from newsdesk.server.runtime import manifest, processor
from newsdesk.server.runtime.classifier import Classifier
from newsdesk.server.runtime.repository import latest_version
from newsdesk.server.serving import load, prepare
from newsdesk.server.serving.settings import Settings, granted_cores

BATCH, CLIENTS, ALONE = 64, 128, 500


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=Path, help="CSV with title and description; made-up articles without it")
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--model-repository", type=Path, default=Settings().model_repository)
    parser.add_argument("--member", help="the shipped model's member that answers alone")
    parser.add_argument("--rounds", type=int, default=2, help="turns of both at saturation; medians are printed")
    options = parser.parse_args()
    with one_member.choose(options.model_repository, options.member) as repository:
        measure(options, repository)


def measure(options: argparse.Namespace, repository: Path) -> None:
    articles = texts.choose(options.texts)
    model = repository.absolute() / MODEL
    target = prepare.prepare(model, Settings().state, print).target
    folder, cores = latest_version(model), granted_cores()
    flags = ("--model-repository", str(model.parent), "--target", target, "--instances", str(cores), "--threads", "1")
    own, served, share, alone = [], [], [], []
    for _ in range(options.rounds):
        own.append(_in_process(folder, target, articles, cores, options.seconds))
        with servers.newsdesk(*flags, "--queue-delay", "0") as server:
            requests = load.asking(server.http_port, MODEL, articles)
            began = time.process_time()
            many = load.run("127.0.0.1", server.http_port, requests, CLIENTS, options.seconds, warm_up=3)
            share.append((time.process_time() - began) / (options.seconds + 3) / cores)
            served.append(many.per_second)
            waste = _waste(server)
            alone.append(_alone(_ready(folder, target), server.http_port, articles))
    inside, through, generator = (float(np.median(rates)) for rates in (own, served, share))
    here, there, added = np.median(alone, 0)
    print(
        f"{processor.describe()}, {cores} cores, {target}, {len(articles)} articles, "
        f"medians of {options.rounds} turns\n"
    )
    print(f"in {cores} processes of our own   {inside:.0f} articles/s")
    print(
        f"through Triton, {CLIENTS} clients {through:.0f} articles/s, {100 * through / inside:.0f} % of that; ", end=""
    )
    print(f"the generator took {100 * generator:.0f} % of the cores: of what it left, ", end="")
    print(f"{100 * through / inside / (1 - generator):.0f} %")
    print(f"one text alone, p50         {here:.2f} ms; through Triton, one client {there:.2f} ms; ", end="")
    print(f"of the same text {added:+.2f} ms")
    print(f"padding waste               {waste:.3f} computed tokens for a real one")


def _in_process(folder: Path, target: str, articles: list[str], processes: int, seconds: float) -> float:
    """Return articles/s of all processes together."""
    context = multiprocessing.get_context("spawn")
    ready, counts = context.Barrier(processes), context.Queue()
    os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"))
    started = [
        context.Process(target=_classify, args=(folder, target, articles[i::processes], seconds, ready, counts))
        for i in range(processes)
    ]
    for process in started:
        process.start()
    total = sum(counts.get(timeout=seconds + 120) for _ in started)
    for process in started:
        process.join()
    return total


def _classify(folder: Path, target: str, articles: list[str], seconds: float, ready, counts) -> None:
    classifier = _ready(folder, target)
    ready.wait()
    done, began, at = 0, time.perf_counter(), 0
    while (passed := time.perf_counter() - began) < seconds:
        batch = articles[at : at + BATCH]
        classifier.classify(batch)
        done, at = done + len(batch), (at + BATCH) % len(articles)
    counts.put(done / passed)


def _alone(classifier: Classifier, port: int, articles: list[str]) -> tuple[float, float, float]:
    """Return medians in ms: of a text alone in this process, through the server, and of the difference."""
    here, there = np.empty((2, min(ALONE, len(articles))))
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for i, request in enumerate(load.asking(port, MODEL, articles[:ALONE])):
            began = time.perf_counter()
            connection.sendall(request)
            head, parted, body = b"", b"", b""
            while not (parted and load.whole(head, body)):
                if not (part := connection.recv(1 << 16)):
                    raise RuntimeError("the server hung up before its answer was whole")
                head, parted, body = (head + parted + body + part).partition(b"\r\n\r\n")
            there[i] = time.perf_counter() - began
            began = time.perf_counter()
            classifier.classify(articles[i : i + 1])
            here[i] = time.perf_counter() - began
    return tuple(1e3 * float(np.median(milliseconds)) for milliseconds in (here, there, there - here))


def _ready(folder: Path, target: str) -> Classifier:
    classifier = Classifier(manifest.load(folder), folder, target, 1)
    classifier.warm_up()
    return classifier


def _waste(server: servers.Server) -> float:
    """Return computed tokens over real ones."""
    time.sleep(1)
    with urllib.request.urlopen(f"http://127.0.0.1:{server.metrics_port}/metrics", timeout=10) as response:
        metrics = response.read().decode()
    real, computed = (
        sum(float(value) for value in re.findall(rf"^newsdesk_{kind}_tokens_total{{.*}} (\S+)$", metrics, re.MULTILINE))
        for kind in ("real", "computed")
    )
    return computed / real


if __name__ == "__main__":
    main()
