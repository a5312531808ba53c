"""Report on a built model, on its recipe's test rows."""

import os
from pathlib import Path
from typing import Any

from newsdesk.build.data import outside, tables
from newsdesk.build.errors import RecipeError
from newsdesk.build.evaluation import report
from newsdesk.build.evaluation.examine import Examiner
from newsdesk.build.pipeline.artifacts import Say
from newsdesk.build.pipeline.building import data
from newsdesk.build.pipeline.environment import machine
from newsdesk.build.recipe import Recipe
from newsdesk.server.runtime.repository import latest_version


def examine(recipe: Recipe, artifacts: Path, models: Path, *, target: str = "", say: Say = print) -> dict[str, Any]:
    """Return the report's figures of a built model on the recipe's test rows (see `report.evaluate`).

    Args:
        artifacts: The folder of the artifact store.
        models: The model repository.
        target: It stands in for the manifest's.

    Raises:
        RecipeError: The recipe names no test rows, or has other labels than the model.
    """
    if not recipe.data.test:
        raise RecipeError(f"recipe {recipe.name} names no test rows; give some: --data TRAIN --test-data TEST")
    rows = data(recipe, artifacts, say)["split"]
    names = tables.read_labels(rows.path)
    version = latest_version(models / recipe.repository.model)
    examiner = Examiner(version, len(os.sched_getaffinity(0)), target)
    if examiner.manifest.labels != names:
        raise RecipeError(
            f"the model's labels are {', '.join(examiner.manifest.labels)}, the rows' are {', '.join(names)}. "
            "Examine the model with the recipe that built it."
        )
    test, training = (tables.read(rows / f"{part}.parquet") for part in ("test", "train"))
    of_others = {name: outside.labelled(source, names) for name, source in recipe.data.outside.items()}
    strangers = {name: outside.unlabelled(source) for name, source in recipe.data.strangers.items()}
    return report.evaluate(examiner, test, training, of_others, strangers, recipe.seed, machine())
