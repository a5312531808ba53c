"""The stages of an encoder that stays frozen: read every row once, and fit the linear layer on the pooled states."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from newsdesk.build.compile.stages import Job
from newsdesk.build.data.rows import Row
from newsdesk.build.data.stages import labels
from newsdesk.build.ensemble.folds import folds
from newsdesk.build.evaluation.metrics import softmax, summary
from newsdesk.build.recipe import EncoderMember
from newsdesk.build.stage import Artefact
from newsdesk.build.training.linear import truths

STATES, LENGTHS = "states.npy", "lengths.npy"
_COST_FOLDS = 3


def embed(job: Job) -> Artefact:
    """Read every training row by a frozen encoder: states.npy, FP32 [rows, hidden], and the tokens of each row."""
    member = job.member
    assert isinstance(member, EncoderMember)

    def work(folder: Path) -> dict[str, Any]:
        from newsdesk.build.training import frozen

        texts = [row.text for row in _every_row(job)]
        states, lengths = frozen.embed(member.base, member.name, texts, member.max_length, member.pooling)
        np.save(folder / STATES, states)
        np.save(folder / LENGTHS, np.array(lengths))
        return {"rows": len(texts), "hidden_size": states.shape[1]}

    names = "config.json", "model.safetensors", "tokenizer.json"
    return job.shop.run(
        "embed",
        work,
        settings=[member.base, member.max_length, member.pooling],
        inputs={"rows": job.made["split"]},
        files=tuple(str(path) for name in names if (path := Path(member.base) / name).is_file()),
        name=member.name,
    )


def train(job: Job, rows: list[Row], validation: list[Row], folder: Path) -> dict[str, Any]:
    """Fit the linear layer on `rows` of those that `embed` read, and write the checkpoint to `folder`.

    How near to the rows, a cross-validation says. Returns the figures, those of `validation` among them, which decide
    nothing.
    """
    from newsdesk.build.training import frozen, trainer

    member = job.member
    assert isinstance(member, EncoderMember)
    names = labels(job.made["split"])
    places = {row.text: place for place, row in enumerate(_every_row(job))}
    kept = [places[row.text] for row in rows]
    states, lengths = (np.load(job.made["embed"] / name)[kept] for name in (STATES, LENGTHS))
    truth, weights = truths(rows)
    if "out-of-fold" in job.made:
        cost = float(job.made["out-of-fold"].figures["cost"])
    else:
        parts = folds(truth, _COST_FOLDS, job.seed)
        cost, _ = frozen.out_of_fold(member, len(names), states, truth, weights, parts)
    head = frozen.fit(states, truth, len(names), cost=cost, balanced=member.balanced, weights=weights)
    frozen.save(member, names, head, folder)
    window = trainer.window(lengths.tolist(), member.max_length)
    found = softmax(trainer.logits(folder / trainer.CHECKPOINT, [row.text for row in validation], window))
    judged = summary(found, np.array([row.label for row in validation]))
    return {"rows": len(rows), "device": trainer.device(), "window": window, "cost": cost, "validation": judged}


def _every_row(job: Job) -> list[Row]:
    return replace(job, fold=None).rows("train")
