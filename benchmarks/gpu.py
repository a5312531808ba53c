"""The whole ensemble on a GPU, through the real server: parity with the CPU, articles/s, share of the peak, the rest.

    pip install 'newsdesk[serve,gpu]' torch 'tensorrt>=10.12'      # on the machine with the GPU
    python -m benchmarks.gpu --target tensorrt:int8-fp16 --model-repository my_repository [--texts test.csv.gz]

The target is one for every member or each its own, as of `newsdesk serve`: members without such a graph, as a student,
keep the manifest's. Processes of the CPU share the GPU, so several `--instances` are tried. Requests go over gRPC and
hold an article each, or as many as `--together` says; the generator takes one core, and the share of it that it took is
printed: near 100 % it was the limit. With a target of the CPU everything here runs without a GPU, to see that it works.
Ends with code 1 where a request fails, or a label differs from the CPU's on more than one text in a hundred.
"""

import argparse
import re
import sys
import time
import urllib.request
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks import MODEL, grpc_load, pages, peak, servers, steps, texts
from newsdesk.build.compile.verify import EXTREMES
from newsdesk.clients import Client
from newsdesk.server.contract import MAX_BATCH, QUALITIES, STANDARD_OUTPUTS
from newsdesk.server.runtime import engines, gpu, manifest, processor, targets
from newsdesk.server.runtime.classifier import Classifier
from newsdesk.server.runtime.errors import EngineError
from newsdesk.server.runtime.grids import Grid
from newsdesk.server.runtime.manifest import Manifest, Member
from newsdesk.server.runtime.repository import latest_version
from newsdesk.server.runtime.request import read
from newsdesk.server.runtime.tokens import Tokens
from newsdesk.server.serving import load
from newsdesk.server.serving.settings import Settings, granted_cores

CLIENTS = (1, 32, 128, 512, 1024)
OBJECTIVE_MS = 100
"""The longest p99; the most articles/s within it are named."""
AGREEMENT = 0.99
"""Share of the texts on which the CPU must give the same label."""
PRODUCT_ON_CPU = 256
"""Rows and columns of the product that is the peak there: torch's int8 one is slow."""
ON_CPU = "openvino", "onnxruntime"
HEAD = "# The ensemble on a GPU\n\nPrinted by `python -m benchmarks.gpu`, see its help.\n"
_COUNTERS = {
    "requests": "nv_inference_request_success",
    "batches": "nv_inference_exec_count",
    "queue": "nv_inference_queue_duration_us",
    "input": "nv_inference_compute_input_duration_us",
    "infer": "nv_inference_compute_infer_duration_us",
    "output": "nv_inference_compute_output_duration_us",
}


