"""Every row of a labelled file through the running server over gRPC, and the same artefact in this process.

    python -m benchmarks.accuracy --data test.csv.gz [--checkpoint artifacts/train/<key>/checkpoint]

Starts `newsdesk serve`, classifies each row by a request of its own (many at once, so that batches form), and compares
row by row with the same artefact run here, one text at a time. With --checkpoint also with the float original.
"""

import argparse
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from benchmarks import servers
from newsdesk.build.data import sources
from newsdesk.build.data.cleaning import Labels
from newsdesk.build.evaluation.metrics import accuracy, agreement, macro_f1
from newsdesk.build.recipe import Source
from newsdesk.clients import Client
from newsdesk.server.ensemble import manifest
from newsdesk.server.ensemble.classifier import Classifier
from newsdesk.server.ensemble.request import read
from newsdesk.server.settings import Settings


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="CSV, JSONL or Parquet: title, description, label")
    parser.add_argument("--first-label", type=int, default=1, help="the number of the first label (official CSV: 1)")
    parser.add_argument("--target", default="openvino:int8", help="compile target of both sides")
    parser.add_argument("--checkpoint", type=Path, help="from_pretrained folder of the float original")
    given = parser.parse_args()
    folder = Settings().model_repository / "ag_news" / "1"
    made = manifest.load(folder)
    source = Source(file=given.data, text_columns=("title", "description"), first_label=given.first_label)
    rows = [*sources.read(source)]
    articles = [row.text for row in rows]
    known = Labels(made.labels, given.first_label)
    truth = np.array([known.index(row.label) for row in rows])
    with servers.newsdesk("--target", given.target) as server:
        served = _served(f"grpc://127.0.0.1:{server.grpc_port}", articles, made.labels)
    here = _here(Classifier(made, folder, given.target), articles)
    report = {"served": served, "in process": here}
    if given.checkpoint:
        report["float original"] = _original(given.checkpoint, articles, made.members[0].max_length)
    print(f"{len(articles)} rows, {given.target}\n")
    print("| | accuracy % | macro F1 | same label as served | largest difference |")
    print("|---|---:|---:|---:|---:|")
    for name, probabilities in report.items():
        print(
            f"| {name} | {100 * accuracy(probabilities, truth):.2f} | {macro_f1(probabilities, truth):.4f} "
            f"| {100 * agreement(probabilities, served):.2f} % | {np.abs(probabilities - served).max():.2g} |"
        )
    if agreement(served, here) < 1:
        sys.exit("the server does not answer as the same artefact does in this process")


def _served(url: str, articles: Sequence[str], labels: list[str]) -> np.ndarray:
    """Return the server's probabilities, a request a text, 64 at a time."""
    with Client(url) as client, ThreadPoolExecutor(64) as threads:
        answers = threads.map(client.classify, articles)
        return np.array([[answer.probabilities[label] for label in labels] for answer in answers])


def _here(classifier: Classifier, articles: Sequence[str]) -> np.ndarray:
    return np.concatenate([classifier.classify([read(text.encode())]).probabilities for text in articles])


def _original(checkpoint: Path, articles: Sequence[str], max_length: int) -> np.ndarray:
    from newsdesk.build.evaluation.metrics import softmax
    from newsdesk.build.training.trainer import logits

    return softmax(logits(checkpoint, [read(text.encode()) for text in articles], max_length))


if __name__ == "__main__":
    main()
