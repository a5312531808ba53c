"""Rows a second of a file, in one run: `newsdesk score`, the gateway's file route, its jobs, Ray, and pipelines.

    python -m benchmarks.score [--rows 2000] [--quality balanced] [--memory 100000 1000000] [--ways score gateway …]

A CSV of made-up rows, or of the texts of a file, is read and answered by each. Seconds are of the whole command, with
the start of its processes, but the gateway's, which runs before. `--memory` scores files of so many rows at quality
fast, and says what `newsdesk score` and its processes hold at most.
"""

import argparse
import contextlib
import csv
import importlib.util
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from benchmarks import MODEL, one_member, servers, texts
from newsdesk.clients import Client, Prediction
from newsdesk.server.runtime import processor
from newsdesk.server.runtime.repository import latest_version
from newsdesk.server.serving import prepare
from newsdesk.server.serving.settings import Settings, granted_cores

_MEMBER = "minilm"
_SAMPLE_SECONDS = 0.25
_MAX_LENGTH, _BATCH = 256, 32
_FITTED = 400
_WAYS = "score", "gateway", "jobs", "ray", "member", "pipeline", "ray_pipeline"
_PIPELINE = f"""
import csv, sys
from transformers import pipeline
classify = pipeline('text-classification', sys.argv[1], device='cpu', batch_size={_BATCH})
texts = (row['text'] for row in csv.DictReader(open(sys.argv[2], encoding='utf-8')))
print(sum(1 for _ in classify(texts, truncation=True, max_length={_MAX_LENGTH})))
"""
_RAY_PIPELINE = f"""
import sys
import ray
class Classify:
    def __init__(self, checkpoint):
        from transformers import pipeline
        self.pipeline = pipeline('text-classification', checkpoint, device='cpu', batch_size={_BATCH})
    def __call__(self, batch):
        answers = self.pipeline(list(batch['text']), truncation=True, max_length={_MAX_LENGTH})
        return {{'id': batch['id'], 'label': [answer['label'] for answer in answers]}}
ray.init(log_to_driver=False, include_dashboard=False)
cores = int(ray.cluster_resources()['CPU'])
rows = ray.data.read_csv(sys.argv[2]).repartition(4 * cores).materialize()  # before actors hold all cores
actors = dict(fn_constructor_args=(sys.argv[1],), num_cpus=1, concurrency=cores)
print(rows.map_batches(Classify, batch_size={4 * _BATCH}, **actors).materialize().count())
"""
"""A model in a process of each core, with a thread of torch's: Ray gives each actor one."""


@dataclass(frozen=True)
class Reading:
    """A file that was answered: its rows, the seconds of it, and the most memory meanwhile in MB (0: not looked at)."""

    name: str
    rows: int
    seconds: float
    peak_mb: float = 0.0

    @property
    def row(self) -> str:
        peak = f"{self.peak_mb:,.0f}" if self.peak_mb else ""
        return f"| {self.name} | {self.rows:,} | {self.seconds:.1f} | {self.rows / self.seconds:,.0f} | {peak} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--quality", default="balanced")
    parser.add_argument("--texts", type=Path, help="CSV with title and description; made-up articles without it")
    parser.add_argument("--ways", nargs="+", default=_WAYS, choices=_WAYS)
    parser.add_argument("--memory", nargs="*", type=int, default=[], help="rows of files that are scored at fast")
    parser.add_argument("--note", default="", help="a sentence for the page, as that the machine is busy")
    parser.add_argument("--write", type=Path, help="write the table there as a page, too")
    options = parser.parse_args()
    articles = texts.choose(options.texts)
    repository = Settings().model_repository
    prepare.prepare(repository / MODEL, Settings().state, _say)  # once a machine: no part of a run
    readings: list[Reading] = []
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        file = _file(folder / "rows.csv", articles, options.rows)
        for way, measure in _measures(folder, file, articles, options.rows, options.quality).items():
            if way in options.ways:
                _say(f"measuring {way}")
                readings.append(measure())
                print(readings[-1].row, flush=True)
        for rows in options.memory:
            large = _file(folder / "many.csv", articles, rows)
            readings.append(_score(f"`newsdesk score --quality fast`, {rows:,} rows", large, rows, "fast"))
            print(readings[-1].row, flush=True)
    page = _page(readings, options.note)
    print(page)
    if options.write:
        options.write.write_text(page)


