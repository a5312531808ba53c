"""Declare the stages of a recipe: which there are, and what each gets."""

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from newsdesk.build.pipeline import environment
from newsdesk.build.pipeline import stages as functions
from newsdesk.build.pipeline.branches import Branch, is_frozen, is_taught, of_member, pretrains
from newsdesk.build.pipeline.families import family, modules
from newsdesk.build.pipeline.fits import Fold, MemberFit
from newsdesk.build.pipeline.graph import BuildStage, Graph, Ids
from newsdesk.build.recipe import EncoderMember, Member, NgramMember, Recipe, Student
from newsdesk.server.runtime import gpu

NAMES = (
    "read",
    "clean",
    "split",
    "embed",
    "out-of-fold",
    "select",
    "drop",
    "pretrain",
    "teach",
    "train",
    "cross-fit",
    "export",
    "quantise",
    "engines",
    "compile",
    "verify",
    "evaluate",
    "ensemble",
    "judge",
)
"""The stages' names, each behind those that it may need."""
SHARED = "read", "clean", "split", "select", "drop"
"""Stages that every member shares; the last two, where out-of-fold answers choose the members."""
_TEXTS_TO_LABEL = "newsdesk.build.data.excerpts", "newsdesk.server.runtime.text"
"""Modules that decide which texts teachers label."""


@dataclass(frozen=True)
class Declaration:
    """The graph of a recipe, and the members that are combined."""

    graph: Graph
    branches: list[Branch]

    def ids(self, name: str) -> list[str]:
        """Return the ids of the stages of a name: one, or one for each member that has such a stage."""
        of_members = [branch.stages[name] for branch in self.branches if name in branch.stages]
        return of_members or ([name] if name in self.graph.stages else [])


def declare(recipe: Recipe, *, serving: Iterable[str] | None = None, strict: bool = False) -> Declaration:
    """Return the stages of a recipe.

    Args:
        recipe: its members and settings
        serving: the names of the members that are fitted on all rows and combined; others are only asked out of fold.
            None: all.
        strict: whether fits are made again where their code was edited. Without, hours of training outlive an edit of
            the trainer: their settings, seed, inputs and files make their keys.

    Raises:
        RecipeError: members teach each other.
    """
    members = [member for member in recipe.members if serving is None or member.name in serving]
    branches = [branch for member in members for branch in of_member(recipe, member)]
    stages = [*_data(recipe), *_out_of_fold(recipe), *_fits(recipe, members)]
    stages += [stage for branch in branches for stage in _compiled(recipe, branch)]
    if not strict:
        stages = [_kept(stage) for stage in stages]
    return Declaration(Graph([*stages, *_combined(recipe, branches)]), branches)


def _stage(name: str, of: str = "", module: str = "", **declared: Any) -> BuildStage:
    module = module or name.replace("-", "_")
    return BuildStage(name, f"{functions.__name__}.{module}:{module}", of, **declared)


def _kept(stage: BuildStage) -> BuildStage:
    """Return the stage; if it fits or asks members, which takes hours, its code is not in its key."""
    keyed = {
        "embed": (),
        "out-of-fold": ("newsdesk.build.ensemble.folds",),
        "pretrain": (),
        "train": (),
        "cross-fit": (),
        "teach": _TEXTS_TO_LABEL,
    }
    return dataclasses.replace(stage, keyed=keyed[stage.name]) if stage.name in keyed else stage


def _rows(recipe: Recipe) -> str:
    """Return the id of the stage whose rows members that serve are fitted and measured on."""
    return "drop" if recipe.split.folds and recipe.split.drop_suspects else "split"


def _data(recipe: Recipe) -> list[BuildStage]:
    data, split = recipe.data, recipe.split
    sources = {"train": data.train, "test": data.test}
    read = [source for source in (data.train, *data.more, data.test) if source]
    files = tuple(source.file for source in read if source.file)
    return [
        _stage(
            "read", settings={**sources, "more": data.more, "validation_where": split.validation_where}, files=files
        ),
        _stage("clean", inputs={"raw": "read"}, settings={"labels": recipe.labels, **sources}),
        _stage("split", inputs={"rows": "clean"}, settings={"settings": split, "seed": recipe.seed}),
    ]


def _out_of_fold(recipe: Recipe) -> list[BuildStage]:
    """Return the stages that ask members about rows that they did not see, and choose by the answers."""
    declared = [_embed(member) for member in recipe.members if is_frozen(member)]
    folds = recipe.split.folds
    if not folds:
        return declared
    for member in recipe.members:
        inputs = {"rows": "split"} | ({"states": f"embed {member.name}"} if is_frozen(member) else {})
        settings = {"member": member, "folds": folds, "seed": _seed(recipe, member)}
        code = modules([family(member).train, family(member).logits])
        declared.append(_stage("out-of-fold", member.name, inputs=inputs, settings=settings, code=code))
    asked = {member.name: f"out-of-fold {member.name}" for member in recipe.members}
    declared.append(_stage("select", inputs={"rows": "split", "asked": asked}, settings=_balance(recipe)))
    if share := recipe.split.drop_suspects:
        declared.append(_stage("drop", inputs={"rows": "split", "select": "select"}, settings={"share": share}))
    return declared


