"""Build a recipe: run its stages, and write the model repository from their artifacts."""

import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import replace

from newsdesk.build.data import suspects, tables
from newsdesk.build.ensemble import ensemble as fitting
from newsdesk.build.ensemble import reference
from newsdesk.build.errors import RecipeError
from newsdesk.build.package import repository
from newsdesk.build.package.repository import BuiltMember
from newsdesk.build.pipeline import candidates, evidence, watching
from newsdesk.build.pipeline.artifacts import Artifact, ArtifactStore, Say
from newsdesk.build.pipeline.branches import Branch
from newsdesk.build.pipeline.declaration import NAMES, SHARED, Declaration, declare
from newsdesk.build.pipeline.graphs import Exported, Graphs, ServingTarget
from newsdesk.build.recipe import Recipe
from newsdesk.server.runtime import engines, targets
from newsdesk.server.runtime.calibrate import Calibrator
from newsdesk.server.runtime.reference import Reference

REPOSITORY = "repository"
"""The last step of a build. It writes to the output, and so is no stage of the artifact store's."""
STAGES = *NAMES, REPOSITORY


def build(
    recipe: Recipe,
    artifacts: Path,
    output: Path,
    *,
    last: str = REPOSITORY,
    command: str = "",
    next_version: bool = False,
    strict: bool = False,
    say: Say = print,
) -> dict[str, Any]:
    """Run the stages up to `last`, each only if its inputs changed.

    Args:
        recipe: what is built
        artifacts: the folder of the artifact store
        output: the model repository to write to
        last: the stage to run, with all that it needs
        command: recorded in the manifest as what repeats the build
        next_version: leave the version that `output` holds, and write the one after it
        strict: fit members again where the code of training was edited
        say: is told of each stage

    Returns:
        The figures of each stage; those of the members stand below "members", by name.

    Raises:
        RecipeError: there is no such stage, or the recipe has none.
    """
    if last not in STAGES:
        raise RecipeError(f"stage {last!r} is unknown; expected one of {', '.join(STAGES)}")
    store, made = ArtifactStore(artifacts, say), dict[str, Artifact]()
    with watching.watch(artifacts, say) as watch:
        if recipe.split.folds and last not in SHARED[:3]:
            first = declare(recipe, strict=strict)
            watch.expect(first.graph.order([*_wanted(first, last), "select"]))
            made = first.graph.run(["split"], store, watch=watch)
            recipe = candidates.possible(recipe, made["split"].figures["train"], say)
            first = declare(recipe, strict=strict)
            watch.expect(first.graph.order([*_wanted(first, last), "select"]))
            made = first.graph.run(["select"], store, made, watch)
        serving = candidates.chosen(made["select"]) if made else None
        declared = declare(recipe, serving=serving, strict=strict)
        wanted = _wanted(declared, last)
        if not wanted:
            raise RecipeError(f"no member of recipe {recipe.name} has the stage {last!r}; name another")
        watch.expect(declared.graph.order(wanted))
        made = declared.graph.run(wanted, store, made, watch)
    figures = _figures(declared, made)
    if last != REPOSITORY:
        return figures
    if serving is not None:
        recipe = replace(recipe, members=[member for member in recipe.members if member.name in serving])
    written = write(recipe, declared, made, output, command, next_version)
    if "select" in made:
        shutil.copyfile(made["select"] / suspects.FILE, written / suspects.FILE)
    say(f"{REPOSITORY}: {written}")
    return {**figures, REPOSITORY: {"path": str(written), "target": _target(declared.branches, made)}}


def _wanted(declared: Declaration, last: str) -> list[str]:
    """Return the ids of the stages that a build up to `last` is made of, beside all that they need."""
    return [*declared.ids("verify"), *declared.ids("judge")] if last == REPOSITORY else declared.ids(last)


def data(recipe: Recipe, artifacts: Path, say: Say = print) -> dict[str, Artifact]:
    """Return the artifacts of the stages that every member shares, by name, made where they are not there."""
    return declare(recipe).graph.run(["split"], ArtifactStore(artifacts, say))


