"""Fit a student: which n-grams have a row, and the rows."""

from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from newsdesk.build.data import views
from newsdesk.build.data.rows import Row
from newsdesk.build.errors import DataError
from newsdesk.build.evaluation.metrics import accuracy, log_loss, softmax
from newsdesk.build.members.bag import FEATURES, Bag, Bags, predict
from newsdesk.build.progress import track
from newsdesk.build.recipe import Distil, NgramMember, Student
from newsdesk.build.training.figures import FitFigures, ValidationScores
from newsdesk.build.training.soft_labels import SoftLabels
from newsdesk.build.training.weights import weigh
from newsdesk.server.runtime.arrays import Array
from newsdesk.server.runtime.ngrams import NOTHING, Ngrams

LEAST_STEPS = 32
"""The fewest steps of an epoch: a few hundred rows are learned from in smaller batches."""


def train(
    member: NgramMember,
    labels: list[str],
    rows: list[Row],
    validation: list[Row],
    seed: int,
    folder: Path,
    taught: SoftLabels | None = None,
) -> FitFigures:
    """Fit the student on `rows`, and on what it is `taught`; write features.json and bag.safetensors to `folder`.

    The epoch with the best log-loss on `validation` is kept, and training ends when `patience` epochs were not better.

    Raises:
        DataError: no n-gram stands often enough in the rows.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # a step is so short that threads would wait for each other, on a busy machine for long
    try:
        return _train(member, labels, rows, validation, seed, folder, taught)
    finally:
        torch.set_num_threads(threads)


def _train(
    member: NgramMember,
    labels: list[str],
    rows: list[Row],
    validation: list[Row],
    seed: int,
    folder: Path,
    taught: SoftLabels | None,
) -> FitFigures:
    recipe = member.student
    torch.manual_seed(seed)
    every = Ngrams(recipe.features)
    own = [row.text for row in rows]
    ids = every.encode([*own, *taught.texts[: taught.new]] if taught else own)
    ngrams = Ngrams(recipe.features, known(ids, recipe))
    texts = own + (taught.texts if taught else [])
    lessons = _Lessons.of(np.array([row.label for row in rows], np.int64), len(labels), member.distil, taught)
    lessons = lessons.weighed(weigh(rows, member.balanced))
    bags = Bags.of(ngrams.encode(texts))
    examined, truth = Bags.of(ngrams.encode([row.text for row in validation])), np.array([r.label for r in validation])
    bag = Bag(ngrams.rows, recipe.width, recipe.hidden, len(labels))
    # Adam takes as long a step for a row met twice as for one met daily, and so learns the rare ones by heart: with it
    # the validation rows of AG News were worse off with it than with plain steps.
    batch_size = min(recipe.batch_size, -(-len(bags) // LEAST_STEPS))
    head = [value for name, value in bag.named_parameters() if name != "table.weight"]
    table = torch.optim.SGD([bag.table.weight], lr=recipe.table_rate * batch_size)
    schedules = [
        torch.optim.lr_scheduler.LinearLR(optimiser, 1.0, 0.0, total_iters=recipe.epochs * -(-len(bags) // batch_size))
        for optimiser in (table, torch.optim.Adam(head, lr=recipe.learning_rate))
    ]
    judged = weigh(validation, member.balanced)
    chance = np.random.default_rng(seed)
    history: list[ValidationScores] = []
    best = -1
    for epoch in range(recipe.epochs):
        if recipe.views:
            drawn = views.draw(rows, recipe.views, f"{seed} {epoch}")
            bags = Bags.of(ngrams.encode(drawn + texts[len(rows) :]))
        order = chance.permutation(len(bags))
        bag.train()
        for at in track(range(0, len(order), batch_size), f"epoch {epoch + 1}"):
            part = order[at : at + batch_size]
            bag.zero_grad()
            lessons.loss(bag(*bags.take(part, chance, recipe.dropout)), part).backward()
            for schedule in schedules:
                schedule.optimizer.step()
                schedule.step()
        history.append(_scores(bag, examined, truth, judged, epoch + 1))
        if best < 0 or history[epoch].log_loss < history[best].log_loss:
            best = epoch
            bag.save(folder)
        elif epoch - best >= recipe.patience:
            break
    scores = history[best]
    if recipe.kept_ngrams and recipe.kept_ngrams < ngrams.rows - NOTHING - 1:
        bag, ngrams = pruned(Bag.load(folder), ngrams, recipe.kept_ngrams)
        bag.save(folder)
        examined = Bags.of(ngrams.encode([row.text for row in validation]))
        scores = _scores(bag, examined, truth, judged, best + 1)
    ngrams.save(folder / FEATURES)
    return FitFigures(
        rows=len(rows),
        taught_texts=len(taught.texts) if taught else 0,
        ngrams=ngrams.rows - NOTHING - 1,
        validation=scores,
        epochs=history,
    )


def pruned(bag: Bag, ngrams: Ngrams, count: int) -> tuple[Bag, Ngrams]:
    """Return the student with the `count` n-grams whose rows are longest, of those that it knows.

    A row that the fit left short moves no mean. Pruning by magnitude: Han, Pool, Tran and Dally, Learning both Weights
    and Connections for Efficient Neural Networks (2015).
    """
    table = bag.table.weight.detach()
    lengths = table[NOTHING + 1 :].norm(dim=1)
    kept, _ = lengths.argsort(descending=True, stable=True)[:count].sort()
    known = np.zeros(ngrams.features.buckets, bool)
    known[(np.arange(len(known)) if ngrams.known is None else np.flatnonzero(ngrams.known))[kept.numpy()]] = True
    shorter = deepcopy(bag)
    weights = torch.cat([table[: NOTHING + 1], table[NOTHING + 1 :][kept]])
    shorter.table = torch.nn.EmbeddingBag.from_pretrained(weights, freeze=False, mode="mean", sparse=True)
    return shorter, Ngrams(ngrams.features, known)


def _scores(bag: Bag, rows: Bags, truth: Array, weights: Array | None, epoch: int) -> ValidationScores:
    probabilities = softmax(predict(bag.eval(), rows))
    return ValidationScores(
        epoch=epoch, accuracy=accuracy(probabilities, truth), log_loss=log_loss(probabilities, truth, weights)
    )


def known(ids: list[Array], recipe: Student) -> Array:
    """Return which buckets have a row, BOOL [buckets]: met `min_count` times, the most frequent ones first.

    Args:
        ids: of all n-grams, of each text
        recipe: the student's

    Raises:
        DataError: none is left.
    """
    counts = np.bincount(np.concatenate(ids), minlength=recipe.features.buckets + NOTHING + 1)[NOTHING + 1 :]
    kept = counts >= recipe.min_count
    if kept.sum() > recipe.max_ngrams:
        kept = np.zeros(len(counts), bool)
        kept[np.argsort(-counts, kind="stable")[: recipe.max_ngrams]] = True
    if not kept.any():
        raise DataError(
            f"no n-gram stands {recipe.min_count} times in the training rows. Give more rows, or lower "
            "student.min_count."
        )
    return kept


@dataclass(frozen=True)
class _Lessons:
    """The targets of the texts: the label, the teachers' probabilities, or both by weight."""

    labels: torch.Tensor
    soft: torch.Tensor | None
    hard_weight: torch.Tensor
    temperature: float
    weights: torch.Tensor | None = None
    """How much each text counts, FP32 [texts]; None: all alike."""

    @classmethod
    def of(cls, labels: Array, count: int, distil: Distil | None, taught: SoftLabels | None) -> "_Lessons":
        if distil is None or taught is None:
            return cls(torch.from_numpy(labels), None, torch.ones(len(labels)), 1.0)
        more = len(taught.texts)
        weights = np.concatenate([np.full(len(labels), 1 - distil.weight), np.zeros(more)]).astype(np.float32)
        soft = np.concatenate([taught.rows, taught.of_texts.reshape(more, count)])
        soft = np.log(np.clip(soft.astype(np.float64), 1e-7, None)) / distil.temperature
        return cls(
            torch.from_numpy(np.concatenate([labels, np.zeros(more, np.int64)])),
            torch.from_numpy(softmax(soft).astype(np.float32)),
            torch.from_numpy(weights),
            distil.temperature,
        )

    def weighed(self, of_rows: Array | None) -> "_Lessons":
        """Return the lessons with weights FP32 [rows] of the first texts; what teachers alone label counts 1."""
        if of_rows is None:
            return self
        more = torch.ones(len(self.labels) - len(of_rows))
        return replace(self, weights=torch.cat([torch.from_numpy(of_rows), more]))

    def loss(self, logits: torch.Tensor, texts: Array) -> torch.Tensor:
        at = torch.from_numpy(texts)
        losses = self._losses(logits, at)
        return (losses if self.weights is None else losses * self.weights[at]).mean()

    def _losses(self, logits: torch.Tensor, at: torch.Tensor) -> torch.Tensor:
        hard = functional.cross_entropy(logits, self.labels[at], reduction="none")
        if self.soft is None:
            return hard
        warm = functional.log_softmax(logits / self.temperature, -1)
        taught = functional.kl_div(warm, self.soft[at], reduction="none").sum(-1) * self.temperature**2
        weight = self.hard_weight[at]
        return weight * hard + (1 - weight) * taught