def _embed(member: Member) -> BuildStage:
    assert isinstance(member, EncoderMember)
    return _stage(
        "embed",
        member.name,
        inputs={"rows": "split"},
        settings={"base": member.base, "max_length": member.max_length, "pooling": member.pooling},
        unkeyed={"name": member.name},
        files=_files(member),
    )


def _seed(recipe: Recipe, member: Member) -> int:
    return recipe.seed if member.seed is None else member.seed


def _fits(recipe: Recipe, members: list[Member]) -> list[BuildStage]:
    """Return the stages up to each member's fit, and the fits of folds."""
    declared: list[BuildStage] = []
    for member in members:
        if is_taught(recipe, member):
            declared.append(_teach(recipe, member))
        if pretrains(member):
            declared.append(_pretrain(recipe, member, member.name))
        declared.append(_train(recipe, member))
        if member.calibration_folds:
            folds = _folds(member, member.calibration_folds)
            declared += [_train_without(recipe, member, fit, teacher=False) for fit in folds]
            declared += [_cross_fit(branch) for branch in of_member(recipe, member)]
    if recipe.teaching:
        for teacher in recipe.teaching.teachers:
            if pretrains(teacher):
                declared.append(_pretrain(recipe, teacher, f"teacher {teacher.name}"))
            folds = _folds(teacher, recipe.teaching.folds)
            declared += [_train_without(recipe, teacher, fit, teacher=True) for fit in folds]
    return declared


def _folds(member: Member, count: int, snapshot: int = 0) -> list[MemberFit]:
    """Return the fits of a member without each of `count` folds."""
    names = [f"{member.name} without fold {number + 1} of {count}" for number in range(count)]
    return [
        MemberFit(name=name, kind=member.kind, snapshot=snapshot, fold=Fold(number, count))
        for number, name in enumerate(names)
    ]


def _pretrain(recipe: Recipe, member: Member, of: str) -> BuildStage:
    assert isinstance(member, EncoderMember)
    fields = {name: getattr(member, name) for name in ("base", "max_length", "min_piece_count", "pretrain")}
    return _stage(
        "pretrain",
        of,
        inputs={"rows": "split"},
        settings={**fields, "seed": recipe.seed},
        unkeyed={"name": member.name},
        files=_files(member),
    )


def _train(recipe: Recipe, member: Member) -> BuildStage:
    """Return the fit of a member that is combined, on all rows."""
    if is_frozen(member):
        return _train_head(recipe, member)
    taught = {"taught": f"teach {member.name}"} if is_taught(recipe, member) else {}
    pretrained = {"pretrained": f"pretrain {member.name}"} if pretrains(member) else {}
    inputs = {"rows": _rows(recipe), **taught, **pretrained}
    declared = _fitted(recipe, member)
    if recipe.split.folds and family(member).in_epochs:
        declared["settings"] |= {"apart": True}
    return _stage("train", member.name, inputs=inputs, **declared)


def _train_head(recipe: Recipe, member: Member) -> BuildStage:
    """Return the fit of a linear layer on an encoder that stays frozen."""
    inputs = {"rows": _rows(recipe), "embedded": "split", "states": f"embed {member.name}"}
    inputs |= {"out_of_fold": f"out-of-fold {member.name}"} if recipe.split.folds else {}
    settings = {"member": member, "seed": _seed(recipe, member)}
    return _stage("train", member.name, "train_head", inputs=inputs, settings=settings, files=_files(member))


def _train_without(recipe: Recipe, member: Member, fit: MemberFit, *, teacher: bool) -> BuildStage:
    """Return the fit of a member, or of one that teaches alone, without a fold. Its base is pretrained on demand."""
    prefix = "teacher " if teacher else ""
    taught = {"taught": f"teach {member.name}"} if not teacher and is_taught(recipe, member) else {}
    pretrained = {"pretrained": f"pretrain {prefix}{member.name}"} if pretrains(member) else {}
    declared = _fitted(recipe, member)
    declared["settings"] |= {"fold": fit.fold}
    return _stage("train", prefix + fit.name, inputs={"rows": "split", **taught}, on_demand=pretrained, **declared)


def _fitted(recipe: Recipe, member: Member) -> dict[str, Any]:
    """Return the part of a fit's declaration that its folds share."""
    return {
        "settings": {
            "member": replace(member, calibration_folds=0),
            "seed": _seed(recipe, member),
        },
        "files": _files(member),
        "code": modules([family(member).train]),
    }


