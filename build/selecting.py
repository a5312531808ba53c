"""The stages that choose which of a recipe's members serve, from what each says of rows that it did not see."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from msgspec.structs import replace

from newsdesk.build.compile.answers import Answers
from newsdesk.build.compile.stages import OUT_OF_FOLD, Job
from newsdesk.build.data import suspects, tables
from newsdesk.build.data.stages import labels
from newsdesk.build.ensemble import selection
from newsdesk.build.errors import RecipeError
from newsdesk.build.members import bases
from newsdesk.build.recipe import EncoderMember, Member, Recipe
from newsdesk.build.stage import Artefact
from newsdesk.build.training import out_of_fold

_CHOSEN = "members.json"


def candidates(recipe: Recipe, rows: int, say: Callable[[str], None]) -> list[Member]:
    """Return the members that so many rows are enough for, and whose base can be had; say which are left out, and why.

    Raises RecipeError where none is left.
    """
    kept: list[Member] = []
    missing: set[str] = set()
    for member in recipe.members:
        if member.least_rows > rows:
            say(f"{member.name}: left out, {rows:,} rows are fewer than the {member.least_rows:,} that it wants")
        elif isinstance(member, EncoderMember) and member.optional and member.base in missing:
            continue
        elif isinstance(member, EncoderMember) and member.optional and (reason := _missing(member)):
            missing.add(member.base)
            say(f"{member.name}: left out, there is no encoder: {reason}")
        else:
            kept.append(member)
    if not kept:
        raise RecipeError(f'recipe {recipe.name}: no member is left for {rows:,} rows; add one of kind = "linear"')
    return kept


def select(jobs: list[Job]) -> Artefact:
    """Ask every member out of fold, and choose: members.json, and suspects.csv, the rows probably labelled wrong."""
    first = jobs[0]
    for job in jobs:
        job.made["out-of-fold"] = out_of_fold.out_of_fold(job)
    rows = first.made["split"]

    def work(folder: Path) -> dict[str, Any]:
        of_rows = first.rows("train")
        truth = np.array([row.label for row in of_rows])
        answers = {job.name: Answers.load(job.made["out-of-fold"] / OUT_OF_FOLD).windows for job in jobs}
        asked = np.isfinite([said[:, 0] for said in answers.values()]).all(0)
        chosen = selection.select({name: said[asked] for name, said in answers.items()}, truth[asked])
        for line in selection.describe(chosen):
            first.shop.say(f"  {line}")
        (folder / _CHOSEN).write_text(json.dumps(chosen.members))
        known = [row for row, is_asked in zip(of_rows, asked, strict=True) if is_asked]
        listed = suspects.write(folder / suspects.FILE, known, labels(rows), chosen.probabilities)
        return {"members": chosen.members, "rows": int(asked.sum()), "sets": chosen.table, "suspects": listed}

    inputs = {"split": rows} | {f"{job.name}.out-of-fold": job.made["out-of-fold"] for job in jobs}
    code = "newsdesk.build.ensemble.selection", "newsdesk.build.ensemble.calibrators", "newsdesk.build.data.suspects"
    return first.shop.run("select", work, settings=[job.name for job in jobs], inputs=inputs, code=code)


def chosen(recipe: Recipe, selected: Artefact) -> Recipe:
    """Return the recipe with the members that serve alone."""
    names = json.loads((selected / _CHOSEN).read_text())
    return replace(recipe, members=[member for member in recipe.members if member.name in names])


def without_suspects(job: Job, selected: Artefact) -> Artefact:
    """Return the rows that the members that serve are fitted on: without those likeliest to be labelled wrong."""
    share, rows = job.recipe.split.drop_suspects, job.made["split"]
    if not share:
        return rows

    def work(folder: Path) -> dict[str, Any]:
        of_rows = job.rows("train")
        listed = suspects.texts(selected / suspects.FILE)[: round(share * len(of_rows))]
        kept = [row for row in of_rows if row.text not in set(listed)]
        tables.write(folder / "train.parquet", kept)
        for path in rows.path.glob("*.*"):
            if path.name not in ("train.parquet", "entry.json"):
                (folder / path.name).write_bytes(path.read_bytes())
        return {"train": len(kept), "dropped": len(of_rows) - len(kept)}

    return job.shop.run("drop", work, settings=[share], inputs={"split": rows, "select": selected}, name="suspects")


def _missing(member: EncoderMember) -> str:
    try:
        bases.check(member.base, member.name)
    except RecipeError as error:
        return str(error)
    return ""
