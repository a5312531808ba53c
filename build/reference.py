"""Give a finished model a reference: it is asked about rows that no member was fitted on, and nothing is fitted."""

from pathlib import Path

from msgspec.structs import replace

from newsdesk.build.data import tables, views
from newsdesk.build.data.rows import Row
from newsdesk.build.errors import RecipeError
from newsdesk.build.evaluation.examine import Examiner
from newsdesk.build.pipeline.artifacts import Say
from newsdesk.build.pipeline.building import data
from newsdesk.build.recipe import Recipe
from newsdesk.server.contract import QUALITIES
from newsdesk.server.runtime import manifest, reference
from newsdesk.server.runtime.arrays import Array
from newsdesk.server.runtime.cores import granted_cores
from newsdesk.server.runtime.reference import Reference
from newsdesk.server.runtime.repository import latest_version


def add(recipe: Recipe, artifacts: Path, repository: Path, *, target: str = "", say: Say = print) -> Path:
    """Write the reference into the manifest of a model's latest version, and return the version's folder.

    Args:
        recipe: that built the model; its validation rows are asked about
        artifacts: the folder of the artifact store
        repository: the model repository
        target: it stands in for the manifest's, while the model is asked
        say: shows a line

    Raises:
        RecipeError: the recipe's validation rows are the members' own, or their labels are others than the model's.
    """
    if recipe.split.folds:
        raise RecipeError(
            f"recipe {recipe.name} fits on all rows in the end, so that none is left which no member saw. Build it "
            "again (newsdesk build): its fits are kept, and the manifest that is written has a reference."
        )
    rows = data(recipe, artifacts, say)["split"]
    version = latest_version(repository / recipe.repository.model)
    examiner = Examiner(version, granted_cores(), target)
    names = tables.read_labels(rows.path)
    if examiner.manifest.labels != names:
        raise RecipeError(
            f"{version}: labels {', '.join(examiner.manifest.labels)}, the rows' are {', '.join(names)}. Name the "
            "recipe that built the model."
        )
    whole = [row for row in tables.read(rows / "validation.parquet") if row.view == views.WHOLE]
    measured = measure(examiner, whole)
    manifest.save(replace(manifest.load(version), reference=measured), version)
    say(f"reference: {measured.rows:,} rows, in {version / manifest.FILE}")
    return version


def measure(examiner: Examiner, rows: list[Row]) -> Reference:
    """Return how a model's answers to rows that no member was fitted on are spread."""
    replies = examiner.ask(rows, "rows of the reference")
    answers: dict[str, Array] = {quality: examiner.replay(replies, quality).probabilities for quality in QUALITIES}
    return reference.measure(answers, replies.lengths, replies.unknown)
