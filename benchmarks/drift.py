"""Measure drift: answers to AG News's test rows and to BBC's texts, against the shipped model's validation rows.

    NEWSDESK_DATA=… python -m benchmarks.drift [--rows 2000] [--write benchmarks/results/drift.md]

The reference is measured here, in this process, on validation rows of the recipe `compact`; a model that has one in its
manifest keeps it. NEWSDESK_DATA names the folder of AG News and BBC. Ends with code 1 where BBC's long articles do not
show, or AG News does.
"""

import argparse
import sys
import time
from pathlib import Path

import numpy as np

from benchmarks import pages
from newsdesk.build import recipe as recipes
from newsdesk.build.data import outside, splits, tables, views
from newsdesk.build.data.rows import Row
from newsdesk.build.evaluation.examine import Examiner
from newsdesk.build.evaluation.markdown import table
from newsdesk.build.pipeline import building
from newsdesk.build.reference import measure
from newsdesk.server.contract import MAX_BATCH, QUALITIES
from newsdesk.server.runtime import processor
from newsdesk.server.runtime.cascade import DEFAULT
from newsdesk.server.runtime.classifier import BatchAnswers, Classifier, Work
from newsdesk.server.runtime.cores import granted_cores
from newsdesk.server.runtime.drift import HISTOGRAMS, Drift
from newsdesk.server.runtime.reference import Reference
from newsdesk.server.runtime.reference import measure as reference_of
from newsdesk.server.runtime.repository import find_version

HEAD = "# Drift\n\nPrinted by `python -m benchmarks.drift`, see its help.\n"
LITTLE, MUCH = 0.1, 0.25
FAR = "BBC, long articles"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model-repository", type=Path, default=Path("model_repository"))
    parser.add_argument("--artifacts", type=Path, default=Path("artifacts"), help="where the recipe's rows are kept")
    parser.add_argument("--rows", type=int, default=2000, help="rows of each source at most")
    parser.add_argument("--write", type=Path, help="put the tables into this page, too, in place of the last ones")
    parser.add_argument("--cost", action="store_true", help="measure what watching costs, and nothing else")
    options = parser.parse_args()
    sections, missed = [cost()], []
    if not options.cost:
        shown, missed = compare(options)
        sections.insert(0, shown)
    for section in sections:
        print(section)
        if options.write:
            pages.put(options.write, HEAD, section)
    sys.exit(bool(missed))


def compare(options: argparse.Namespace) -> tuple[str, list[str]]:
    """Return the section of the indices, and what does not meet the goal."""
    recipe = recipes.load("compact")
    split = building.data(recipe, options.artifacts, lambda line: print(line, file=sys.stderr))["split"]
    names, seed = tables.read_labels(split.path), recipe.seed
    version = find_version(options.model_repository)
    examiner = Examiner(version, granted_cores())
    reference = examiner.manifest.reference
    if reference is None:
        whole = [row for row in tables.read(split / "validation.parquet") if row.view == views.WHOLE]
        reference = measure(examiner, splits.draw(whole, options.rows, seed))
    sources = {"AG News, test rows": tables.read(split / "test.parquet")}
    sources |= {name: outside.labelled(source, names) for name, source in recipe.data.outside.items()}
    classifier = Classifier(examiner.manifest, version, threads=granted_cores())
    asked = {name: ask(classifier, splits.draw(rows, options.rows, seed)) for name, rows in sources.items()}
    shown = {name: index(reference, batches) for name, batches in asked.items()}
    missed = [
        f"{name}: {values}" for name, values in shown.items() if name.startswith("AG News") and max(values) > LITTLE
    ]
    missed += [f"{FAR}: no histogram above {MUCH}"] if max(shown[FAR]) <= MUCH else []
    section = "\n".join(
        [
            f"## Against {reference.rows:,} validation rows of AG News, {QUALITIES[DEFAULT]}",
            "",
            f"Population stability index of each histogram: below {LITTLE} little has changed, above {MUCH} much has. "
            f"{processor.describe()}, {granted_cores()} cores, {time.strftime('%Y-%m-%d')}.",
            "",
            table(
                ["texts", "number", *HISTOGRAMS],
                [
                    [name, f"{sum(map(len, (b.levels for b in asked[name]))):,}", *(f"{value:.3f}" for value in values)]
                    for name, values in shown.items()
                ],
            ),
            *(f"\nNot met: {line}." for line in missed),
            "",
        ]
    )
    return section, missed


def ask(classifier: Classifier, rows: list[Row]) -> list[BatchAnswers]:
    """Return the answers to rows, in batches as large as a request may be."""
    parts = [rows[at : at + MAX_BATCH] for at in range(0, len(rows), MAX_BATCH)]
    return [classifier.classify([row.text for row in part], np.full(len(part), DEFAULT)) for part in parts]


def index(reference: Reference, batches: list[BatchAnswers]) -> list[float]:
    """Return the index of each histogram over all answers."""
    drift = Drift(reference)
    for batch in batches:
        drift.add(batch, np.full(len(batch.levels), DEFAULT))
    drift.take()
    values = drift.indices()
    return [values[name].value for name in HISTOGRAMS]


def cost(rounds: int = 200) -> str:
    """Return the section of what watching costs, in processor time: a batch, and the reckoning every few seconds."""
    chance = np.random.default_rng(1)
    batches = [_batch(chance.dirichlet([0.2] * 4, MAX_BATCH).astype(np.float32), chance) for _ in range(32)]
    quality = np.full(MAX_BATCH, DEFAULT)
    evenly = np.concatenate([batch.probabilities for batch in batches])
    words, unknown = (np.concatenate([getattr(batch, name) for batch in batches]) for name in ("lengths", "unknown"))
    drift = Drift(reference_of(dict.fromkeys(QUALITIES, evenly), words, unknown))
    added = reckoned = 0.0
    for _ in range(rounds):
        began = time.thread_time()
        for batch in batches:
            drift.add(batch, quality)
        between = time.thread_time()
        drift.take()
        drift.indices()
        added, reckoned = added + between - began, reckoned + time.thread_time() - between
    texts = MAX_BATCH * len(batches)
    return (
        "## What watching costs\n\n"
        f"A batch costs {1e6 * added / rounds / len(batches):.2f} µs as it is answered, and the reckoning of {texts:,} "
        f"answers {1e3 * reckoned / rounds:.2f} ms, every five seconds at most: together "
        f"{1e6 * (added + reckoned) / rounds / texts:.2f} µs of processor time a text. {processor.describe()}.\n"
    )


def _batch(probabilities: np.ndarray, chance: np.random.Generator) -> BatchAnswers:
    count = len(probabilities)
    zeros, words, unknown = np.zeros(count, np.int64), chance.integers(1, 200, count), chance.random(count)
    return BatchAnswers(probabilities, zeros, zeros, probabilities[:, None], words, unknown, Work())


if __name__ == "__main__":
    main()
