"""List what was built: every version in model repositories, and artifacts that no repository holds any more."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from newsdesk.build.ensemble.figures import SliceScores
from newsdesk.build.evaluation.figures import ByQuality
from newsdesk.build.figures import entries
from newsdesk.build.pipeline.artifacts import ENTRY, Artifact
from newsdesk.server.contract import QUALITIES
from newsdesk.server.runtime import manifest
from newsdesk.server.runtime.errors import ManifestError
from newsdesk.server.runtime.manifest import Manifest
from newsdesk.server.runtime.repository import models, versions

JUDGE = "judge"
"""The last stage of a build in the artifact store."""


Judged = dict[str, ByQuality[SliceScores]]
"""The part of a judgement that is listed, by part of the rows."""


class Build(Struct, kw_only=True):
    """A build, with what is recorded of it; `error` says why nothing can be read."""

    where: str
    """Its version folder, or its folder in the artifact store."""
    made: str = ""
    """When its last stage ended, UTC."""
    recipe: str = ""
    rows: dict[str, int] = {}
    """By part: train, validation, test."""
    members: list[str] = []
    part: str = ""
    """The rows that it was judged on: test, or validation where there are no test rows."""
    accuracy: dict[str, float] = {}
    """By quality."""
    calibration_error: dict[str, float] = {}
    mib: float | None = None
    """The size of the version folder."""
    target: str = ""
    error: str = ""


def find(repositories: Iterable[Path], artifacts: Path) -> list[Build]:
    """Return all builds, the newest first; those that cannot be read come last.

    A folder that is not there holds none.
    """
    builds, keys = [], set[str]()
    for repository in repositories:
        for model in models(repository):
            for version in versions(repository / model):
                try:
                    described = manifest.load(version)
                    builds.append(_of_version(version, described))
                except (ManifestError, msgspec.ValidationError) as error:
                    builds.append(Build(where=str(version), error=_reason(error)))
                    continue
                keys |= {entry.key for entry in entries(described) if entry.stage == JUDGE}
    builds += [build for build in _of_store(artifacts) if Path(build.where).name not in keys]
    return sorted(builds, key=lambda build: build.made, reverse=True)


def _of_version(folder: Path, described: Manifest) -> Build:
    built = entries(described)
    recipe = built[0].settings if built and built[0].stage == "recipe" else {}
    split = next((entry.metrics(dict[str, int]) for entry in built if entry.stage == "split"), {})
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    build = Build(
        where=str(folder),
        made=max((entry.made for entry in built), default=""),
        recipe=recipe.get("name", ""),
        rows=split,
        members=[member.name for member in described.members],
        mib=round(size / 2**20, 1),
        target=described.target,
    )
    return _judged(build, msgspec.convert(described.figures.get("accuracy", {}), Judged))


def _of_store(artifacts: Path) -> list[Build]:
    """Return the builds of the artifact store, by their judgements: the recipe's name is not among what it records."""
    by_content: dict[str, Artifact] = {}
    for stage in "split", "compile":
        for folder in _folders(artifacts, stage):
            try:
                artifact = Artifact.read(folder)
                by_content[artifact.content] = artifact
            except (OSError, ValueError, KeyError, TypeError):
                continue  # whoever hangs on it says less
    builds = []
    for folder in _folders(artifacts, JUDGE):
        try:
            builds.append(_of_judgement(Artifact.read(folder), by_content))
        except (OSError, ValueError, KeyError, TypeError, msgspec.ValidationError) as error:
            builds.append(Build(where=str(folder), error=_reason(error)))
    return builds


def _folders(artifacts: Path, stage: str) -> list[Path]:
    return sorted(path.parent for path in (artifacts / stage).glob(f"*/{ENTRY}") if path.parent.suffix != ".partial")


def _of_judgement(judge: Artifact, by_content: Mapping[str, Artifact]) -> Build:
    inputs = {role: by_content.get(content) for role, content in judge.entry["inputs"].items()}
    compiled = {role.removeprefix("compiled "): made for role, made in inputs.items() if role.startswith("compiled ")}
    targets = [f"{name}={made.figures['target']}" for name, made in compiled.items() if made]
    split = inputs.get("rows")
    build = Build(
        where=str(judge.path),
        made=judge.entry["made"],
        rows=split.figures if split else {},
        members=[*compiled],
        target=",".join(targets),
    )
    return _judged(build, judge.metrics(Judged))


def _judged(build: Build, judged: Judged) -> Build:
    """Return the build with its accuracy and calibration error, on the test rows where there are some."""
    part = next((name for name in ("test", "validation") if name in judged), "")
    if not part:
        return build
    points = {quality: judged[part].at(quality) for quality in QUALITIES}
    return replace(
        build,
        part=part,
        accuracy={quality: point.accuracy for quality, point in points.items()},
        calibration_error={quality: point.calibration_error for quality, point in points.items()},
    )


def _reason(error: Exception) -> str:
    return f"{error} is missing in it" if isinstance(error, KeyError) else str(error)


def render(builds: list[Build]) -> str:
    """Return the builds as aligned columns, and those that are broken a line each."""
    heads = ["made (UTC)", "recipe", "rows", "members", "accuracy", "ECE", "MiB", "target", "where"]
    rows = [_cells(build) for build in builds if not build.error]
    widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)) for cells in [heads, *rows]
    ]
    broken = [f"broken: {build.where}: {build.error}" for build in builds if build.error]
    return "\n".join(line.rstrip() for line in [*(lines if rows else []), *broken])


def _cells(build: Build) -> list[str]:
    """Return a line's cells; accuracy and calibration error are those of balanced answers."""
    accuracy, error = build.accuracy.get("balanced"), build.calibration_error.get("balanced")
    return [
        build.made.replace("T", " ").removesuffix("Z")[:16] or "-",
        build.recipe or "-",
        "+".join(f"{count:,}" for count in build.rows.values()) or "-",
        ",".join(build.members) or "-",
        "-" if accuracy is None else f"{accuracy:.2%} ({build.part})",
        "-" if error is None else f"{error:.2%}",
        "-" if build.mib is None else f"{build.mib}",
        build.target or "-",
        build.where,
    ]


def to_json(builds: list[Build]) -> str:
    """Return the builds as JSON."""
    return json.dumps(msgspec.to_builtins(builds), indent=1, ensure_ascii=False)
