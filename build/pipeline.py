"""The stages of a build in their order, each a function from artefacts to an artefact."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from newsdesk.build import repository
from newsdesk.build.compile import stages
from newsdesk.build.data import sources, splits, tables
from newsdesk.build.data.cleaning import Labels, clean_rows
from newsdesk.build.errors import DataError, RecipeError
from newsdesk.build.recipe import Member, Recipe
from newsdesk.build.stage import Artefact, Workshop
from newsdesk.build.training import teaching
from newsdesk.server.ensemble import cascade, engines

STAGES = "read", "clean", "split", "train", "export", "quantise", "compile", "verify", "evaluate", "repository"
LABELS = "labels.json"
_DATA = ("newsdesk.build.data.sources", "newsdesk.build.data.cleaning", "newsdesk.server.ensemble.text")


def read(shop: Workshop, recipe: Recipe) -> Artefact:
    """Read the raw rows of every source, once: `<part>.jsonl` with number, text, label and eligibility."""
    parts = {"train": recipe.data.train} | ({"test": recipe.data.test} if recipe.data.test else {})
    where = recipe.split.validation_where

    def work(folder: Path) -> dict[str, Any]:
        figures = {}
        for part, source in parts.items():
            with (folder / f"{part}.jsonl").open("w", encoding="utf-8") as out:
                count = 0
                for count, row in enumerate(sources.read(source), start=1):  # noqa: B007
                    line = [row.number, row.text, row.label, sources.matches(row.cells, where)]
                    out.write(json.dumps(line) + "\n")  # ASCII: lone surrogates survive
            if not count:
                raise DataError(f"{source.file or source.hub}: no row (that matches {source.keep})")
            figures[part] = count
        return figures

    files = tuple(source.file for source in parts.values() if source.file)
    return shop.run("read", work, settings=[recipe.data, where], files=files, code=_DATA[:1])


def clean(shop: Workshop, recipe: Recipe, raw: Artefact) -> Artefact:
    """Clean and check the rows; `<part>.parquet`, and report.json with what was found."""

    def work(folder: Path) -> dict[str, Any]:
        train = [*_raw_rows(raw, "train")]
        first = recipe.data.train.first_label
        known = Labels(recipe.labels, first) if recipe.labels else Labels.of(train)
        reports, held_out = {}, []
        if recipe.data.test:
            test_labels = Labels(known.names, recipe.data.test.first_label)
            rows, reports["test"] = clean_rows(_raw_rows(raw, "test"), test_labels, drop_duplicates=False)
            tables.write(folder / "test.parquet", rows)
            held_out = [row.text for row in rows]
        marks = {row.number: row.cells == {"eligible": "True"} for row in train}
        rows, reports["train"] = clean_rows(train, known, eligible=lambda row: marks[row.number], held_out=held_out)
        tables.write(folder / "train.parquet", rows)
        for part, report in reports.items():
            shop.say("\n".join([f"{part}: {report.lines()[0]}", *report.lines()[1:]]))
        (folder / LABELS).write_text(json.dumps(known.names))
        return {part: report.as_dict() for part, report in reports.items()}

    return shop.run("clean", work, settings=[recipe.labels, recipe.data], inputs={"raw": raw}, code=_DATA)


def split(shop: Workshop, recipe: Recipe, rows: Artefact) -> Artefact:
    """Part the training rows: train.parquet, validation.parquet, and test.parquet as it came."""

    def work(folder: Path) -> dict[str, Any]:
        train, validation = splits.split(tables.read(rows / "train.parquet"), recipe.split.validation_rows, recipe.seed)
        parts = {"train": train, "validation": validation}
        if recipe.data.test:
            parts["test"] = tables.read(rows / "test.parquet")
        for part, of_part in parts.items():
            tables.write(folder / f"{part}.parquet", of_part)
        shutil.copy(rows / LABELS, folder / LABELS)
        return {part: len(of_part) for part, of_part in parts.items()}

    code = ("newsdesk.build.data.splits",)
    return shop.run("split", work, settings=[recipe.split, recipe.seed], inputs={"rows": rows}, code=code)


def train(shop: Workshop, recipe: Recipe, member: Member, rows: Artefact, taught: Artefact | None = None) -> Artefact:
    """Fit one member; of an encoder `checkpoint/` is a `from_pretrained` folder, of n-grams features and weights.

    `taught` is what its teachers say (`teaching.teach`), for a member that is distilled.
    """

    def work(folder: Path) -> dict[str, Any]:
        fitted, validation = (tables.read(rows / f"{part}.parquet") for part in ("train", "validation"))
        seed = recipe.seed if member.seed is None else member.seed
        given = member, labels(rows), fitted, validation, seed, folder
        lessons = teaching.load(taught) if taught else None
        if member.kind == "ngrams":
            from newsdesk.build.training import student

            return student.train(*given, lessons)
        from newsdesk.build.training import trainer

        return trainer.train(*given, lessons.rows if lessons else None)

    base = Path(member.base)
    files = [base / name for name in ("config.json", "model.safetensors", "tokenizer.json")] if member.base else []
    # Without `code`: hours of training are not thrown away for an edit of the trainer; the entry says what made it.
    return shop.run(
        "train",
        work,
        settings=[member, recipe.seed],
        inputs={"rows": rows} | ({"taught": taught} if taught else {}),
        files=tuple(str(path) for path in files if path.is_file()),
        name=member.name,
    )


def build(
    recipe: Recipe,
    artefacts: Path,
    output: Path,
    *,
    last: str = STAGES[-1],
    command: str = "",
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Run the stages up to `last`, each only if its inputs changed, and return the figures of each.

    `command` is recorded in the manifest as what repeats the build.
    """
    if last not in STAGES:
        raise RecipeError(f"stage {last!r} is unknown; expected one of {', '.join(STAGES)}")
    if len(recipe.members) != 1:
        raise RecipeError(f"recipe {recipe.name} has {len(recipe.members)} members; this version serves one. Keep one.")
    (member,) = recipe.members
    shop = Workshop(artefacts, say)
    made: dict[str, Artefact] = {}
    job = stages.Job(shop, recipe, member, made)
    steps: dict[str, Callable[[], Artefact]] = {
        "read": lambda: read(shop, recipe),
        "clean": lambda: clean(shop, recipe, made["read"]),
        "split": lambda: split(shop, recipe, made["clean"]),
        "train": lambda: train(shop, recipe, member, made["split"]),
        "export": lambda: stages.export(job),
        "quantise": lambda: stages.quantise(job),
        "compile": lambda: stages.compile(job),
        "verify": lambda: stages.verify(job),
        "evaluate": lambda: stages.evaluate(job),
    }
    for stage, step in steps.items():
        made[stage] = step()
        if stage == last:
            return {stage: artefact.figures for stage, artefact in made.items()}
    written = write(job, output, command)
    say(f"repository: {written}")
    figures = {stage: artefact.figures for stage, artefact in made.items()}
    return {**figures, "repository": {"path": str(written), "target": made["compile"].figures["target"]}}


