"""The stages of a build in their order, each a function from artefacts to an artefact."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from newsdesk.build import repository, selecting
from newsdesk.build.compile import stages
from newsdesk.build.compile.stages import Job
from newsdesk.build.data import suspects, tables
from newsdesk.build.data.stages import clean, elsewhere, labels, read, split, without_label
from newsdesk.build.ensemble import ensemble as fitting
from newsdesk.build.ensemble import stage as combining
from newsdesk.build.errors import RecipeError
from newsdesk.build.recipe import EncoderMember, Member, Recipe
from newsdesk.build.stage import Artefact, Workshop, machine
from newsdesk.build.training import stages as training
from newsdesk.server.runtime import targets
from newsdesk.server.serving import workspace


def build(
    recipe: Recipe,
    artefacts: Path,
    output: Path,
    *,
    last: str = "repository",
    command: str = "",
    next_version: bool = False,
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Run the stages up to `last`, each only if its inputs changed, and return the figures of each.

    Those of the members stand below "members", by name. `command` is recorded in the manifest as what repeats the
    build. `next_version` leaves the version that `output` holds, and writes the one after it.
    """
    if last not in STAGES:
        raise RecipeError(f"stage {last!r} is unknown; expected one of {', '.join(STAGES)}")
    shop = Workshop(artefacts, say)
    common: dict[str, Artefact] = {}
    for stage, step in _DATA_STAGES.items():
        common[stage] = step(shop, recipe, common)
        if stage == last:
            return _figures(common)
    if recipe.split.folds:
        recipe, made = _selected(shop, recipe, common)
        if last == "select":
            return _figures(common)
        jobs = [Job(shop, recipe, member, made[member.name]) for member in recipe.members]
    else:
        jobs = [job for member in recipe.members for job in _jobs(shop, recipe, member, common)]
    for job in _taught_last(jobs):
        _make(job, jobs, last)
    figures: dict[str, Any] = _figures(common)
    figures["members"] = {
        job.name: _figures({stage: one for stage, one in job.made.items() if stage not in common}) for job in jobs
    }
    if last in _MEMBER_STAGES:
        return figures
    combined = combining.ensemble(
        shop,
        recipe,
        common["split"],
        {
            job.name: combining.Said(job.made[job.evidence[0]], job.evidence[1], job.cost, job.made.get("cross-fit"))
            for job in jobs
        },
    )
    figures["ensemble"] = combined.figures
    if last == "ensemble":
        return figures
    judged = stages.judge(shop, common["split"], combined, jobs)
    figures["judge"] = judged.figures
    if last == "judge":
        return figures
    written = write(recipe, common, jobs, combined, judged, output, command, next_version)
    if "select" in common:
        shutil.copyfile(common["select"] / suspects.FILE, written / suspects.FILE)
    say(f"repository: {written}")
    return {**figures, "repository": {"path": str(written), "target": _target(jobs)}}


def write(
    recipe: Recipe,
    common: dict[str, Artefact],
    jobs: list[Job],
    combined: Artefact,
    judged: Artefact,
    output: Path,
    command: str,
    next_version: bool,
) -> Path:
    """Write the model repository from the stages' artefacts, and return the model's folder."""
    fit = fitting.load(combined.path)
    by_name = {job.name: job for job in jobs}
    ordered = [by_name[name] for name in fit.order]
    figures = {
        "accuracy": judged.figures,
        "ensemble": combined.figures,
        "members": {
            job.name: {
                "accuracy": job.made["evaluate"].figures["accuracy"],
                "variants": job.made["quantise"].figures["variants"],
                "targets": job.made["compile"].figures["targets"],
                "verified": job.made["verify"].figures["targets"],
            }
            for job in ordered
        },
        "machine": jobs[0].made["compile"].entry["machine"],
    }
    opening = {"stage": "recipe", "command": command, "settings": msgspec.to_builtins(recipe)}
    # Pupils that learn the same share one artefact: its entry has the name of the first.
    of_members = [
        {**one.entry, "name": job.member.name} if stage == "teach" else one.entry
        for job in jobs
        for stage, one in job.made.items()
        if stage not in common
    ]
    entries = [opening, *(one.entry for one in common.values()), *of_members, combined.entry, judged.entry]
    return repository.write(
        output,
        recipe.repository,
        recipe.card,
        labels=labels(common["split"]),
        members=[
            job.fitted(recipe.repository.variants, calibrator)
            for job, calibrator in zip(ordered, fit.calibrators, strict=True)
        ],
        cascade=fit.stages,
        unsure=fit.unsure,
        windows=fit.windows,
        graphs=combined.path,
        target=_target(ordered),
        figures=figures,
        built=entries,
        next_version=next_version,
    )


