"""Report on a built model, on its recipe's test rows."""

import os
from pathlib import Path

from newsdesk.build.data import outside, tables
from newsdesk.build.errors import RecipeError
from newsdesk.build.evaluation import report
from newsdesk.build.evaluation.examine import Examiner
from newsdesk.build.evaluation.report import ModelReport
from newsdesk.build.pipeline.artifacts import Say
from newsdesk.build.pipeline.building import data
from newsdesk.build.pipeline.environment import machine
from newsdesk.build.recipe import Recipe
from newsdesk.server.runtime.manifest import CONFIG
from newsdesk.server.runtime.repository import RepositoryError, choose, latest_version, models


def examine(
    recipe: Recipe,
    artifacts: Path,
    repository: Path,
    *,
    target: str = "",
    against: Path | None = None,
    say: Say = print,
) -> ModelReport:
    """Return the report's figures of a built model on the recipe's test rows (see `report.evaluate`).

    Args:
        recipe: that built the model
        artifacts: the folder of the artifact store
        repository: the model repository
        target: it stands in for the manifest's
        against: an older model to compare with: its folder, or a repository
        say: shows a line

    Raises:
        RecipeError: the recipe names no test rows, or has other labels than the model, or the older model has.
        RepositoryError: `against` holds no model, or several of other names.
    """
    if not recipe.data.test:
        raise RecipeError(f"recipe {recipe.name} names no test rows; give some: --data TRAIN --test-data TEST")
    rows = data(recipe, artifacts, say)["split"]
    names = tables.read_labels(rows.path)
    version = latest_version(repository / recipe.repository.model)
    cores = len(os.sched_getaffinity(0))
    examiner = Examiner(version, cores, target)
    old = Examiner(latest_version(find_model(against, recipe.repository.model)), cores) if against else None
    if examiner.manifest.labels != names:
        raise RecipeError(
            f"the model's labels are {', '.join(examiner.manifest.labels)}, the rows' are {', '.join(names)}. "
            "Examine the model with the recipe that built it."
        )
    test, training = (tables.read(rows / f"{part}.parquet") for part in ("test", "train"))
    of_others = {name: outside.labelled(source, names) for name, source in recipe.data.outside.items()}
    strangers = {name: outside.unlabelled(source) for name, source in recipe.data.strangers.items()}
    return report.evaluate(examiner, test, training, of_others, strangers, recipe.seed, machine(), old)


def find_model(folder: Path, name: str) -> Path:
    """Return a model's folder: `folder` itself, or what it holds, the model of this name where there are several.

    Raises:
        RepositoryError: it holds no model, or several of other names.
    """
    if (folder / CONFIG).is_file():
        return folder
    held = models(folder)
    if len(held) > 1 and name not in held:
        raise RepositoryError(
            f"{folder}: several models, {', '.join(held)}. Name one by its folder: {folder}/{held[0]}."
        )
    return folder / (name if name in held else choose(folder)[0])