def _teach(recipe: Recipe, pupil: Member) -> BuildStage:
    """Return the stage that asks a member's teachers: other members, or the recipe's `teaching`."""
    student = pupil.student if isinstance(pupil, NgramMember) else Student()
    source = student.unlabelled
    inputs: dict[str, Ids] = {"rows": "split"}
    on_demand: dict[str, Ids] = {}
    if names := recipe.teachers(pupil):
        teachers = [member for member in recipe.members if member.name in names]
        teaching = [branch for member in teachers for branch in of_member(recipe, member)]
        fits = [branch.fit for branch in teaching]
        inputs["teachers"] = {branch.fit.name: branch.stages["train"] for branch in teaching}
    else:
        assert recipe.teaching
        teachers = recipe.teaching.teachers
        fits = [fit for teacher in teachers for fit in _folds(teacher, recipe.teaching.folds)]
        on_demand["teachers"] = {fit.name: f"train teacher {fit.name}" for fit in fits}
    return _stage(
        "teach",
        pupil.name,
        inputs=inputs,
        on_demand=on_demand,
        settings={"fits": fits, "with_excerpts": student.excerpts, "source": source, "seed": recipe.seed},
        files=(source.file,) if source and source.file else (),
        code=modules(family(teacher).logits for teacher in teachers),
    )


def _cross_fit(branch: Branch) -> BuildStage:
    member = branch.member
    folds = _folds(member, member.calibration_folds, branch.fit.snapshot)
    return _stage(
        "cross-fit",
        branch.name,
        inputs={"rows": "split"},
        on_demand={"fitted": {fit.name: f"train {fit.name}" for fit in folds}},
        settings={"fits": folds},
        code=modules([family(member).logits]),
    )


def _compiled(recipe: Recipe, branch: Branch) -> list[BuildStage]:
    """Return the stages of a member from its export to its figures."""
    member, ids, kind = branch.member, branch.stages, family(branch.member)
    here = gpu.find()
    machine = (environment.machine(),)
    of_fit = {"fit": branch.fit}
    seed = {"seed": recipe.seed}
    exported = {"rows": _rows(recipe), **{stage: ids[stage] for stage in ("train", "export")}}
    quantised = {**exported, "quantise": ids["quantise"]}
    graphs = {**quantised, **({"engines": ids["engines"]} if "engines" in ids else {})}
    compiled = {**graphs, "compile": ids["compile"]}
    max_length = member.max_length if isinstance(member, EncoderMember) else 0
    declared = [
        _stage(
            "export",
            branch.name,
            inputs={"rows": _rows(recipe), "train": ids["train"]},
            settings={**of_fit, "max_length": max_length, **seed},
            code=modules([kind.export]),
        ),
        _stage(
            "quantise",
            branch.name,
            inputs=exported,
            settings={**of_fit, "settings": recipe.quantise, **seed},
            code=modules([kind.quantise]),
        ),
        _stage(
            "compile",
            branch.name,
            inputs=graphs,
            settings={
                **of_fit,
                "settings": recipe.compile,
                "gate": recipe.quantise,
                "variants": recipe.repository.variants,
            },
            environment=machine,
        ),
        _stage(
            "verify",
            branch.name,
            inputs=compiled,
            settings={**of_fit, "settings": recipe.verify, **seed},
            environment=machine,
            code=modules([kind.logits]),
        ),
        _stage("evaluate", branch.name, inputs=compiled, settings=of_fit, environment=machine),
    ]
    if "engines" in ids:
        declared.append(
            _stage(
                "engines",
                branch.name,
                inputs=quantised,
                settings={**of_fit, "settings": recipe.engines, **seed},
                environment=(here.name if here else "",),
            )
        )
    return declared


def _combined(recipe: Recipe, branches: list[Branch]) -> list[BuildStage]:
    compiled, evaluated, left_out, asked = (
        {branch.name: branch.stages[stage] for branch in branches if stage in branch.stages}
        for stage in ("compile", "evaluate", "cross-fit", "out-of-fold")
    )
    known: dict[str, Ids] = {"rows": "split", "compiled": compiled, **({"asked": asked} if asked else {})}
    return [
        _stage(
            "ensemble",
            inputs={**known, "left_out": left_out},
            settings={"settings": recipe.ensemble, "seed": recipe.seed, **_balance(recipe)},
        ),
        _stage(
            "judge",
            inputs={**known, "ensemble": "ensemble", "evaluated": evaluated},
        ),
    ]


def _balance(recipe: Recipe) -> dict[str, bool]:
    return {"balanced": True} if recipe.balanced else {}


def _files(member: Member) -> tuple[str, ...]:
    """Return the files of a base that is a folder here."""
    if not isinstance(member, EncoderMember):
        return ()
    names = "config.json", "model.safetensors", "tokenizer.json"
    return tuple(str(path) for name in names if (path := Path(member.base) / name).is_file())
