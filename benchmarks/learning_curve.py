"""Measure fewer training rows: a member's error on the validation rows as the training rows grow.

    python -m benchmarks.learning_curve --member student [--recipe compact] [--set KEY=VALUE …] [--rows 5000 10000 …]

Each size is a fit of that member alone, without teachers, from the same artifacts folder and with the same validation
rows; fewer rows are a part of more. What was fitted counts, before it is exported. A power law,
error = a · rows^-b, is fitted by least squares to the logarithms; its slope says what --of rows would give, from the
largest size that was measured on. It has no floor, so the further from the measured sizes, the more it promises.
"""

import argparse
import shlex
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from benchmarks import pages
from newsdesk.build import progress, recipe
from newsdesk.build.commands import assignment, assignments
from newsdesk.build.pipeline.building import build
from newsdesk.server.runtime import processor

HEAD = "# Learning curves\n\nPrinted by `python -m benchmarks.learning_curve`, see its help.\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--member", required=True)
    parser.add_argument("--recipe", default="compact")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="as of `newsdesk build`")
    parser.add_argument("--rows", type=int, nargs="+", default=[5000, 10000, 20000, 40000], help="at least two sizes")
    parser.add_argument("--of", type=int, default=115_000, help="rows to extrapolate to")
    parser.add_argument("--artifacts", type=Path, default=Path("artifacts"))
    parser.add_argument("--write", type=Path, help="put the table into this page, too, in place of the last one")
    options = parser.parse_args()
    if len(set(options.rows)) < 2:
        parser.error(f"--rows {options.rows}: a curve needs at least two sizes")
    changes = dict(assignment(text) for text in options.set)
    points = [
        measure(options.recipe, changes, options.member, rows, options.artifacts) for rows in sorted(set(options.rows))
    ]
    a, b = fit([rows for rows, _ in points], [1 - accuracy for _, accuracy in points])
    most, best = points[-1]
    fall = (options.of / most) ** -b
    sizes = [str(rows) for rows in options.rows]
    words = ["--member", options.member, "--recipe", options.recipe, "--rows", *sizes, *assignments(changes)]
    lines = [
        f"## {options.member}: {processor.describe()}",
        "",
        f"    python -m benchmarks.learning_curve {shlex.join(words)}",
        "",
        "| training rows | accuracy on the validation rows | the power law |",
        "|---:|---:|---:|",
        *(f"| {rows} | {accuracy:.2%} | {1 - a * rows**-b:.2%} |" for rows, accuracy in points),
        "",
        f"error = {a:.3f} · rows^-{b:.3f}; from {most} rows to {options.of} it falls by {1 - fall:.0%}, to "
        f"{1 - fall * (1 - best):.2%} right.",
    ]
    section = "\n".join([*lines, ""])
    print(section)
    if options.write:
        pages.put(options.write, HEAD, section)


def measure(name: str, changes: dict[str, Any], member: str, rows: int, artifacts: Path) -> tuple[int, float]:
    """Return how many rows there really were, and the accuracy on the validation rows."""
    untaught = {"distil": None, "student.excerpts": False, "student.unlabelled": None}
    untaught = {f"members.{member}.{field}": value for field, value in untaught.items()}
    chosen = recipe.load(name, {**changes, "split.train_rows": rows, **untaught})
    kept = [candidate for candidate in chosen.members if candidate.name == member]
    alone = msgspec.structs.replace(chosen, members=kept)
    figures = build(alone, artifacts, artifacts / "models", last="train", say=progress.say)
    return figures["split"]["train"], figures["members"][member]["train"]["validation"]["accuracy"]


def fit(rows: list[int], errors: list[float]) -> tuple[float, float]:
    """Return a and b of error = a · rows^-b."""
    slope, intercept = np.polyfit(np.log(rows), np.log(errors), 1)
    return float(np.exp(intercept)), float(-slope)


if __name__ == "__main__":
    main()
