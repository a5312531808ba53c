"""Labels that were flipped: how well the score that orders suspects.csv finds them."""

import csv
import random
import tempfile
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from msgspec.structs import replace
from sklearn.metrics import roc_auc_score

from benchmarks.own_rows import sets
from benchmarks.own_rows.results import Results
from benchmarks.own_rows.sets import Rows
from newsdesk.build import recipe as recipes
from newsdesk.build.data import own, suspects, tables
from newsdesk.build.ensemble import selection
from newsdesk.build.pipeline import evidence
from newsdesk.build.pipeline.artifacts import ArtifactStore
from newsdesk.build.pipeline.declaration import declare
from newsdesk.build.recipe import Member
from newsdesk.server.runtime.text import clean

KEY = "set", "draw", "encoder"
SETS = "ag_news", "trec6", "r8", "sms_spam"
ROWS = 2000
SHARE = 0.05


def measure(results: Results, names: Sequence[str], draws: int, again: bool) -> None:
    """Measure what stands not in the results yet, without and with an encoder, and print a line each."""
    for name, draw, encoder in product(names, range(draws), range(2)):
        key = {"set": name, "draw": draw, "encoder": encoder}
        if results.has(key) and not again:
            continue
        training = sets.read(name, 1).training
        rows = random.Random(draw).sample(training, min(ROWS, len(training)))
        line = {**key, **_figures(*_flipped(rows, draw), encoder=bool(encoder))}
        results.put(line)
        print(
            f"{name}, draw {draw}, {'with' if encoder else 'without'} an encoder: AUROC {line['auroc']:.3f}, "
            f"{line['listed']} listed, {line['flipped_listed']} of them of {line['flipped']} flipped",
            flush=True,
        )


def _flipped(rows: Rows, seed: int) -> tuple[Rows, set[str]]:
    """Return the rows, a share of them with another label, drawn evenly, and their texts as a build reads them."""
    chance = random.Random(seed)
    names = sorted({label for _, label in rows})
    chosen = {*chance.sample(range(len(rows)), round(SHARE * len(rows)))}
    flipped = [
        (text, chance.choice([name for name in names if name != label]) if place in chosen else label)
        for place, (text, label) in enumerate(rows)
    ]
    return flipped, {clean(rows[place][0]) for place in chosen}


def _figures(rows: Rows, flipped: set[str], *, encoder: bool) -> dict[str, Any]:
    """Return the area under the ROC curve of the score that orders the list, over all rows, and how long the list is.

    newsdesk's recipe runs up to its out-of-fold answers: of the linear member, and of the frozen encoder if asked for.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with (folder / "rows.csv").open("w", encoding="utf-8", newline="") as out:
            csv.writer(out).writerows([("text", "label"), *rows])
        described = {"text_columns": ["text"], "label_column": "label", "columns": []}
        own_recipe = recipes.load("own")
        recipe = recipes.load("own", own.changes(own_recipe, folder / "rows.csv", **described))
        members = [member for member in recipe.members if _takes_part(member, encoder)]
        made = declare(replace(recipe, members=members)).graph.run(["select"], ArtifactStore(folder, lambda line: None))
        asked = {member.name: made[f"out-of-fold {member.name}"] for member in members}
        known, answers = evidence.out_of_fold(made["split"], asked)
        labels = np.array([row.label for row in known])
        chosen = selection.select({name: each.windows for name, each in answers.items()}, labels)
        names = tables.read_labels(made["split"].path)
        listed = suspects.write(folder / suspects.FILE, known, names, chosen.probabilities)
        texts = suspects.texts(folder / suspects.FILE)
    wrong = np.array([row.text in flipped for row in known])
    return {
        "rows": len(known),
        "flipped": int(wrong.sum()),
        "auroc": round(float(roc_auc_score(wrong, -suspects.margins(chosen.probabilities, labels))), 4),
        "listed": listed,
        "flipped_listed": sum(text in flipped for text in texts),
    }


def _takes_part(member: Member, encoder: bool) -> bool:
    if isinstance(member, recipes.LinearMember):
        return True
    return encoder and isinstance(member, recipes.EncoderMember) and member.frozen is not None
