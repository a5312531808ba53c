"""The student alone, in this process, on one core: articles/s to clean and encode, to run the graph, and all together.

    python -m benchmarks.student [--texts test.csv.gz] [--repository model_repository]

Runs with the target that the manifest gives the student, or with --target. The best of five rounds counts.
"""

import argparse
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

from benchmarks import texts
from newsdesk.server.runtime import batching, engines, manifest, processor, targets
from newsdesk.server.runtime.member import LoadedMember
from newsdesk.server.runtime.ngrams import Ngrams
from newsdesk.server.runtime.repository import latest_version
from newsdesk.server.runtime.text import clean
from newsdesk.server.serving.settings import Settings

TOGETHER = 1, 8, 64
"""Articles that arrive together."""
ROUNDS = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=Path, help="CSV with title and description; made-up articles without it")
    parser.add_argument("--count", type=int, default=2048, help="articles a round")
    parser.add_argument("--repository", type=Path, default=Settings().model_repository)
    parser.add_argument("--model", default="ag_news")
    parser.add_argument("--target", default="", help="such as onnxruntime:int8; the manifest's without it")
    options = parser.parse_args()
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    folder = latest_version(options.repository / options.model)
    described = manifest.load(folder)
    about = next((member for member in described.members if member.kind == "ngrams"), None)
    if about is None:
        sys.exit(f"{folder}: no member reads n-grams; give a --repository whose recipe has a student")
    target = options.target or targets.choose("", described)[about.name]
    articles = texts.choose(options.texts)[: options.count]
    ngrams = Ngrams.load(folder / about.tokenizer.path)
    engine = engines.load(target, folder / about.graphs[engines.TARGETS[target]].path)
    member = LoadedMember(about, described.windows, folder, target, 1)
    ids = [len(row) for row in ngrams.encode([clean(article) for article in articles])]
    print(
        f"{about.name}, {target}, {len(articles)} articles of {sum(ids) / len(ids):.0f} ids; {processor.describe()}\n"
    )
    print("| articles together | clean, /s | encode, /s | run, /s | all, /s |\n|---:|---:|---:|---:|---:|")
    for together in TOGETHER:
        parts = [articles[at : at + together] for at in range(0, len(articles), together)]
        cleaned = [[clean(article) for article in part] for part in parts]
        bag, batches = batching.BagShapes(), []
        for part in cleaned:
            encoded = ngrams.encode(part)
            groups = bag.group([len(ids) for ids in encoded])
            batches.append([*batching.pad(encoded, groups, about.pad_id, bag)])
        rates = [
            _rate(len(articles), lambda parts=parts: [[clean(article) for article in part] for part in parts]),
            _rate(len(articles), lambda cleaned=cleaned: [ngrams.encode(part) for part in cleaned]),
            _rate(len(articles), lambda batches=batches: [engine(*arrays) for batch in batches for arrays in batch]),
            _rate(len(articles), lambda parts=parts: [member([clean(text) for text in part]) for part in parts]),
        ]
        print(f"| {together} | " + " | ".join(f"{rate:,.0f}" for rate in rates) + " |")


def _rate(count: int, work: Callable[[], object]) -> float:
    """Return articles/s of the best round, after one that warms up."""
    work()
    best = float("inf")
    for _ in range(ROUNDS):
        began = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - began)
    return count / best


if __name__ == "__main__":
    main()