def _measures(
    folder: Path, file: Path, articles: list[str], rows: int, quality: str
) -> dict[str, Callable[[], Reading]]:
    def ray() -> Reading:
        if importlib.util.find_spec("ray") is None:
            sys.exit("ray is not installed: pip install 'newsdesk[ray]', or leave it out of --ways")
        return _score("`newsdesk score --on ray`, a node of this machine", file, rows, quality, "--on", "ray")

    def member() -> Reading:
        repository = one_member.write(Settings().model_repository, _MEMBER, folder / "one")
        prepare.prepare(repository / MODEL, Settings().state, _say)
        name = f"`newsdesk score`, {_MEMBER} alone"
        return _score(name, file, rows, quality, "--model-repository", str(repository))

    def pipeline(name: str, program: str) -> Reading:
        from benchmarks.peers import checkpoint

        with tempfile.TemporaryDirectory(dir=folder) as alone:
            repository = one_member.write(Settings().model_repository, _MEMBER, Path(alone) / "model")
            made = checkpoint.write(latest_version(repository / MODEL), articles[:_FITTED], Path(".cache/peers"))
        return _program(f"a transformers pipeline of {_MEMBER} {name}, batches of {_BATCH}", program, made, file, rows)

    return {
        "score": lambda: _score(f"`newsdesk score`, {quality}", file, rows, quality),
        "gateway": lambda: _gateway(file, rows, quality),
        "jobs": lambda: _jobs(file, rows, quality),
        "ray": ray,
        "member": member,
        "pipeline": lambda: pipeline("in one process, torch's threads on all cores", _PIPELINE),
        "ray_pipeline": lambda: pipeline("in Ray Data, an actor a core", _RAY_PIPELINE),
    }


def _file(path: Path, articles: list[str], rows: int) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "text"])
        # Each of its own: nothing that remembers texts would be measured.
        writer.writerows([row, f"{articles[row % len(articles)]} {row}"] for row in range(rows))
    return path


def _score(name: str, file: Path, rows: int, quality: str, *options: str) -> Reading:
    out = file.with_name("scored.csv")
    command = [str(Path(sys.executable).with_name("newsdesk")), "score", str(file), str(out)]
    began = time.monotonic()
    process = subprocess.Popen([*command, "--quality", quality, "--overwrite", *options], stdout=sys.stderr)
    with _peak(process.pid) as peak:
        code = process.wait()
    seconds = time.monotonic() - began
    if code:
        sys.exit(f"{' '.join(command)} ended with {code}")
    with out.open(encoding="utf-8", newline="") as written:
        if sum(1 for _ in csv.reader(written)) != rows + 1:
            sys.exit(f"{out} has not the {rows} rows of {file}")
    out.unlink()
    return Reading(name, rows, seconds, peak[0])


def _gateway(file: Path, rows: int, quality: str) -> Reading:
    with servers.newsdesk(gateway=True) as server:
        url = f"http://127.0.0.1:{server.gateway_port}/v1/classify/file?quality={quality}"
        began = time.monotonic()
        with file.open("rb") as body, _peak(server.pid) as peak:
            headers = {"Content-Type": "text/csv", "Content-Length": str(file.stat().st_size)}
            with urllib.request.urlopen(urllib.request.Request(url, body, headers), timeout=3600) as answer:
                labelled = sum(b'"label"' in line for line in answer)
        if labelled != rows:
            sys.exit(f"the gateway has answered {labelled} of {rows} rows")
        return Reading(f"the gateway's file route, {quality}", rows, time.monotonic() - began, peak[0])


def _jobs(file: Path, rows: int, quality: str) -> Reading:
    with servers.newsdesk(gateway=True) as server:
        began = time.monotonic()
        with _peak(server.pid) as peak, Client(f"gateway+http://127.0.0.1:{server.gateway_port}") as client:
            job = client.jobs.wait(client.jobs.submit(file, quality=quality))
            labelled = sum(isinstance(item, Prediction) for item in client.jobs.result(job))
            seconds = time.monotonic() - began
            client.jobs.cancel(job)
        if labelled != rows:
            sys.exit(f"the job has answered {labelled} of {rows} rows")
        return Reading(f"a job of the gateway, {quality}", rows, seconds, peak[0])


def _program(name: str, program: str, checkpoint: Path, file: Path, rows: int) -> Reading:
    command = [sys.executable, "-c", program, str(checkpoint), str(file)]
    began = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    with _peak(process.pid) as peak:
        output, _ = process.communicate()
    if process.returncode or int(output.split()[-1]) != rows:
        sys.exit(f"{name}: {output!r}, expected {rows} rows")
    return Reading(name, rows, time.monotonic() - began, peak[0])


@contextlib.contextmanager
def _peak(pid: int) -> Iterator[list[float]]:
    """Yield a list whose one number is the most memory that a process and all below it held, in MB, meanwhile."""
    peak, over = [0.0], threading.Event()

    def look() -> None:
        while not over.wait(_SAMPLE_SECONDS):
            peak[0] = max(peak[0], servers.resident_mb(servers.family(pid)))

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield peak
    finally:
        over.set()
        thread.join()


def _page(readings: list[Reading], note: str) -> str:
    return "\n".join(
        [
            "# Files of rows\n",
            f"Printed by `python -m benchmarks.score` on {date.today()}, {granted_cores()} cores, "
            f"{processor.kernels()}.",
            *([note] if note else []),
            "Seconds are of the whole command, with the start of its processes; the gateway ran before. The peak is of "
            "the processes together, pages that they share counted once.\n",
            "| way | rows | seconds | rows/s | peak MB |",
            "|---|---:|---:|---:|---:|",
            *(reading.row for reading in readings),
            "",
        ]
    )


def _say(what: str) -> None:
    print(what, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