class Ready(NamedTuple):
    """The input of every measurement: a version folder, and a target of each member."""

    described: Manifest
    folder: Path
    chosen: dict[str, str]
    articles: list[str]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", required=True, help="tensorrt:fp16, or minilm=tensorrt:fp16,e5=tensorrt:int8-fp16")
    parser.add_argument("--against", default="", help="the CPU's target that answers are compared with")
    parser.add_argument("--model-repository", type=Path, default=Settings().model_repository)
    parser.add_argument("--texts", type=Path, help="CSV with title and description or text, or a line an article")
    parser.add_argument("--compared", type=int, default=400, help="texts that are compared with the CPU's answers")
    parser.add_argument("--profiled", type=int, default=1024, help="texts of the profile")
    parser.add_argument("--quality", choices=QUALITIES, default="best", help="best: every member is asked the most")
    parser.add_argument("--clients", nargs="+", type=int, default=CLIENTS)
    parser.add_argument("--together", type=int, default=1, help=f"articles a request, at most {MAX_BATCH}")
    parser.add_argument("--instances", nargs="+", type=int, default=[0], help="backend processes to try; 0: the cores")
    parser.add_argument("--seconds", type=float, default=10, help="counted at each number of clients")
    parser.add_argument("--product", type=int, default=0, help="rows of the product that is the peak; 0: the device's")
    parser.add_argument("--write", type=Path, help="put the figures into this page, too, in place of the last ones")
    options = parser.parse_args()
    try:
        articles = texts.choose(options.texts)
        if not 1 <= options.together <= min(MAX_BATCH, len(articles)):
            raise ValueError(f"--together {options.together}: expected 1 to {min(MAX_BATCH, len(articles))} articles")
        ready = choose(options.target, options.model_repository.absolute() / MODEL, articles)
        reference = against(options.against, ready.described)
    except (EngineError, ValueError) as error:
        sys.exit(str(error))
    here = gpu.find()
    device = f"{here.name} (compute capability {here.compute_capability}, CUDA {here.cuda}), " if here else ""
    about = f"{device}{processor.describe()}, {granted_cores()} cores, {time.strftime('%Y-%m-%d')}."
    print(about, "\n", flush=True)

    compared, wrong = parity(ready, reference, options.compared)
    lines = [*compared, ""]
    print("\n".join(lines), flush=True)
    parts = [speed(ready, options.product, min(1.0, options.seconds)), profile(ready, options.profiled)]
    for part in parts:
        print("\n".join([*part, ""]), flush=True)
        lines += [*part, ""]
    served, failures = throughput(ready, options)
    print("\n".join(served))
    if options.write:
        title = f"## {options.target}: {', '.join(member.name for member in ready.described.members)}"
        pages.put(options.write, HEAD, "\n".join([title, "", about, "", *lines, *served, ""]))
    if failures or wrong:
        sys.exit(f"{failures} requests failed" if failures else wrong)


def choose(target: str, model: Path, articles: list[str]) -> Ready:
    """Return what is measured. Raises EngineError, with what to do, where it cannot run on this machine."""
    wanted = sorted({engine.partition(":")[0] for engine in targets.parse(target).values()} - {*ON_CPU})
    if wanted and gpu.find() is None:
        needed = "; ".join(engines.INSTALL[engine] for engine in wanted)
        raise EngineError(
            f"target {target!r} needs an NVIDIA GPU, and this machine has none, or no driver (libcuda.so.1). Run this "
            f"on one, with: pip install 'newsdesk[serve]' torch; {needed}. What it measures can be tried here with "
            "--target onnxruntime:int8."
        )
    folder = latest_version(model)
    described = manifest.load(folder)
    chosen = targets.choose(target, described)
    targets.check(targets.write(chosen), described)
    return Ready(described, folder, chosen, articles)


def against(line: str, described: Manifest) -> dict[str, str]:
    """Return member → the CPU's target that it is compared with: ONNX Runtime, in fp32 where there is that graph."""
    if line:
        return targets.choose(line, described)
    compared = {}
    for member in described.members:
        known = [graph for graph in ("onnxruntime:fp32", "onnxruntime:int8") if targets.runs(graph, member)]
        if not known:
            raise EngineError(f"member {member.name} has no graph for a CPU to compare with, only {[*member.graphs]}")
        compared[member.name] = known[0]
    return compared


def parity(ready: Ready, reference: dict[str, str], count: int) -> tuple[list[str], str]:
    """Compare each member, and what the server answers, with the CPU; return a table, and what is wrong, or ""."""
    with (
        servers.newsdesk(*_flags(ready, 1)) as server,
        Client(f"grpc://127.0.0.1:{server.grpc_port}") as client,
        ThreadPoolExecutor(32) as threads,
    ):
        answers = [*threads.map(lambda text: client.classify(text, quality="best"), ready.articles[:count])]
    served = np.array([[answer.probabilities[label] for label in ready.described.labels] for answer in answers])
    return compare(ready, reference, served)