def write(job: stages.Job, output: Path, command: str) -> Path:
    """Write the model repository from the stages' artefacts, and return the model's folder."""
    made, settings = job.made, job.recipe.repository
    compiled, variants = made["compile"], made["quantise"].figures["variants"]
    wanted = [name for name in settings.variants if variants[name]["passed"]]
    target = compiled.figures["target"]
    graphs = job.graphs
    fitted = repository.Fitted(
        name=job.member.name,
        kind=job.member.kind,
        reader=job.reader,
        graphs={name: graphs[name] for name in dict.fromkeys([*wanted, engines.TARGETS[target]])},
        max_length=job.max_length,
        pad_id=job.facts["pad_id"],
    )
    figures = {
        "accuracy": made["evaluate"].figures["accuracy"],
        "variants": variants,
        "targets": compiled.figures["targets"],
        "verified": made["verify"].figures["targets"],
        "machine": compiled.entry["machine"],
    }
    opening = {"stage": "recipe", "command": command, "settings": msgspec.to_builtins(job.recipe)}
    entries = [opening, *(artefact.entry for artefact in made.values())]
    names = labels(made["split"])
    return repository.write(
        output,
        settings,
        job.recipe.card,
        labels=names,
        members=[fitted],
        cascade=[cascade.alone(fitted.name, len(names))],
        target=target,
        figures=figures,
        built=entries,
    )


def labels(rows: Artefact) -> list[str]:
    """Return the label names, in the order of the outputs, of a `clean` or `split` artefact."""
    return json.loads((rows / LABELS).read_text())


def _raw_rows(raw: Artefact, part: str) -> Iterator[sources.RawRow]:
    with (raw / f"{part}.jsonl").open(encoding="utf-8") as file:
        for line in file:
            number, text, label, eligible = json.loads(line)
            yield sources.RawRow(number, text, label, {"eligible": str(eligible)})
