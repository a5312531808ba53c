"""The stages that ask every member about rows that it was not fitted on, each run once (see `Workshop`)."""

from pathlib import Path
from typing import Any

import numpy as np

from newsdesk.build.compile.answers import Answers
from newsdesk.build.compile.stages import OUT_OF_FOLD, Job
from newsdesk.build.data import splits
from newsdesk.build.data.rows import Row
from newsdesk.build.data.stages import labels
from newsdesk.build.ensemble.folds import folds
from newsdesk.build.evaluation.metrics import softmax, summary
from newsdesk.build.recipe import EncoderMember, LinearMember, NgramMember
from newsdesk.build.stage import Artefact
from newsdesk.build.training import heads, linear


def out_of_fold(job: Job) -> Artefact:
    """Fit a member without each part of the rows, and keep what it says of that part, in OUT_OF_FOLD.

    A label with one row is in every fit, and its row is not asked about. An encoder that is fine-tuned is fitted once,
    without the first part, and asked about that part alone: each fit takes minutes.
    """
    member = job.member
    inputs = {"rows": job.made["split"]}
    if isinstance(member, EncoderMember) and member.frozen:
        inputs["states"] = job.made["embed"] = heads.embed(job)

    def work(folder: Path) -> dict[str, Any]:
        rows = job.rows("train")
        names, parts = labels(job.made["split"]), parts_of(rows, job.recipe.split.folds, job.seed)
        truth, weights = linear.truths(rows)
        more: dict[str, Any] = {}
        if isinstance(member, LinearMember):
            logits = linear.out_of_fold(member, len(names), rows, parts, job.seed)
        elif isinstance(member, EncoderMember) and member.frozen:
            from newsdesk.build.training import frozen

            states = np.load(inputs["states"] / heads.STATES)
            more["cost"], logits = frozen.out_of_fold(member, len(names), states, truth, weights, parts)
        else:
            parts = parts[:1] if isinstance(member, EncoderMember) else parts
            logits = _refitted(job, names, rows, parts, folder / "scratch")
        asked = np.concatenate(parts)
        said = np.full(logits.shape, np.nan)
        said[asked] = softmax(logits[asked])
        Answers(said, np.ones(len(rows), np.int64)).save(folder / OUT_OF_FOLD)
        return {"rows": len(asked), **summary(said[asked], truth[asked]), **more}

    return job.shop.run(
        "out-of-fold",
        work,
        settings=[member, job.recipe.split.folds, job.recipe.seed],
        inputs=inputs,
        code=("newsdesk.build.ensemble.folds",),
        name=member.name,
    )


def parts_of(rows: list[Row], count: int, seed: int) -> list[np.ndarray]:
    """Return the numbers of rows of each part, stratified by label; a label's only row is in none."""
    truth = np.array([row.label for row in rows])
    several = np.flatnonzero(np.bincount(truth)[truth] > 1)
    return [several[part] for part in folds(truth[several], count, seed)]


def _refitted(job: Job, names: list[str], rows: list[Row], parts: list[np.ndarray], scratch: Path) -> np.ndarray:
    """Return logits FP32 [rows, labels] of members that are fitted in epochs. A tenth of the rows ends the training."""
    logits = np.zeros((len(rows), len(names)), np.float32)
    for number, part in enumerate(parts):
        folder = scratch / f"without-{number}"
        folder.mkdir(parents=True, exist_ok=True)
        rest = [rows[i] for i in np.setdiff1d(np.arange(len(rows)), part)]
        stopping = splits.draw(rest, len(rest) // 10, job.seed)
        texts = {row.text for row in stopping}
        learned = [row for row in rest if row.text not in texts]
        asked = [rows[i].text for i in part]
        if isinstance(job.member, NgramMember):
            from newsdesk.build.members import bag
            from newsdesk.build.training import student

            student.train(job.member, names, learned, stopping, job.seed, folder)
            logits[part] = bag.logits(folder, asked)
        else:
            from newsdesk.build.training import trainer

            assert isinstance(job.member, EncoderMember)
            figures = trainer.train(job.member, names, learned, stopping, job.seed, folder)
            logits[part] = trainer.logits(folder / trainer.CHECKPOINT, asked, figures["window"])
    return logits