def write(
    recipe: Recipe,
    declared: Declaration,
    made: Mapping[str, Artifact],
    output: Path,
    command: str,
    next_version: bool,
) -> Path:
    """Write the model repository from the stages' artifacts, and return the model's folder."""
    fit = fitting.load(made["ensemble"].path)
    by_name = {branch.name: branch for branch in declared.branches}
    ordered = [by_name[name] for name in fit.order]
    figures = {
        "accuracy": made["judge"].figures,
        "ensemble": made["ensemble"].figures,
        "members": {branch.name: _figures_of_member(branch, made) for branch in ordered},
        "machine": made[ordered[0].stages["compile"]].entry["machine"],
    }
    members = [
        _fitted(branch, made, recipe.repository.variants, calibrator)
        for branch, calibrator in zip(ordered, fit.calibrators, strict=True)
    ]
    return repository.write(
        output,
        recipe.repository,
        recipe.card,
        labels=tables.read_labels(made["split"].path),
        members=members,
        cascade=fit.levels,
        unsure=fit.unsure,
        reference=_reference(declared, made, members[0]),
        windows=fit.windows,
        graphs=made["ensemble"].path,
        target=_target(ordered, made),
        figures=figures,
        built=[
            {"stage": "recipe", "command": command, "settings": msgspec.to_builtins(recipe)},
            *_entries(declared, made),
        ],
        next_version=next_version,
    )


def _fitted(branch: Branch, made: Mapping[str, Artifact], wanted: Iterable[str], calibrator: Calibrator) -> BuiltMember:
    """Return a member for the repository: the graphs of the `wanted` variants that passed, and the target's."""
    artifacts = {stage: made[id] for stage, id in branch.stages.items()}
    exported = Exported(branch.fit, artifacts["train"], artifacts["export"])
    graphs = Graphs(artifacts["quantise"], artifacts.get("engines"))
    passed = [name for name in wanted if graphs.passed(name)]
    serving = engines.TARGETS[ServingTarget.load(artifacts["compile"]).target]
    return BuiltMember(
        name=branch.name,
        kind=branch.member.kind,
        tokenizer=exported.tokenizer,
        graphs={name: graphs.paths[name] for name in dict.fromkeys([*passed, serving, *graphs.plans])},
        max_length=exported.window,
        pad_id=exported.facts.pad_id,
        calibrator=calibrator,
        plans=graphs.plans,
    )


def _reference(declared: Declaration, made: Mapping[str, Artifact], first: BuiltMember) -> Reference | None:
    """Return how the answers are spread to the rows that decided how members are combined."""
    compiled, asked = (
        {branch.name: made[branch.stages[stage]] for branch in declared.branches if stage in branch.stages}
        for stage in ("compile", "out-of-fold")
    )
    ensemble, split = made["ensemble"].path, made["split"]
    rows, answers = evidence.out_of_fold(split, asked) if asked else evidence.of_validation(split, compiled)
    fit = fitting.load(ensemble)
    return reference.measure(fit, ensemble, rows, answers, first.tokenizer, first.max_length, learned=bool(asked))


def _figures(declared: Declaration, made: Mapping[str, Artifact]) -> dict[str, Any]:
    """Return the figures of the stages that ran: the shared ones, the members', and those behind them."""
    shared = {name: made[name].figures for name in SHARED if name in made}
    of_members = {
        branch.name: {stage: made[id].figures for stage, id in branch.stages.items() if id in made}
        for branch in declared.branches
    }
    combined = {name: made[name].figures for name in ("ensemble", "judge") if name in made}
    return {**shared, **({"members": of_members} if any(of_members.values()) else {}), **combined}


def _figures_of_member(branch: Branch, made: Mapping[str, Artifact]) -> dict[str, Any]:
    figures = {stage: made[id].figures for stage, id in branch.stages.items()}
    return {
        "accuracy": figures["evaluate"]["accuracy"],
        "variants": figures["quantise"]["variants"],
        "targets": figures["compile"]["targets"],
        "verified": figures["verify"]["targets"],
    }


_TOLD = {"quantise", "compile", "verify", "evaluate", "ensemble", "judge"}
"""Stages whose figures the manifest has by themselves: their entries go without."""


def _entries(declared: Declaration, made: Mapping[str, Artifact]) -> list[dict[str, Any]]:
    """Return the entries of all artifacts, under the names of their own stages: members may share an artifact."""
    of_members = [id for branch in declared.branches for id in branch.stages.values()]
    entries = [
        {**made[id].entry, "name": declared.graph.stages[id].of}
        for id in (*SHARED, *of_members, "ensemble", "judge")
        if id in made
    ]
    return [
        {key: value for key, value in entry.items() if key != "figures" or entry["stage"] not in _TOLD}
        for entry in entries
    ]


def _target(branches: list[Branch], made: Mapping[str, Artifact]) -> str:
    """Return the members' targets, as the manifest has them."""
    return targets.write(
        {branch.name: ServingTarget.load(made[branch.stages["compile"]]).target for branch in branches}
    )
