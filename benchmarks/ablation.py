"""Measure each part of a training: a member fitted without any, with each alone, and with all, by slice.

    NEWSDESK_DATA=… NEWSDESK_BASES=… python -m benchmarks.ablation [--member minilm] [--rows 4000] [--seeds 1 2 3]

Each fit reads the same training rows once. Validation rows judge, each of `--asked` rows in every slice; test rows and
other sources are not read. Where weights are chosen at the end, other validation rows choose them. A row of the table
is the mean over the seeds, with the standard deviation of the mixture.
The page and its JSON are written after each fit, so a run that is cut off goes on where it was.
"""

import argparse
import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from benchmarks import pages
from newsdesk.build import recipe
from newsdesk.build.data import splits, tables, views
from newsdesk.build.data.rows import Row
from newsdesk.build.evaluation.attack import Attack
from newsdesk.build.pipeline.building import data
from newsdesk.build.recipe import Adversarial, EncoderMember, Train
from newsdesk.build.training import trainer
from newsdesk.server.runtime import processor
from newsdesk.server.runtime.text import clean

HEAD = "# What each part of a training brings\n\nPrinted by `python -m benchmarks.ablation`, see its help.\n"
VIEWS = {"whole": 0.55, "headline": 0.2, "description": 0.15, "run of words": 0.1}
NOISE = {"whole": 0.85, "typing errors": 0.05, "case noise": 0.05, "look-alikes": 0.05}
ASKED = ("whole", "headline", "description", "run of words", "typing errors", "case noise")

ARMS: dict[str, dict[str, Any]] = {
    "none of them": {},
    "embeddings frozen": {"frozen_embeddings": True},
    "views": {"views": VIEWS},
    "noise": {"views": NOISE},
    "average": {"average": 0.99},
    "interpolation": {"interpolate": (0.8,)},
    "FGM": {"adversarial": Adversarial(norm=0.5)},
    "FreeLB": {"adversarial": Adversarial(method="freelb", norm=0.5, steps=2)},
    "all but adversarial": {
        "frozen_embeddings": True,
        "views": VIEWS | {"typing errors": 0.04, "case noise": 0.04},
        "average": 0.99,
        "interpolate": (0.8,),
    },
}
"""Name in the table → fields of `members.train`."""
ARMS["all"] = ARMS["all but adversarial"] | ARMS["FGM"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--member", default="minilm")
    parser.add_argument("--recipe", default="compact")
    parser.add_argument("--rows", type=int, default=4000, help="training rows of each fit")
    parser.add_argument("--asked", type=int, default=500, help="validation rows of each slice")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--arms", nargs="+", default=[*ARMS], choices=[*ARMS])
    parser.add_argument("--artifacts", type=Path, default=Path("artifacts"))
    parser.add_argument("--write", type=Path, default=Path("benchmarks/results/ablation.md"))
    options = parser.parse_args()
    chosen = recipe.load(options.recipe)
    member = next(member for member in chosen.members if member.name == options.member)
    split = data(chosen, options.artifacts)["split"]
    training = splits.draw(tables.read(split / "train.parquet"), options.rows, chosen.seed)
    whole = [row for row in tables.read(split / "validation.parquet") if row.view == views.WHOLE]
    drawn = np.random.default_rng(chosen.seed).permutation(len(whole))[: options.asked * 3 // 2]
    validation = [whole[i] for i in drawn]
    attack = Attack.of(training, len(tables.read_labels(split.path)))
    asked = slices(validation[: options.asked], attack, chosen.seed)
    choosing = slices(validation[options.asked :], attack, chosen.seed)
    page = options.write.with_suffix(".json")
    results: dict[str, dict[str, dict[str, float]]] = json.loads(page.read_text()) if page.exists() else {}
    for seed in options.seeds:
        for arm in options.arms:
            key = f"{options.member} {options.rows} {options.asked}"
            if str(seed) in results.setdefault(f"{key} {arm}", {}):
                continue
            folder = options.artifacts / "ablation" / f"{arm} {seed}"
            accuracies = fit(member, ARMS[arm], training, asked, choosing, tables.read_labels(split.path), seed, folder)
            results[f"{key} {arm}"][str(seed)] = accuracies
            page.write_text(json.dumps(results, indent=1) + "\n")
            section = table(key, {name: results.get(f"{key} {name}", {}) for name in ARMS})
            pages.put(options.write, HEAD, section)
            print(f"{arm}, seed {seed}: {accuracies}", flush=True)
    print(options.write.read_text())


def slices(whole: list[Row], attack: Attack, seed: int) -> dict[str, list[Row]]:
    """Return whole validation rows in each slice, and under an attack that knows the training rows' words."""
    of_slices = {name: views.slices(whole, {name: 1.0}, seed) for name in ASKED}
    return of_slices | {"attack": [replace(row, text=clean(attack(row, seed))) for row in whole]}


def fit(
    member: EncoderMember,
    changes: dict[str, Any],
    training: list[Row],
    asked: dict[str, list[Row]],
    choosing: dict[str, list[Row]],
    names: list[str],
    seed: int,
    folder: Path,
) -> dict[str, float]:
    """Fit the member for one epoch and return its accuracy in each slice, and their mean as "mixture"."""
    plain = {"epochs": 1, "batch_size": 32, "learning_rate": 1e-4, "schedule": "cosine", "label_smoothing": 0.05}
    altered = msgspec.structs.replace(member, train=Train(**(plain | changes)), distil=None)
    choose_by = [row for rows in choosing.values() for row in rows]
    figures = trainer.train(altered, names, training, choose_by, seed, folder)
    texts = [row.text for rows in asked.values() for row in rows]
    predicted = trainer.logits(folder / trainer.CHECKPOINT, texts, figures.window).argmax(-1)
    right = predicted == np.array([row.label for rows in asked.values() for row in rows])
    shutil.rmtree(folder)
    ends = np.cumsum([len(rows) for rows in asked.values()])
    accuracies = {name: float(part.mean()) for name, part in zip(asked, np.split(right, ends[:-1]), strict=True)}
    return accuracies | {"mixture": float(np.mean([*accuracies.values()]))}


def table(key: str, arms: dict[str, dict[str, dict[str, float]]]) -> str:
    """Return the section: a row for each arm that was fitted."""
    member, rows, asked = key.split(" ")
    columns = [*ASKED, "attack", "mixture"]
    lines = [
        f"## {member}, {rows} training rows: {processor.describe()}",
        "",
        f"One epoch; accuracy on {asked} validation rows in each slice, the mean over the seeds.",
        "",
        f"| with | {' | '.join(columns)} | ± | seeds |",
        f"|---|{'---:|' * (len(columns) + 2)}",
    ]
    for arm, seeds in arms.items():
        if seeds:
            lines.append(_line(arm, columns, [*seeds.values()]))
    return "\n".join([*lines, ""])


def _line(arm: str, columns: Sequence[str], fits: list[dict[str, float]]) -> str:
    cells = [f"{np.mean([fit[column] for fit in fits]):.1%}" for column in columns]
    spread = f"{np.std([fit['mixture'] for fit in fits], ddof=1):.1%}" if len(fits) > 1 else "–"
    return f"| {arm} | {' | '.join(cells)} | {spread} | {len(fits)} |"


if __name__ == "__main__":
    main()
