"""Combine members of built models anew: nothing is trained, all that is fitted on validation rows is fitted again."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import replace

from newsdesk.build.compile.answers import Answers
from newsdesk.build.compile.metrics import TargetMetrics
from newsdesk.build.compile.predict import Examples, of_windows, on_all_cores
from newsdesk.build.data import tables
from newsdesk.build.data.rows import Row
from newsdesk.build.ensemble import ensemble as fitting
from newsdesk.build.ensemble import judge, reference
from newsdesk.build.ensemble.ensemble import Fit
from newsdesk.build.ensemble.figures import Judgement
from newsdesk.build.errors import RecipeError
from newsdesk.build.package import repository
from newsdesk.build.package.repository import BuiltMember
from newsdesk.build.pipeline.artifacts import Artifact
from newsdesk.build.recipe import Recipe
from newsdesk.server.runtime import engines, manifest, targets
from newsdesk.server.runtime.calibrate import Calibrator
from newsdesk.server.runtime.manifest import Member
from newsdesk.server.runtime.repository import latest_version


class Built:
    """A member of a model's version folder, with what the build measured of it.

    Raises:
        RecipeError: the model has no member of this name.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.manifest = folder, manifest.load(folder)
        members = {member.name: member for member in self.manifest.members}
        if name not in members:
            raise RecipeError(f"{folder}: no member {name!r}; it has {', '.join(members)}")
        self.about: Member = members[name]
        self.figures: dict[str, Any] = self.manifest.figures["members"][name]
        self.target = targets.choose("", self.manifest)[name]

    @property
    def cost(self) -> float:
        """Seconds a text, on one thread, as its build measured them."""
        return 1 / msgspec.convert(self.figures["targets"][self.target], TargetMetrics).articles_per_second

    def ask(self, rows: list[Row], title: str) -> Answers:
        """Return what the member says of rows in the precision that serves, uncalibrated.

        Args:
            rows: to read
            title: names the rows on the progress bar
        """
        tokenizer = self.folder / self.about.tokenizer.path
        examples = Examples.of(rows, tokenizer, self.about.max_length, self.about.pad_id)
        engine = on_all_cores(self.target, self.folder / self.about.graphs[engines.TARGETS[self.target]].path)
        return Answers(of_windows(engine, examples, f"{self.about.name}, {title}"), examples.windows)

    def fitted(self, calibrator: Calibrator) -> BuiltMember:
        """Return the member's files for a new repository, with a calibrator of that one's."""
        return BuiltMember(
            name=self.about.name,
            kind=self.about.kind,
            tokenizer=self.folder / self.about.tokenizer.path,
            graphs={variant: self.folder / file.path for variant, file in self.about.graphs.items()},
            max_length=self.about.max_length,
            pad_id=self.about.pad_id,
            calibrator=calibrator,
            plans=self.about.plans,
        )


def named(text: str) -> list[Built]:
    """Return the members that "model folder:member,member" names; all of the latest version's without a colon.

    Raises:
        RecipeError: the model has no member of a name.
    """
    folder, _, members = text.partition(":")
    version = latest_version(Path(folder))
    names = members.split(",") if members else [member.name for member in manifest.load(version).members]
    return [Built(version, name) for name in names]


def recombine(
    recipe: Recipe,
    data: dict[str, Artifact],
    members: list[Built],
    output: Path,
    *,
    command: str,
    next_version: bool = False,
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Fit the ensemble of these members on the recipe's validation rows and write the repository; return the figures.

    Args:
        recipe: whose rows and settings count
        data: the artifacts of the stages read, clean and split
        members: none of which was fitted on the recipe's validation rows
        output: the model repository
        command: is recorded in the manifest
        next_version: write the next version, instead of in place of the highest
        say: shows a line

    Raises:
        RecipeError: labels differ.
    """
    rows = data["split"]
    names = tables.read_labels(rows.path)
    _check_labels(members, names)
    parts = {part: tables.read(rows / f"{part}.parquet") for part in ("validation", "test") if _has(rows, part)}
    answers = {
        part: {member.about.name: member.ask(of_part, part) for member in members} for part, of_part in parts.items()
    }
    by_name = {member.about.name: member for member in members}
    recorded = [member for member in recipe.members if member.name in by_name]
    settings = replace(recipe, members=recorded or recipe.members)
    with tempfile.TemporaryDirectory() as folder:
        graphs = Path(folder)
        costs = [member.cost for member in members]
        of_validation = parts["validation"], answers["validation"]
        fit = fitting.fit_on_rows(
            *of_validation, costs, recipe.ensemble, recipe.seed, graphs, balanced=settings.balanced
        )
        for line in fitting.describe(fit):
            say(f"  {line}")
        judged = {part: judge.measure(fit, graphs, of_part, answers[part]) for part, of_part in parts.items()}
        ordered = [by_name[name] for name in fit.order]
        fitted = [member.fitted(calibrator) for member, calibrator in zip(ordered, fit.calibrators, strict=True)]
        first = fitted[0]
        held_against = reference.measure(fit, graphs, *of_validation, first.tokenizer, first.max_length, learned=False)
        written = repository.write(
            output,
            recipe.repository,
            recipe.card,
            labels=names,
            members=fitted,
            cascade=fit.levels,
            graphs=graphs,
            target=targets.write({member.about.name: member.target for member in ordered}),
            figures=_figures(judged, fit, members),
            built=[
                {"stage": "recipe", "command": command, "settings": msgspec.to_builtins(settings)},
                *(artifact.entry for artifact in data.values()),
                *_entries(members),
            ],
            windows=fit.windows,
            unsure=fit.unsure,
            reference=held_against,
            next_version=next_version,
        )
    say(f"repository: {written}")
    return msgspec.to_builtins({"judge": judged, "ensemble": fit.report, "repository": {"path": str(written)}})


def _check_labels(members: list[Built], names: list[str]) -> None:
    """Raise RecipeError for the first member that has other labels than the rows."""
    for member in members:
        if member.manifest.labels != names:
            raise RecipeError(
                f"{member.folder}: labels {', '.join(member.manifest.labels)}, the rows' are {', '.join(names)}. "
                "Combine members with the recipe that built them."
            )


def _figures(judged: dict[str, Judgement], fit: Fit, members: list[Built]) -> dict[str, Any]:
    """Return the manifest's figures: of the members, as their own builds measured them."""
    of_members = {member.about.name: member.figures for member in members}
    return {
        "accuracy": msgspec.to_builtins(judged),
        "ensemble": msgspec.to_builtins(fit.report),
        "members": {name: of_members[name] for name in fit.order},
        "machine": ", ".join(dict.fromkeys(member.manifest.figures["machine"] for member in members)),
    }


def _entries(members: list[Built]) -> list[dict[str, Any]]:
    """Return what made each member, from the manifest that it comes from."""
    return [
        {**entry, "recipe": member.manifest.built[0]["command"]}
        for member in members
        for entry in member.manifest.built
        if entry["stage"] not in ("recipe", "read", "clean", "split", "ensemble", "judge")
        and entry.get("name") == member.about.name
    ]


def _has(rows: Artifact, part: str) -> bool:
    return (rows / f"{part}.parquet").exists()