def compare(ready: Ready, reference: dict[str, str], served: np.ndarray) -> tuple[list[str], str]:
    """Return the table, and what is wrong, of what was served for the first articles, FP32 [texts, labels]."""
    cleaned = [read(text.encode()) for text in ready.articles[: len(served)]]
    ours, theirs = (
        Classifier(ready.described, ready.folder, targets.write(chosen)) for chosen in (ready.chosen, reference)
    )
    strange = [read(text.encode()) for text in EXTREMES.values()]
    lines = [
        f"Compared with {targets.write(reference)} on {len(cleaned)} texts, and {len(strange)} strange ones:",
        "",
        "| what | same label | largest difference of a probability | mean | largest on the strange ones |",
        "|---|---:|---:|---:|---:|",
    ]
    wrong = ""
    for mine, their in zip(ours.members, theirs.members, strict=True):
        name = f"{mine.name}, {ready.chosen[mine.name]}"
        odd, expected = mine(strange).probabilities, their(strange).probabilities
        line, problem = _compared(name, mine(cleaned).probabilities, their(cleaned).probabilities)
        lines.append(f"{line} {np.abs(odd - expected).max():.4f} |")
        wrong = wrong or problem or ("" if np.isfinite(odd).all() else f"{name}: no numbers for a strange text")
    best = np.full(len(cleaned), QUALITIES.index("best"))
    line, problem = _compared("the ensemble, served", served, theirs.classify(cleaned, best).probabilities)
    return [*lines, f"{line} |"], wrong or problem


def _compared(name: str, served: np.ndarray, expected: np.ndarray) -> tuple[str, str]:
    """Return a line of the table but for its last cell, and what is wrong, or ""."""
    difference, same = np.abs(served - expected).max(-1), float((served.argmax(-1) == expected.argmax(-1)).mean())
    line = f"| {name} | {same:.2%} | {difference.max():.4f} | {difference.mean():.5f} |"
    if same >= AGREEMENT and np.isfinite(served).all():
        return line, ""
    return line, f"{name}: the label is the CPU's on {same:.2%} of the texts, expected {AGREEMENT:.0%} and numbers"


def speed(ready: Ready, product: int, seconds: float) -> list[str]:
    """Return a table of each encoder's engine alone at its largest batch, and its share of the measured peak.

    All its products count as if they multiplied in the lowest precision in it: attention's in fp16 cost it share.
    """
    peaks: dict[tuple[str, bool], float] = {}
    lines = [
        "| engine | batch | ms | texts/s | T operations/s | peak, measured | share |",
        "|---|---|---:|---:|---:|---:|---:|",
    ]
    for member in ready.described.members:
        if member.kind == "ngrams":
            continue
        target = ready.chosen[member.name]
        engine = engines.load(target, ready.folder / member.graphs[engines.TARGETS[target]].path)
        on_cpu = target.partition(":")[0] in ON_CPU
        precision = target.partition(":")[2].removesuffix("-fp16").removesuffix("-dynamic")
        shown = ""
        try:
            if (precision, on_cpu) not in peaks:
                size = product or (PRODUCT_ON_CPU if on_cpu else peak.SIZE)
                peaks[precision, on_cpu] = peak.peak(precision, "cpu" if on_cpu else "cuda", size, seconds)
            most = peaks[precision, on_cpu]
        except RuntimeError as error:
            most, shown = float("nan"), str(error).splitlines()[0]
        for batch, length in _shapes(member, ready, engine):
            ran = peak.speed(engine, batch, length, seconds)
            done = peak.operations(member, ready.folder, length) * ran.per_second
            lines.append(
                f"| {member.name}, {target} | {batch} × {length} | {1e3 * ran.seconds:.2f} | {ran.per_second:,.0f} "
                f"| {done / 1e12:.2f} | " + (shown or f"{precision}: {most / 1e12:.2f}") + f" | {done / most:.0%} |"
            )
    return lines


def profile(ready: Ready, count: int) -> list[str]:
    """Return a table of what each step of the process takes of an article, 64 together."""
    loaded = {
        member.name: engines.load(
            ready.chosen[member.name], ready.folder / member.graphs[engines.TARGETS[ready.chosen[member.name]]].path
        )
        for member in ready.described.members
    }
    classifier = Classifier(ready.described, ready.folder, targets.write(ready.chosen))
    classifier.warm_up()
    spent = steps.measure(ready.described, ready.folder, loaded, classifier, ready.articles[:count], 64)
    total = sum(spent.values())
    lines = [
        "In one process, articles 64 together, every member asked:",
        "",
        "| step | µs an article | share |",
        "|---|---:|---:|",
    ]
    return lines + [f"| {name} | {taken:.1f} | {taken / total:.0%} |" for name, taken in spent.items()]


