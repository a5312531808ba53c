"""Every row of a labelled file through the running server over gRPC, and the same artifact in this process.

    python -m benchmarks.accuracy --data test.csv.gz [--checkpoint artifacts/train/<key>/checkpoint]

Starts `newsdesk serve`, classifies each row by a request of its own (many at once, so that batches form), and compares
row by row with the same artifact run here, one text at a time, at every quality. With --checkpoint also with the float
original of the first encoder.
"""

import argparse
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from benchmarks import MODEL, servers
from newsdesk.build.data import sources
from newsdesk.build.data.cleaning import LabelReader
from newsdesk.build.evaluation.metrics import accuracy, agreement, macro_f1
from newsdesk.build.recipe import Source
from newsdesk.clients import Client
from newsdesk.server.contract import QUALITIES
from newsdesk.server.runtime import manifest, processor
from newsdesk.server.runtime.classifier import Classifier
from newsdesk.server.runtime.repository import latest_version
from newsdesk.server.runtime.request import read
from newsdesk.server.serving import prepare
from newsdesk.server.serving.settings import Settings

SAME = 0.999
"""Share of the rows whose label must be the same. In company a probability moves in the third decimal, which moves a
text on the border to another level."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="CSV, JSONL or Parquet: title, description, label")
    parser.add_argument("--first-label", type=int, default=1, help="the number of the first label (official CSV: 1)")
    parser.add_argument("--target", default="", help="compile target of both sides; what `serve` would choose without")
    parser.add_argument("--checkpoint", type=Path, help="from_pretrained folder of the float original")
    options = parser.parse_args()
    folder = latest_version(Settings().model_repository / MODEL)
    made = manifest.load(folder)
    source = Source(file=options.data, text_columns=("title", "description"), first_label=options.first_label)
    rows = [*sources.read(source)]
    articles = [row.text for row in rows]
    known = LabelReader(made.labels, options.first_label)
    truth = np.array([known.index(row.label) for row in rows])
    report, worst = {}, 1.0
    target = options.target or prepare.prepare(folder.parent, Settings().state, print).target
    classifier = Classifier(made, folder, target)
    with servers.newsdesk("--target", target) as server:
        for place, quality in enumerate(QUALITIES):
            served = _served(f"grpc://127.0.0.1:{server.grpc_port}", articles, made.labels, quality)
            here = _here(classifier, articles, place)
            report |= {f"{quality}, served": (served, served), f"{quality}, in process": (here, served)}
            worst = min(worst, agreement(served, here))
    if options.checkpoint:
        encoder = next(member for member in made.members if member.kind == "encoder")
        report[f"{encoder.name}, float original"] = _original(options.checkpoint, articles, encoder.max_length), served
    print(f"{len(articles)} rows, {target}, {processor.describe()}\n")
    print("| | accuracy % | macro F1 | same label as served | largest difference |")
    print("|---|---:|---:|---:|---:|")
    for name, (probabilities, beside) in report.items():
        print(
            f"| {name} | {100 * accuracy(probabilities, truth):.2f} | {macro_f1(probabilities, truth):.4f} "
            f"| {100 * agreement(probabilities, beside):.2f} % | {np.abs(probabilities - beside).max():.2g} |"
        )
    if worst < SAME:
        sys.exit(f"the server names the label of this process for {worst:.2%} of the rows, expected {SAME:.1%}")


def _served(url: str, articles: Sequence[str], labels: list[str], quality: str) -> np.ndarray:
    """Return the server's probabilities, a request a text, 64 at a time."""
    with Client(url) as client, ThreadPoolExecutor(64) as threads:
        answers = threads.map(lambda text: client.classify(text, quality=quality), articles)
        return np.array([[answer.probabilities[label] for label in labels] for answer in answers])


def _here(classifier: Classifier, articles: Sequence[str], quality: int) -> np.ndarray:
    asked = np.array([quality])
    return np.concatenate([classifier.classify([read(text.encode())], asked).probabilities for text in articles])


def _original(checkpoint: Path, articles: Sequence[str], max_length: int) -> np.ndarray:
    from newsdesk.build.evaluation.metrics import softmax
    from newsdesk.build.training.trainer import logits

    return softmax(logits(checkpoint, [read(text.encode()) for text in articles], max_length))


if __name__ == "__main__":
    main()
