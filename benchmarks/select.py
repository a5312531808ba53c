"""Rows saved by `newsdesk select`: accuracy as labelled rows grow, chosen by each strategy, or drawn by chance.

    python -m benchmarks.select [--sets trec6 subj news_aggregator ag_news] [--seeds 5]

The sets lie in the folder NEWSDESK_DATA. Each seed draws the rows to begin with. A batch is chosen among the rows of a
pool that have no label, as `newsdesk select` chooses it, by a linear member of the recipe `own` that is fitted on all
rows with labels, and is labelled; then the member is fitted again. Members that disagree are two: the same on words and
pairs of words alone, and on character n-grams alone. The test rows are the same for all.
"""

import argparse
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.own_rows import sets
from newsdesk.build import recipe as recipes
from newsdesk.build.data.cleaning import clean
from newsdesk.build.evaluation.metrics import softmax
from newsdesk.build.members.linear import Counted, fit
from newsdesk.build.recipe import Linear, LinearMember
from newsdesk.clients import acquisition
from newsdesk.clients.acquisition import Strategy
from newsdesk.server.runtime import processor

CHANCE = "chance"
COLUMNS = (CHANCE, *(by.value for by in Strategy))
SETS = "trec6", "subj", "news_aggregator", "ag_news"


@dataclass(frozen=True)
class Task:
    """A pool of rows and test rows, their n-grams counted once. Labels are INT64, of `count` labels."""

    texts: list[str]
    pool: Counted
    labels: np.ndarray
    test: Counted
    truth: np.ndarray
    count: int
    settings: Linear

    @classmethod
    def read(cls, name: str, pool: int, test: int, settings: Linear) -> "Task":
        training, tested = sets.read(name, test)
        rows = random.Random(0).sample(training, min(pool, len(training)))
        rows = [*{acquisition.key(text): (text, label) for text, label in rows}.values()]
        names = sorted({label for _, label in training})
        texts, labels = zip(*rows, strict=True)
        of_test, truth = zip(*tested, strict=True)
        counted = Counted.of([clean(text) for text in texts], settings)
        used = [np.unique(block.indices) for block in counted.blocks]
        return cls(
            [*texts],
            _columns(counted, used),
            np.array([names.index(label) for label in labels]),
            _columns(Counted.of([clean(text) for text in of_test], settings), used),
            np.array([names.index(label) if label in names else -1 for label in truth]),
            len(names),
            settings,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", nargs="+", default=SETS)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--batch", type=int, default=32, help="rows to begin with, and to add at a time")
    parser.add_argument("--most", type=int, default=256, help="rows to end with")
    parser.add_argument("--pool", type=int, default=1000, help="rows to choose among")
    parser.add_argument("--test-rows", type=int, default=1000)
    parser.add_argument("--write", type=Path, help="write the page here, too")
    options = parser.parse_args()
    began = time.process_time()
    member = next(candidate for candidate in recipes.load("own").members if isinstance(candidate, LinearMember))
    sizes = [*range(options.batch, options.most + 1, options.batch)]
    curves: dict[str, dict[str, np.ndarray]] = {}
    for name in options.sets:
        task = Task.read(name, options.pool, options.test_rows, member.linear)
        curves[name] = {
            column: np.array([grow(task, column, sizes, seed) for seed in range(options.seeds)]) for column in COLUMNS
        }
        shown = ", ".join(f"{column} {100 * curves[name][column][:, -1].mean():.1f}" for column in COLUMNS)
        print(f"{name} at {sizes[-1]} rows: {shown} ({time.process_time() - began:.0f} s)", flush=True)
        page = render(curves, sizes, time.process_time() - began)
        if options.write:
            options.write.write_text(page, encoding="utf-8")
    print(page)


def grow(task: Task, column: str, sizes: list[int], seed: int) -> list[float]:
    """Return the accuracy on the test rows at each number of labelled rows, the first drawn by the seed."""
    chance = random.Random(seed)
    labelled = chance.sample(range(len(task.texts)), sizes[0])
    accuracies = []
    for size in sizes:
        if size > len(labelled):
            labelled += _chosen(task, column, labelled, size - len(labelled), chance)
        accuracies.append(float((_fit_member(task, task.pool, labelled)(task.test).argmax(1) == task.truth).mean()))
    return accuracies


def _chosen(task: Task, column: str, labelled: list[int], count: int, chance: random.Random) -> list[int]:
    """Return the rows of the next batch."""
    rest = sorted({*range(len(task.texts))} - {*labelled})
    if column == CHANCE:
        return chance.sample(rest, count)
    by = Strategy(column)
    texts, known = [task.texts[place] for place in rest], [task.texts[place] for place in labelled]
    choices = acquisition.choose(by, texts, _scores(task, by, labelled, np.array(rest)), count, known)
    return [rest[choice.place] for choice in choices]


