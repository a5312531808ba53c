"""Measure what a user would write instead of the shipped model, on the slices of `newsdesk evaluate`.

    NEWSDESK_DATA=… python -m benchmarks.otherwise [--recipe compact] [--write benchmarks/results/otherwise.md]

Each alternative is three lines of scikit-learn, fitted on the recipe's training rows, whole. It reads the same cleaned
texts as newsdesk. Test rows and other sources are read once; nothing is chosen by them.
"""

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import MultinomialNB
from sklearn.svm import LinearSVC

from benchmarks import pages
from newsdesk.build import recipe
from newsdesk.build.data import outside, tables, views
from newsdesk.build.data.rows import Row
from newsdesk.build.evaluation import metrics, report, significance
from newsdesk.build.evaluation.markdown import table
from newsdesk.build.pipeline.building import data
from newsdesk.server.runtime import processor

HEAD = "# What a user would write instead\n\nPrinted by `python -m benchmarks.otherwise`, see its help.\n"
CLASSIFIERS: dict[str, Any] = {
    "TF-IDF + LR": lambda: LogisticRegression(max_iter=300),
    "TF-IDF + SVM": LinearSVC,
    "TF-IDF + NB": MultinomialNB,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default="compact")
    parser.add_argument("--artifacts", type=Path, default=Path("artifacts"))
    parser.add_argument("--write", type=Path, help="put the table into this page, too, in place of the last one")
    options = parser.parse_args()
    chosen = recipe.load(options.recipe)
    split = data(chosen, options.artifacts)["split"]
    names = tables.read_labels(split.path)
    test, training = (tables.read(split / f"{part}.parquet") for part in ("test", "train"))
    others = {name: outside.labelled(source, names) for name, source in chosen.data.outside.items()}
    slices = {views.WHOLE: test} | report.slices(test, training, others, len(names), chosen.seed)
    began = time.perf_counter()
    vectorizer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
    read = vectorizer.fit_transform([row.text for row in training])
    truth = [row.label for row in training]
    print(f"{len(training):,} rows read in {time.perf_counter() - began:.0f} s", flush=True)
    columns = {
        name: _measure(name, make().fit(read, truth), vectorizer, slices, chosen.seed)
        for name, make in CLASSIFIERS.items()
    }
    rows = [
        [name, f"{len(of):,}", *(columns[classifier][name] for classifier in columns)] for name, of in slices.items()
    ]
    section = "\n".join(
        [
            f"## Slices: {chosen.name}",
            "",
            f"{len(training):,} training rows, whole, words and pairs of words, on {processor.describe()}. Accuracy, "
            "its 95 % interval, and the calibration error; a support vector machine has no probabilities. The same "
            "rows by newsdesk are on [slices](slices.md).",
            "",
            table(["slice", "rows", *columns], rows),
            "",
        ]
    )
    print(section)
    if options.write:
        pages.put(options.write, HEAD, section)


def _measure(
    name: str, classifier: Any, vectorizer: TfidfVectorizer, slices: dict[str, list[Row]], seed: int
) -> dict[str, str]:
    """Return a cell for each slice."""
    sure = hasattr(classifier, "predict_proba")
    cells = {}
    for view, rows in slices.items():
        features, truth = vectorizer.transform([row.text for row in rows]), np.array([row.label for row in rows])
        answers = classifier.predict_proba(features) if sure else classifier.decision_function(features)
        low, high = significance.interval(metrics.accuracy, answers, truth, seed=seed)
        cells[view] = f"{metrics.accuracy(answers, truth):.2%} ({low:.1%} to {high:.1%})"
        if sure:
            cells[view] += f", {metrics.calibration_error(answers, truth):.1%}"
    print(f"{name}: {cells[views.WHOLE]}", flush=True)
    return cells


if __name__ == "__main__":
    main()
