"""The stage that fits the ensemble, run once (see `Workshop`)."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from newsdesk.build.data import tables
from newsdesk.build.ensemble import ensemble as fitting
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
        )
    ),
    *(f"newsdesk.server.runtime.{name}" for name in ("calibrate", "cascade", "combine", "lengths", "unsure")),
)


@dataclass(frozen=True)
class Said:
    """What a member says of the validation rows in the precision that serves: a file of an artefact, FP [rows, labels];
    what it costs a text, measured on the target; and an artefact of a `LeftOut`, if it was fitted for that."""

    artefact: Artefact
    file: str
    cost: float
    left_out: Artefact | None = None


def ensemble(shop: Workshop, recipe: Recipe, rows: Artefact, members: dict[str, Said]) -> Artefact:
    """Fit the ensemble on validation.parquet of a `split` artefact: ensemble.json, and the graphs of stackers."""

    def work(folder: Path) -> dict[str, Any]:
        validation = tables.read(rows / "validation.parquet")
        labels, lengths = np.array([row.label for row in validation]), words([row.text for row in validation])
        probabilities = np.stack([np.load(said.artefact / said.file) for said in members.values()])
        costs = [said.cost for said in members.values()]
        more = {name: LeftOut.load(said.left_out.path) for name, said in members.items() if said.left_out}
        made = fitting.fit(
            [*members], probabilities, labels, costs, recipe.ensemble, recipe.seed, folder, more, lengths=lengths
        )
        for line in fitting.describe(made):
            shop.say(f"  {line}")
        return made.report

    settings = [recipe.ensemble, recipe.seed, {name: [said.file, said.cost] for name, said in members.items()}]
    inputs = {"split": rows} | {f"member {name}": said.artefact for name, said in members.items()}
    inputs |= {f"left out by {name}": said.left_out for name, said in members.items() if said.left_out}
    return shop.run("ensemble", work, settings=settings, inputs=inputs, code=_CODE)