def examine(
    recipe: Recipe, artefacts: Path, models: Path, *, target: str = "", say: Callable[[str], None] = print
) -> dict[str, Any]:
    """Return the report's figures of a built model on the recipe's test rows (see `report.evaluate`).

    `target` stands in for the manifest's.
    """
    from newsdesk.build.evaluation import report
    from newsdesk.build.evaluation.examine import Examiner

    if not recipe.data.test:
        raise RecipeError(f"recipe {recipe.name} names no test rows; give some: --data TRAIN --test-data TEST")
    common = data(recipe, artefacts, say)
    names = labels(common["split"])
    version = workspace.latest_version(models / recipe.repository.model)
    examiner = Examiner(version, len(os.sched_getaffinity(0)), target)
    if examiner.manifest.labels != names:
        raise RecipeError(
            f"the model's labels are {', '.join(examiner.manifest.labels)}, the rows' are {', '.join(names)}. "
            "Examine the model with the recipe that built it."
        )
    test, training = (tables.read(common["split"] / f"{part}.parquet") for part in ("test", "train"))
    outside = {name: elsewhere(source, names) for name, source in recipe.data.outside.items()}
    strangers = {name: without_label(source) for name, source in recipe.data.strangers.items()}
    return report.evaluate(examiner, test, training, outside, strangers, recipe.seed, machine())


def data(recipe: Recipe, artefacts: Path, say: Callable[[str], None] = print) -> dict[str, Artefact]:
    """Return the artefacts of the stages that every member shares, made where they are not there."""
    shop, made = Workshop(artefacts, say), dict[str, Artefact]()
    for stage, step in _DATA_STAGES.items():
        made[stage] = step(shop, recipe, made)
    return made


def _make(job: Job, jobs: list[Job], last: str) -> None:
    """Run the member's stages up to `last`."""
    teachers = _teachers(job, jobs)
    if teachers or (job.recipe.teaching and job.member.distil):
        job.made["teach"] = training.teach(job, teachers)
    for stage, step in _MEMBER_STAGES.items():
        job.made[stage] = step(job)
        if stage == last:
            return
    if job.member.calibration_folds:
        job.made["cross-fit"] = training.cross_fit(job)


def _jobs(shop: Workshop, recipe: Recipe, member: Member, common: dict[str, Artefact]) -> list[Job]:
    """Return a member's job, or one for each snapshot of its training."""
    count = member.train.snapshots if isinstance(member, EncoderMember) else 0
    snapshots = range(1, count + 1) if count else (0,)
    return [Job(shop, recipe, member, dict(common), snapshot) for snapshot in snapshots]


def _teachers(job: Job, jobs: list[Job]) -> list[Job]:
    names = job.recipe.teachers(job.member)
    return [other for other in jobs if other.member.name in names]


def _selected(
    shop: Workshop, recipe: Recipe, common: dict[str, Artefact]
) -> tuple[Recipe, dict[str, dict[str, Artefact]]]:
    """Return the recipe with the members that serve, and what each has made so far, by its name."""
    members = selecting.candidates(recipe, common["split"].figures["train"], shop.say)
    jobs = [Job(shop, recipe, member, dict(common)) for member in members]
    common["select"] = selecting.select(jobs)
    recipe = selecting.chosen(recipe, common["select"])
    fitted_on = selecting.without_suspects(jobs[0], common["select"])
    names = [member.name for member in recipe.members]
    return recipe, {job.name: job.made | {"split": fitted_on} for job in jobs if job.name in names}


def _taught_last(jobs: list[Job]) -> list[Job]:
    """Return the jobs so that teachers stand before their pupils. Raises RecipeError where two teach each other."""
    ordered: list[Job] = []
    while len(ordered) < len(jobs):
        ready = [
            job for job in jobs if job not in ordered and all(teacher in ordered for teacher in _teachers(job, jobs))
        ]
        if not ready:
            waiting = ", ".join(job.name for job in jobs if job not in ordered)
            raise RecipeError(f"members {waiting} wait for each other as teachers; let one learn from the labels alone")
        ordered += ready
    return ordered


def _target(jobs: list[Job]) -> str:
    return targets.write({job.name: job.choice["target"] for job in jobs})


def _figures(made: dict[str, Artefact]) -> dict[str, Any]:
    return {stage: artefact.figures for stage, artefact in made.items()}


_DATA_STAGES: dict[str, Callable[[Workshop, Recipe, dict[str, Artefact]], Artefact]] = {
    "read": lambda shop, recipe, made: read(shop, recipe),
    "clean": lambda shop, recipe, made: clean(shop, recipe, made["read"]),
    "split": lambda shop, recipe, made: split(shop, recipe, made["clean"]),
}
_MEMBER_STAGES: dict[str, Callable[[Job], Artefact]] = {
    "train": training.train,
    "export": stages.export,
    "quantise": stages.quantise,
    "compile": stages.compile,
    "verify": stages.verify,
    "evaluate": stages.evaluate,
}
STAGES = *_DATA_STAGES, "select", *_MEMBER_STAGES, "ensemble", "judge", "repository"
