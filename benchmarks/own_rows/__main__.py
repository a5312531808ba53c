"""Accuracy on rows of a user's own: newsdesk with and without an encoder beside scikit-learn, as the rows grow.

    python -m benchmarks.own_rows [--sets trec6 sst2] [--rows 16 0] [--draws 3]

The sets lie in the folder NEWSDESK_DATA, the encoder in NEWSDESK_BASES.

Each draw takes so many rows a label, the same ones for every column; 0 takes all. The columns answer the same test
rows. Threads are the same for all of them. A column's row of results is written as it comes, and a run that is cut off
goes on where it was: what stands in the results is not measured again, but for --again.

    tfidf_lr, tfidf_svm, tfidf_nb   TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True), and scikit-learn's
                                    LogisticRegression, LinearSVC and MultinomialNB as they are
    frozen_lr                       the encoder's states, mean pooled, and LogisticRegression
    newsdesk, newsdesk_encoder      `newsdesk build --data`, without and with the encoder; with --quick in fp32
    setfit                          SetFit on the same encoder, with --setfit; pip install setfit first
"""

import argparse
import json
import os
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.own_rows import columns, page, sets

RESULTS = Path(__file__).parents[1] / "results"
BASE = "all-MiniLM-L6-v2"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", nargs="+", default=sets.names(), help="default: all that NEWSDESK_DATA has")
    parser.add_argument("--rows", type=int, nargs="+", default=[16, 0], help="a label; 0: all")
    parser.add_argument("--draws", type=int, default=3)
    parser.add_argument("--columns", nargs="+", default=[*columns.COLUMNS], choices=[*columns.COLUMNS, "setfit"])
    parser.add_argument("--test-rows", type=int, default=2000, help="the first of a draw; 0: all")
    parser.add_argument("--setfit", action="store_true", help="measure SetFit, too")
    parser.add_argument("--quick", action="store_true", help="serve newsdesk's encoder in fp32: no quantising")
    parser.add_argument("--again", action="store_true", help="measure what stands in the results once more")
    parser.add_argument("--results", type=Path, default=RESULTS)
    given = parser.parse_args()
    wanted = [*given.columns, *(["setfit"] if given.setfit else [])]
    base = Path(os.environ.get("NEWSDESK_BASES", "")) / BASE
    if not (base / "config.json").is_file():
        print(f"no encoder at {base}: without {', '.join(columns.WITH_ENCODER)}; name its folder in NEWSDESK_BASES")
        wanted = [column for column in wanted if column not in columns.WITH_ENCODER]
    file = given.results / "own_rows.json"
    results: list[dict[str, Any]] = json.loads(file.read_text()) if file.exists() else []
    for name in given.sets:
        training, test = sets.read(name, given.test_rows)
        states = columns.States(base)
        for rows in given.rows:
            for draw in range(given.draws if rows else 1):
                drawn = sets.draw(training, rows, draw)
                for column in wanted:
                    key = {"set": name, "rows": rows, "draw": draw, "column": column}
                    same = [line for line in results if key.items() <= line.items()]
                    if same and not given.again:
                        continue
                    with tempfile.TemporaryDirectory() as folder:
                        found = columns.measure(column, drawn, test, Path(folder), states, given.quick)
                    line = {**key, "training_rows": len(drawn), "test_rows": len(test), **found}
                    results = [one for one in results if one not in same] + [line]
                    print(page.line(line), flush=True)
                    given.results.mkdir(parents=True, exist_ok=True)
                    file.write_text("[\n" + ",\n".join(json.dumps(one) for one in results) + "\n]\n")
                    (given.results / "own_rows.md").write_text(page.render(results))


if __name__ == "__main__":
    main()