def _scores(task: Task, by: Strategy, labelled: list[int], rest: np.ndarray) -> list[float]:
    if not by.scored:
        return []
    if by is not Strategy.disagreement:
        probabilities = np.sort(_fit_member(task, task.pool, labelled)(task.pool.take(rest)), axis=1)
        return (1 - probabilities[:, -1] + probabilities[:, -2]).tolist()
    members = [_part(task.pool, block) for block in range(len(task.pool.blocks))]
    probabilities = np.stack([_fit_member(task, member, labelled)(member.take(rest)) for member in members])
    return (_entropies(probabilities.mean(axis=0)) - _entropies(probabilities).mean(axis=0)).tolist()


def _fit_member(task: Task, counted: Counted, labelled: list[int]) -> Callable[[Counted], np.ndarray]:
    """Fit a member on the labelled rows; return what gives its probabilities [texts, labels] of counted texts."""
    rows = np.array(labelled)
    fitted = fit(counted.take(rows), task.labels[rows], task.count, task.settings)
    return lambda texts: softmax(fitted.of_counts(texts))


def _columns(counted: Counted, columns: list[np.ndarray]) -> Counted:
    """Return the counts of some buckets of each block: a member has no row for one that no text of the pool has."""
    return Counted(counted.features, [block[:, kept] for block, kept in zip(counted.blocks, columns, strict=True)])


def _part(counted: Counted, block: int) -> Counted:
    return Counted(counted.features[block : block + 1], counted.blocks[block : block + 1])


def _entropies(probabilities: np.ndarray) -> np.ndarray:
    return -(probabilities * np.log(np.maximum(probabilities, 1e-12))).sum(axis=-1)


def rows_for(accuracy: float, sizes: list[int], curve: np.ndarray) -> float | None:
    """Return the rows at which a curve of accuracies first reaches one, between sizes on a line; None where nowhere."""
    for place, reached in enumerate(curve):
        if reached >= accuracy:
            if place == 0:
                return float(sizes[0])
            before = curve[place - 1]
            return sizes[place - 1] + (accuracy - before) / (reached - before) * (sizes[place] - sizes[place - 1])
    return None


def render(curves: dict[str, dict[str, np.ndarray]], sizes: list[int], seconds: float) -> str:
    """Return the page; `curves` are accuracies FP64 [seeds, sizes] of a column, by set."""
    seeds = len(next(iter(curves.values()))[CHANCE])
    shown = [place for place in range(len(sizes)) if place % 2 or place == len(sizes) - 1]
    head = ["set", "rows", *COLUMNS]
    lines = [
        [name, str(sizes[place]), *(f"{100 * of[column][:, place].mean():.1f}" for column in COLUMNS)]
        for name, of in curves.items()
        for place in shown
    ]
    needed = [[name, *(_needed(of, column, sizes) for column in COLUMNS[1:])] for name, of in curves.items()]
    ahead = [[name, *(_ahead(of, column) for column in COLUMNS[1:])] for name, of in curves.items()]
    return (
        "\n\n".join(
            [
                "# What to label next",
                "Printed by `python -m benchmarks.select`, see its help. Accuracy in per cent of a linear member "
                f"on the test rows, the mean of {seeds} seeds. On {processor.describe()}, {seconds:.0f} CPU s in all.",
                _table(head, lines),
                f"## Rows for the accuracy that {sizes[-1]} rows drawn by chance reach",
                "On the mean curve; –: not reached.",
                _table(["set", *COLUMNS[1:]], needed),
                f"## Points ahead of chance, the mean from {sizes[1]} to {sizes[-1]} rows",
                "With the standard error of the seeds.",
                _table(["set", *COLUMNS[1:]], ahead),
            ]
        )
        + "\n"
    )


def _needed(curves: dict[str, np.ndarray], column: str, sizes: list[int]) -> str:
    rows = rows_for(curves[CHANCE][:, -1].mean(), sizes, curves[column].mean(axis=0))
    return "–" if rows is None else f"{rows:.0f} ({rows / sizes[-1] - 1:+.0%})".replace("-", "−")


def _ahead(curves: dict[str, np.ndarray], column: str) -> str:
    by_seed = 100 * (curves[column] - curves[CHANCE])[:, 1:].mean(axis=1)
    error = by_seed.std(ddof=1) / np.sqrt(len(by_seed)) if len(by_seed) > 1 else 0.0
    return f"{by_seed.mean():+.1f} ± {error:.1f}".replace("-", "−")


def _table(heads: list[str], rows: list[list[str]]) -> str:
    marks = ["---", *["---:"] * (len(heads) - 1)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [heads, marks, *rows])


if __name__ == "__main__":
    main()