def throughput(ready: Ready, options: argparse.Namespace) -> tuple[list[str], int]:
    """Measure the server at each number of processes and clients; return a table, and how many requests failed."""
    requests = grpc_load.encode(ready.articles, options.quality, STANDARD_OUTPUTS, together=options.together)
    articles = "an article" if options.together == 1 else f"{options.together} articles"
    lines = [
        f"Through the server, quality {options.quality}, {articles} a request, gRPC; in Triton, the mean of a request:",
        "",
        "| processes | clients | articles/s | p50 ms | p99 ms | failures | texts a batch | queue ms | backend ms "
        "| generator's core |",
        "|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    best, failures, warm = (0.0, ""), 0, min(2.0, options.seconds)
    for instances in options.instances:
        with servers.newsdesk(*_flags(ready, instances)) as server:
            for clients in options.clients:
                before, began, busy = _triton(server.metrics_port), time.perf_counter(), time.process_time()
                reading = load.run(
                    "127.0.0.1", server.grpc_port, requests, clients, options.seconds, warm, kind=grpc_load.Client
                )
                share = (time.process_time() - busy) / (time.perf_counter() - began)
                spent = {name: value - before[name] for name, value in _triton(server.metrics_port).items()}
                failures += reading.failures
                lines.append(_row(instances or granted_cores(), reading, spent, share, options.together))
                per_second = reading.per_second * options.together
                if reading.p99_ms < OBJECTIVE_MS and per_second > best[0]:
                    best = per_second, f"{instances or granted_cores()} processes and {clients} clients"
    within = f"{best[0]:,.0f} articles/s, with {best[1]}" if best[1] else "none"
    return [*lines, "", f"The most with p99 below {OBJECTIVE_MS} ms: {within}."], failures


def _row(instances: int, reading: load.LoadReading, spent: dict[str, float], share: float, together: int) -> str:
    requests, batches = max(spent["requests"], 1), max(spent["batches"], 1)
    inside = sum(spent[name] for name in ("input", "infer", "output"))
    return (
        f"| {instances} | {reading.clients} | {reading.per_second * together:,.0f} | {reading.p50_ms:.1f} "
        f"| {reading.p99_ms:.1f} | {reading.failures} | {together * requests / batches:.1f} "
        f"| {spent['queue'] / requests / 1e3:.2f} "
        f"| {inside / requests / 1e3:.2f} | {share:.0%} |"
    )


def _triton(port: int) -> dict[str, float]:
    """Return Triton's own counters of the model, of every version together."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as response:
        metrics = response.read().decode()
    return {
        name: sum(map(float, re.findall(rf'^{counter}{{[^}}]*model="{MODEL}"[^}}]*}} (\S+)$', metrics, re.MULTILINE)))
        for name, counter in _COUNTERS.items()
    }


def _shapes(member: Member, ready: Ready, engine: engines.Engine) -> list[tuple[int, int]]:
    """Return the shapes that an engine is measured at: its largest batch, at the texts' median length and longest."""
    tokens = Tokens(ready.folder / member.tokenizer.path, member.max_length)
    lengths = sorted(len(ids) for ids in tokens.encode([read(text.encode()) for text in ready.articles[:1000]]))
    wanted = lengths[len(lengths) // 2], lengths[-1]
    grid = engine.shapes(member.max_length)
    if not isinstance(grid, Grid):
        return [(8, length) for length in dict.fromkeys(wanted)]
    return list(dict.fromkeys(grid.fit(grid.batches[-1], length) for length in wanted))


def _flags(ready: Ready, instances: int) -> Sequence[str]:
    flags = ["--model-repository", str(ready.folder.parents[1]), "--target", targets.write(ready.chosen)]
    return [*flags, "--instances", str(instances or granted_cores()), "--threads", "1", "--queue-delay", "0"]


if __name__ == "__main__":
    main()
