"""The stages of training, each run once (see `Workshop`): ask a member's teachers, pretrain its base, and fit it."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from msgspec.structs import replace as replaced

from newsdesk.build.compile.stages import Job
from newsdesk.build.data import pieces, sources
from newsdesk.build.data.stages import labels
from newsdesk.build.ensemble.left_out import LeftOut
from newsdesk.build.evaluation.metrics import accuracy, softmax, summary
from newsdesk.build.recipe import EncoderMember, LinearMember, Member, NgramMember, Source, Student, Teaching
from newsdesk.build.stage import Artefact
from newsdesk.build.training import heads, teaching
from newsdesk.build.training.teaching import Taught
from newsdesk.server.runtime.lengths import words
from newsdesk.server.runtime.text import clean


def pretrain(job: Job) -> Artefact:
    """Go on pretraining a member's base on the texts of all training rows, a fold's too: no label is read.

    Leaves a `from_pretrained` folder, with the vocabulary pruned where the member asks for that.
    """
    member = job.member
    assert isinstance(member, EncoderMember)

    def work(folder: Path) -> dict[str, Any]:
        from newsdesk.build.training import pretraining

        texts, validation = (
            [row.text for row in replace(job, fold=None).rows(part)] for part in ("train", "validation")
        )
        return pretraining.pretrain(member, texts, validation, job.recipe.seed, folder)

    # Without `code`, as `train`. Members and teachers with the same base share the artefact.
    return job.shop.run(
        "pretrain",
        work,
        settings=[member.base, member.min_piece_count, member.max_length, member.pretrain, job.recipe.seed],
        inputs={"rows": job.made["split"]},
        files=_files(member),
        name=member.name,
    )


def train(job: Job) -> Artefact:
    """Fit one member; of an encoder `checkpoint/` is a `from_pretrained` folder, of n-grams features and weights."""
    member, rows, taught = job.member, job.made["split"], job.made.get("teach")
    inputs = {"rows": rows} | ({"taught": taught} if taught else {})
    if isinstance(member, EncoderMember) and member.frozen:
        inputs["states"] = job.made["embed"] = heads.embed(job)
    if isinstance(member, EncoderMember) and member.pretrain:
        inputs["pretrained"] = job.made["pretrain"] = pretrain(job)

    def work(folder: Path) -> dict[str, Any]:
        fitted, validation = job.rows("train"), job.rows("validation")
        lessons = teaching.load(taught.path, taught.figures["new"]) if taught else None
        if lessons and job.fold:
            every = replace(job, fold=None).rows("train")
            lessons = lessons.without([row.text for row in every], job.left_out(len(every)))
        start = _after_pretraining(job)
        if isinstance(start, LinearMember):
            from newsdesk.build.training import linear

            return linear.train(start, labels(rows), fitted, validation, job.seed, folder)
        if isinstance(start, EncoderMember) and start.frozen:
            return heads.train(job, fitted, validation, folder)
        if job.recipe.split.folds:  # the validation rows are among those: they end the training
            texts = {row.text for row in validation}
            fitted = [row for row in fitted if row.text not in texts]
        given = labels(rows), fitted, validation, job.seed, folder
        if isinstance(start, NgramMember):
            from newsdesk.build.training import student

            return student.train(start, *given, lessons)
        from newsdesk.build.training import trainer

        return trainer.train(start, *given, lessons.rows if lessons else None)

    # Without `code`: hours of training are not thrown away for an edit of the trainer; the entry says what made it.
    return job.shop.run(
        "train",
        work,
        settings=[replaced(member, calibration_folds=0), job.recipe.seed, *([job.fold] if job.fold else [])],
        inputs=inputs,
        files=_files(member),
        name=job.name if job.fold else member.name,
    )


def teach(pupil: Job, members: list[Job]) -> Artefact:
    """Ask fitted teachers about every training row, and about the pieces and texts that the pupil's recipe has.

    Leaves the mean of their probabilities (see `teaching`). The teachers are `members`, or without any the recipe's
    `teaching`; those are fitted here, each stage of it its own: nothing of them is needed once they have taught. What a
    teacher has said before an interruption is not asked again.
    """
    student = pupil.member.student if isinstance(pupil.member, NgramMember) else Student()
    with_pieces, source = student.pieces, student.unlabelled
    own = None if members else pupil.recipe.teaching
    teachers = cross_fitted(pupil, own) if own else members

    def work(folder: Path) -> dict[str, Any]:
        labelled = pupil.rows("train")
        texts = _unlabelled(pupil, source) if source else []
        new = len(texts)
        texts += pieces.cut(labelled, pupil.recipe.seed) if with_pieces else []
        said = [ask(teacher, [row.text for row in labelled], texts, folder / "scratch") for teacher in teachers]
        of_rows, of_texts = (np.nanmean(one, axis=0) for one in zip(*said, strict=True))
        teaching.save(Taught(of_rows, texts, of_texts, new), folder)
        return {
            "teachers": {teacher.name: teacher.made["train"].figures["validation"] for teacher in teachers},
            "rows": len(labelled),
            "new": new,
            "pieces": len(texts) - new,
            "accuracy_on_training_rows": accuracy(of_rows, np.array([row.label for row in labelled])),
        }

    return pupil.shop.run(
        "teach",
        work,
        settings=[with_pieces, source, pupil.recipe.seed, *([own] if own else [])],
        inputs={"split": pupil.made["split"]} | {f"{teacher.name}.train": teacher.made["train"] for teacher in members},
        files=(
            *((source.file,) if source and source.file else ()),
            *(path for teacher in (own.teachers if own else ()) for path in _files(teacher)),
        ),
        code=("newsdesk.build.data.pieces", "newsdesk.server.runtime.text", "newsdesk.server.runtime.lookalikes"),
        name=pupil.member.name,
    )


def cross_fitted(pupil: Job, teaching: Teaching) -> list[Job]:
    """Return the jobs of a recipe's `teaching`: every teacher once for each fold, not fitted yet."""
    return [
        fold
        for teacher in teaching.teachers
        for fold in folds(Job(pupil.shop, pupil.recipe, teacher, {"split": pupil.made["split"]}), teaching.folds)
    ]


