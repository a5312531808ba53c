"""Accuracy on rows of a user's own: newsdesk with and without an encoder beside scikit-learn, as the rows grow.

    python -m benchmarks.own_rows [--sets trec6 sst2] [--rows 16 0] [--draws 3] [--cells 'trec6/16/*/newsdesk*']
    python -m benchmarks.own_rows imbalance
    python -m benchmarks.own_rows wrong-labels
    python -m benchmarks.own_rows page

The sets lie in the folder NEWSDESK_DATA, the encoder in NEWSDESK_BASES.

Each draw takes so many rows a label, the same ones for every column; 0 takes all. The columns answer the same test
rows. Threads are the same for all of them. A cell, set/rows/draw/column, is written as it comes, and a run that is cut
off goes on where it was: what stands in the results is not measured again, but for --again.

    tfidf_lr, tfidf_svm, tfidf_nb   TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True), and scikit-learn's
                                    LogisticRegression, LinearSVC and MultinomialNB as they are
    frozen_lr                       the encoder's states, as sentence-transformers gives them: mean pooled, of length
                                    1; and LogisticRegression
    newsdesk, newsdesk_encoder      `newsdesk build --data`, without and with the encoder; with --quick in fp32, and
                                    with --fits the encoder's answers come of its fit: accuracy alone, in seconds
    setfit                          SetFit on the same encoder, where --setfit-python names a Python that has it:
                                    python -m venv other; other/bin/pip install setfit==1.2.0 "transformers<5".
                                    It fits as by default, an epoch over all pairs of rows. The pairs grow with the
                                    square of the rows: --setfit-steps N takes N batches of 16 of them at random, its
                                    max_steps, and the page says so

imbalance: macro F1 and mean recall of 95:5 and 1:100 data, with labels balanced and as they are. wrong-labels: how
well suspects.csv finds labels that were flipped. page: write the page again.
"""

import argparse
import os
import tempfile
from fnmatch import fnmatch
from pathlib import Path

from benchmarks.own_rows import columns, imbalance, page, sets, wrong_labels
from benchmarks.own_rows.columns import Workplace
from benchmarks.own_rows.results import Results
from benchmarks.own_rows.states import States

RESULTS = Path(__file__).parents[1] / "results"
BASE = "all-MiniLM-L6-v2"
KEY = "set", "rows", "draw", "column"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", nargs="?", default="cells", choices=["cells", "imbalance", "wrong-labels", "page"])
    parser.add_argument("--sets", nargs="+", default=sets.names(), help="default: all that NEWSDESK_DATA has")
    parser.add_argument("--rows", type=int, nargs="+", default=[16, 0], help="a label; 0: all")
    parser.add_argument("--draws", type=int, default=3)
    parser.add_argument("--columns", nargs="+", default=[*columns.COLUMNS], choices=[*columns.COLUMNS, "setfit"])
    parser.add_argument(
        "--cells", nargs="+", default=["*"], metavar="PATTERN", help="set/rows/draw/column, with * and ?"
    )
    parser.add_argument("--test-rows", type=int, default=500, help="at most, of a set; 0: all")
    parser.add_argument("--setfit-python", default="", help="measure SetFit, too, with this Python")
    parser.add_argument("--setfit-steps", type=int, default=0, help="of SetFit's fit, at most; 0: its default")
    parser.add_argument("--quick", action="store_true", help="serve newsdesk's encoder in fp32: no quantising")
    parser.add_argument("--fits", action="store_true", help="ask newsdesk's fits, not graphs: accuracy, no seconds")
    parser.add_argument("--again", action="store_true", help="measure what stands in the results once more")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--cache", type=Path, default=Path(".cache/own_rows"), help="keeps the encoder's states")
    arguments = parser.parse_args()
    parts = {
        name: Results(arguments.results / f"own_rows{suffix}.csv", key)
        for name, suffix, key in (
            ("cells", "", KEY),
            ("imbalance", "_imbalance", imbalance.KEY),
            ("wrong-labels", "_wrong_labels", wrong_labels.KEY),
        )
    }
    if arguments.part == "cells":
        _measure_cells(arguments, parts["cells"])
    elif arguments.part == "imbalance":
        imbalance.measure(parts["imbalance"], arguments.draws, arguments.again, _base(), arguments.cache)
    elif arguments.part == "wrong-labels":
        names = [name for name in wrong_labels.SETS if name in arguments.sets]
        wrong_labels.measure(parts["wrong-labels"], names, arguments.draws, arguments.again)
    text = page.render(parts["cells"].lines, parts["imbalance"].lines, parts["wrong-labels"].lines)
    (arguments.results / "own_rows.md").write_text(text, encoding="utf-8")


def _base() -> Path | None:
    """Return the encoder's folder; None where there is none."""
    base = Path(os.environ.get("NEWSDESK_BASES", "")) / BASE
    if (base / "config.json").is_file():
        return base
    print(f"no encoder at {base}: without {', '.join(columns.WITH_ENCODER)}; name its folder in NEWSDESK_BASES")
    return None


def _measure_cells(arguments: argparse.Namespace, results: Results) -> None:
    wanted = [*arguments.columns, *(["setfit"] if arguments.setfit_python else [])]
    base = _base()
    if not base:
        wanted = [column for column in wanted if column not in columns.WITH_ENCODER]
    for name in arguments.sets:
        cells = [
            {"set": name, "rows": rows, "draw": draw, "column": column}
            for rows in arguments.rows
            for draw in range(arguments.draws if rows else 1)
            for column in dict.fromkeys(wanted)
        ]
        cells = [
            cell
            for cell in cells
            if any(fnmatch("/".join(map(str, cell.values())), pattern) for pattern in arguments.cells)
            and (arguments.again or not results.has(cell))
        ]
        if not cells:
            continue
        training, test, outside = sets.read(name, arguments.test_rows)
        states = States(base or Path(), arguments.cache / f"{name}.npz")
        for cell in cells:
            drawn = sets.draw(training, cell["rows"], cell["draw"])
            with tempfile.TemporaryDirectory() as folder:
                changes = columns.QUICK if arguments.quick else {}
                place = Workplace(
                    Path(folder),
                    states,
                    changes,
                    arguments.fits,
                    arguments.setfit_python,
                    arguments.setfit_steps,
                )
                figures = columns.measure(cell["column"], drawn, test, outside, place)
            line = {**cell, "training_rows": len(drawn), "test_rows": len(test), **figures}
            results.put(line)
            print(page.line(line), flush=True)


if __name__ == "__main__":
    main()
