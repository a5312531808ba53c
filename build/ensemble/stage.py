"""The stage that fits the ensemble, run once (see `Workshop`)."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from newsdesk.build.compile.answers import Answers
from newsdesk.build.data import tables
from newsdesk.build.data.rows import Row
from newsdesk.build.ensemble import ensemble as fitting
from newsdesk.build.ensemble import windows
from newsdesk.build.ensemble.ensemble import Fit
from newsdesk.build.ensemble.left_out import LeftOut
from newsdesk.build.recipe import Recipe
from newsdesk.build.stage import Artefact, Workshop
from newsdesk.server.runtime.lengths import words

_CODE = (
    *(
        f"newsdesk.build.ensemble.{name}"
        for name in (
            "calibrators",
            "choose",
            "ensemble",
            "folds",
            "left_out",
            "risk",
            "stacking",
            "texts",
            "thresholds",
            "unsure",
            "weights",
            "windows",
        )
    ),
    *(
        f"newsdesk.server.runtime.{name}"
        for name in ("calibrate", "cascade", "combine", "lengths", "unsure", "windows")
    ),
)


@dataclass(frozen=True)
class Said:
    """What a member says of the validation rows in the precision that serves: a file of an artefact (`Answers`);
    what it costs a text, measured on the target; and an artefact of a `LeftOut`, if it was fitted for that."""

    artefact: Artefact
    file: str
    cost: float
    left_out: Artefact | None = None


def ensemble(shop: Workshop, recipe: Recipe, rows: Artefact, members: dict[str, Said]) -> Artefact:
    """Fit the ensemble on validation.parquet of a `split` artefact: ensemble.json, and the graphs of stackers."""

    def work(folder: Path) -> dict[str, Any]:
        answers = {name: Answers.load(said.artefact / said.file) for name, said in members.items()}
        validation, answers = judged(rows, recipe, answers)
        costs = [said.cost for said in members.values()]
        more = {name: LeftOut.load(said.left_out.path) for name, said in members.items() if said.left_out}
        made = fit(validation, answers, costs, recipe, folder, more)
        for line in fitting.describe(made):
            shop.say(f"  {line}")
        return made.report

    settings = [recipe.ensemble, recipe.seed, {name: [said.file, said.cost] for name, said in members.items()}]
    inputs = {"split": rows} | {f"member {name}": said.artefact for name, said in members.items()}
    inputs |= {f"left out by {name}": said.left_out for name, said in members.items() if said.left_out}
    return shop.run("ensemble", work, settings=settings, inputs=inputs, code=_CODE)


def judged(rows: Artefact, recipe: Recipe, answers: dict[str, Answers]) -> tuple[list[Row], dict[str, Answers]]:
    """Return the rows of a `split` artefact that decide, and what the members say of them.

    They are the validation rows; with `split.folds` the training rows, of which every member spoke out of fold.
    """
    if not recipe.split.folds:
        return tables.read(rows / "validation.parquet"), answers
    asked = np.isfinite([of_member.windows[:, 0] for of_member in answers.values()]).all(0)
    known = [row for row, is_asked in zip(tables.read(rows / "train.parquet"), asked, strict=True) if is_asked]
    return known, {name: Answers(said.windows[asked], said.counts[asked]) for name, said in answers.items()}


def fit(
    validation: list[Row],
    answers: dict[str, Answers],
    costs: list[float],
    recipe: Recipe,
    folder: Path,
    left_out: dict[str, LeftOut] | None = None,
) -> Fit:
    """Fit the windows' rule and the ensemble on the validation rows, in the slices that they show.

    `answers`: what each member says of them; `costs`: seconds a text of each. Writes what `fitting.fit` writes.
    """
    labels = np.array([row.label for row in validation])
    several = [member for member in answers.values() if member.counts.max() > 1]
    rule = (
        windows.fit(
            [of_row for member in several for of_row in member.by_row()], np.concatenate([labels] * len(several))
        )
        if several
        else "mean"
    )
    names = [row.view for row in validation]
    sliced = len(set(names)) > 1
    return fitting.fit(
        [*answers],
        np.stack([member.rows(rule) for member in answers.values()]),
        labels,
        costs,
        recipe.ensemble,
        recipe.seed,
        folder,
        left_out,
        lengths=words([row.text for row in validation]),
        slices=names if sliced else None,
        groups=np.array([row.group for row in validation]) if sliced else None,
        windows=rule,
    )