def cross_fit(job: Job) -> Artefact:
    """Fit a member again without each of its `calibration_folds`, and keep what it says of the rows left out.

    Leaves a `LeftOut`: of the training rows that might have become validation rows, since others look different, what
    fits say that never saw them (cross-fitting, as in `Teaching`). Those fits have seen fewer rows than the one that
    serves, and err a little more: what is calibrated by them is cautious by as much.
    """
    member = job.member

    def work(folder: Path) -> dict[str, Any]:
        rows = job.rows("train")
        texts = [row.text for row in rows]
        parts = folds(job, member.calibration_folds)
        said = np.nanmean([ask(part, texts, [], folder / "scratch")[0] for part in parts], axis=0)
        alike = np.array([row.eligible for row in rows])
        found = LeftOut(said[alike], np.array([row.label for row in rows])[alike], words(texts)[alike])
        found.save(folder)
        return {"folds": member.calibration_folds, "rows": len(found.labels)} | summary(
            found.probabilities, found.labels
        )

    return job.shop.run(
        "cross-fit",
        work,
        settings=[replaced(member, calibration_folds=0), member.calibration_folds, job.recipe.seed],
        inputs=_lessons(job),
        files=_files(member),
        name=job.name,
    )


def folds(job: Job, count: int) -> list[Job]:
    """Return a job for each of `count` folds, not fitted yet."""
    return [replace(job, made=_lessons(job), fold=(number, count)) for number in range(count)]


def _lessons(job: Job) -> dict[str, Artefact]:
    return {stage: made for stage, made in job.made.items() if stage in ("split", "teach")}


def ask(teacher: Job, rows: list[str], texts: list[str], folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return what a teacher says of the training rows and of other texts, FP32 [n, labels]; it is fitted if need be.

    NaN stands for the rows that a teacher of a fold was fitted on. Kept in `folder`.
    """
    if "train" not in teacher.made:
        teacher.made["train"] = train(teacher)
    asked = teacher.left_out(len(rows))  # all of them without folds
    saved = folder / f"{teacher.name}.npy"
    if not saved.exists():
        folder.mkdir(exist_ok=True)
        answers = teacher.original([*(rows[i] for i in np.flatnonzero(asked)), *texts], exact=False)
        with saved.open("wb") as file:
            np.save(file, softmax(answers).astype(np.float32))
    said = np.load(saved)
    of_rows = np.full((len(rows), said.shape[1]), np.nan, np.float32)
    of_rows[asked] = said[: asked.sum()]
    return of_rows, said[asked.sum() :]


def _after_pretraining(job: Job) -> Member:
    """Return the member that starts from what `pretrain` left, if the recipe has that."""
    if not isinstance(job.member, EncoderMember) or not job.member.pretrain:
        return job.member
    return replaced(job.member, base=str(job.made["pretrain"].path), min_piece_count=0)


def _files(member: Member) -> tuple[str, ...]:
    """Return the files of a base that is a folder here."""
    if not isinstance(member, EncoderMember):
        return ()
    names = "config.json", "model.safetensors", "tokenizer.json"
    return tuple(str(path) for name in names if (path := Path(member.base) / name).is_file())


def _unlabelled(pupil: Job, source: Source) -> list[str]:
    """Return the source's clean texts, each once, without those of any split: what is examined is never learned."""
    parts = [part for part in ("train", "validation", "test") if (pupil.made["split"] / f"{part}.parquet").exists()]
    seen = {row.text.casefold() for part in parts for row in pupil.rows(part)}
    found = []
    for raw in sources.read(source):
        text = clean(raw.text)
        # An undecodable byte stands there as a lone surrogate.
        if text and text.casefold() not in seen and not any("\ud800" <= c <= "\udfff" for c in text):
            seen.add(text.casefold())
            found.append(text)
    return found
