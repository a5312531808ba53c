"""Fine-tune a pretrained encoder with a classification head, through transformers' Trainer."""

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from msgspec import structs
from transformers import AutoTokenizer, DataCollatorWithPadding

from newsdesk.build.data import views
from newsdesk.build.data.rows import Row
from newsdesk.build.evaluation.metrics import accuracy, log_loss, softmax
from newsdesk.build.members import encoders, vocabulary
from newsdesk.build.members.vocabulary import VocabularyFigures
from newsdesk.build.progress import track
from newsdesk.build.recipe import EncoderMember, Train
from newsdesk.build.training import precision
from newsdesk.build.training.averaging import Average, candidates, choose
from newsdesk.build.training.figures import FitFigures, ValidationScores
from newsdesk.build.training.fitting import EMBEDDINGS_ALONE, Fitting, freeze
from newsdesk.build.training.soft_labels import SoftLabels
from newsdesk.build.training.weights import weigh
from newsdesk.server.runtime.arrays import Array
from newsdesk.server.runtime.casing import Casing

CHECKPOINT = "checkpoint"
"""The fitted model, as a `from_pretrained` folder below the stage's; of a run with snapshots the last cycle's."""


_ROWS_TO_CHOOSE_BY = 4000
"""Validation rows, of all slices, that choose the weights at the end: a pass of a large encoder takes minutes."""


def checkpoint(snapshot: int) -> str:
    """Return the folder below the stage's of a run's snapshot, 1, 2, …, or of the only model (0)."""
    return f"snapshot-{snapshot}" if snapshot else CHECKPOINT


@dataclass
class _Encoded(torch.utils.data.Dataset):
    """Rows as ids. If rows are read in views, `draw` draws the views of an epoch."""

    read: Callable[[list[str]], list[list[int]]]
    rows: list[Row]
    soft: Array | None = None
    """A teacher's probabilities, FP32 [rows, labels]."""
    weights: Array | None = None
    """How much each row counts, FP32 [rows]."""
    views: Mapping[str, float] = field(default_factory=dict)
    seed: int = 0

    def __post_init__(self) -> None:
        self.ids = self.read([row.text for row in self.rows])
        self.labels = [row.label for row in self.rows]

    def draw(self, epoch: int) -> None:
        """Take every row in a view of this epoch's."""
        if self.views:
            self.ids = self.read(views.draw(self.rows, self.views, f"{self.seed} {epoch}"))

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, i: int) -> dict[str, Any]:
        row = {"input_ids": self.ids[i], "labels": self.labels[i]}
        more = {"soft": self.soft, "weight": self.weights}
        return row | {name: values[i] for name, values in more.items() if values is not None}


def train(
    member: EncoderMember,
    labels: list[str],
    rows: list[Row],
    validation: list[Row],
    seed: int,
    folder: Path,
    soft_labels: SoftLabels | None = None,
) -> FitFigures:
    """Fit `member` on `rows`, keep the epoch with the best accuracy on `validation`, write it to `folder`/checkpoint.

    With snapshots the learning rate falls to nothing that many times, and the model is kept each time:
    `folder`/snapshot-1, … (Huang et al. 2017). With `average` or `interpolate` the weights are chosen at the end, among
    those candidates, instead of the best epoch. Resumes from the newest checkpoint in `folder`/scratch.

    Args:
        member: that is fitted
        labels: in the order of the outputs
        rows: to learn from
        validation: rows to choose by
        seed: of the training
        folder: is written to
        soft_labels: its teachers' probabilities, for a member that is distilled; teachers read whole articles, whatever
            view of them the member reads
    """
    recipe = member.train
    soft = soft_labels.rows if soft_labels else None
    validation = [row for row in validation if row.view != views.JOINED]  # windows of it are read one by one
    chosen_last = bool(recipe.average or recipe.interpolate)
    if recipe.max_rows:
        rows, soft = rows[: recipe.max_rows], None if soft is None else soft[: recipe.max_rows]
    transformers.set_seed(seed)
    scratch = folder / "scratch"
    base, of_vocabulary = pruned(member, [row.text for row in rows], scratch)
    model = encoders.create(base, member.pooling, labels, member.name)
    tokenizer = AutoTokenizer.from_pretrained(base, model_max_length=member.max_length)
    pretrained = {name: value.clone() for name, value in model.state_dict().items()} if recipe.interpolate else {}
    if recipe.frozen_layers or recipe.frozen_embeddings:
        freeze(model, recipe.frozen_layers or EMBEDDINGS_ALONE)
    settings = arguments(
        scratch,
        seed,
        num_train_epochs=recipe.epochs,
        per_device_train_batch_size=recipe.batch_size,
        learning_rate=recipe.learning_rate,
        **schedule(recipe),
        warmup_ratio=recipe.warmup_ratio,
        weight_decay=recipe.weight_decay,
        bf16=recipe.bf16 and precision.bf16_is_faster(),
        **({"eval_strategy": "no"} if chosen_last else {}),
    )
    average = Average(model, recipe.average) if recipe.average else None
    keep: transformers.TrainerCallback | None
    if recipe.snapshots:
        keep = _KeepSnapshots(folder, recipe.snapshots, tokenizer)
    else:
        keep = average if chosen_last else _KeepBest(scratch / "best", tokenizer)
    read = _tokenising(tokenizer, member.max_length)
    fitted = _Encoded(read, rows, soft, weigh(rows, member.balanced), recipe.views, seed)
    whole = [len(ids) for ids in fitted.ids]
    trainer = Fitting(
        recipe=recipe,
        distil=member.distil,
        model=model,
        args=settings,
        train_dataset=fitted,
        eval_dataset=_Encoded(
            read, validation[:: max(1, len(validation) // _ROWS_TO_CHOOSE_BY)] if chosen_last else validation
        ),
        # Few shapes: kernels are cached per shape.
        data_collator=_Collator(DataCollatorWithPadding(tokenizer, pad_to_multiple_of=8)),
        processing_class=tokenizer,
        compute_metrics=_measure,
        callbacks=[keep] if keep else [],
    )
    trainer.train(resume_from_checkpoint=last_checkpoint(scratch))
    if chosen_last:
        history = choose(trainer, candidates(model, pretrained, average, recipe.interpolate))
        encoders.save(model, folder / CHECKPOINT)
        tokenizer.save_pretrained(folder / CHECKPOINT)
    else:
        if not recipe.snapshots:  # copied, so that a stage that is cut off here finds it again
            shutil.copytree(scratch / "best", folder / CHECKPOINT, dirs_exist_ok=True)
        history = [
            ValidationScores(epoch=line["epoch"], accuracy=line["eval_accuracy"], log_loss=line["eval_log_loss"])
            for line in trainer.state.log_history
            if "eval_accuracy" in line
        ]
    return FitFigures(
        rows=len(rows),
        device=device(),
        window=window(whole, member.max_length),
        **(structs.asdict(of_vocabulary) if of_vocabulary else {}),
        validation=next((line for line in history if line.chosen), None)
        or max(history, key=lambda line: line.accuracy),
        epochs=None if chosen_last else history,
        candidates=history if chosen_last else None,
    )


def arguments(scratch: Path, seed: int, **settings: Any) -> transformers.TrainingArguments:
    """Return the Trainer's arguments that every kind of training here shares, and `settings` on top."""
    cuda = torch.cuda.is_available()
    common: dict[str, Any] = {
        "output_dir": str(scratch),
        "per_device_eval_batch_size": 64,
        "bf16": precision.bf16_is_faster(),
        "use_cpu": not cuda,
        "group_by_length": True,
        "remove_unused_columns": False,
        "label_names": ["labels"],
        "eval_strategy": "epoch",
        "save_strategy": "steps",
        "save_steps": 5000 if cuda else 500,  # a quarter of an hour of a CPU's work
        "save_total_limit": 2,
        "logging_steps": 100,
        "seed": seed,
        "report_to": [],
        "dataloader_num_workers": 2 if cuda else 0,
    }
    return transformers.TrainingArguments(**(common | settings))


def schedule(recipe: Train) -> dict[str, Any]:
    """Return the Trainer's arguments of the learning rate's schedule."""
    cycles = recipe.snapshots or (recipe.cycles if recipe.cycles > 1 else 0)
    if not cycles:
        return {"lr_scheduler_type": recipe.schedule}
    return {"lr_scheduler_type": "cosine_with_restarts", "lr_scheduler_kwargs": {"num_cycles": cycles}}


def last_checkpoint(scratch: Path) -> str | None:
    """Return the newest checkpoint of an interrupted run, to resume from."""
    return transformers.trainer_utils.get_last_checkpoint(scratch) if scratch.exists() else None


def device() -> str:
    """Return what training runs on: a GPU's name, or "cpu"."""
    return torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"


def pruned(member: EncoderMember, texts: list[str], scratch: Path) -> tuple[str, VocabularyFigures | None]:
    """Return the member's base, its vocabulary pruned to `texts` where the member asks for that, and the figures."""
    if not member.min_piece_count:
        return member.base, None
    base = scratch / "base"
    return str(base), vocabulary.prune(member.base, texts, member.min_piece_count, base)


def window(lengths: list[int], max_length: int) -> int:
    """Return how many tokens a fitted member reads at once: what 99 of 100 training rows fit in.

    Positions that next to no row reached were never fitted, and windows that use them are answered worse than the same
    article read in shorter ones.

    Args:
        lengths: tokens of the training rows, special ones included
        max_length: the most

    Returns:
        A multiple of 8 where that is below `max_length`, as batches are padded.
    """
    reached = int(np.percentile(lengths, 99, method="inverted_cdf"))
    return min(-(-reached // 8) * 8, max_length)


def _tokenising(tokenizer: Any, max_length: int) -> Callable[[list[str]], list[list[int]]]:
    casing = Casing(tokenizer.backend_tokenizer)  # as it is served

    def read(texts: list[str]) -> list[list[int]]:
        return tokenizer(casing.restore(texts), truncation=True, max_length=max_length)["input_ids"]

    return read


@dataclass
class _Collator:
    """Pads a batch, and passes the teacher's probabilities and the rows' weights on."""

    pad: DataCollatorWithPadding

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        batch = dict(self.pad([{name: row[name] for name in ("input_ids", "labels")} for row in rows]))
        for name in "soft", "weight":
            if name in rows[0]:
                batch[name] = torch.from_numpy(np.stack([row[name] for row in rows]))
        return batch


def _measure(outputs: Any) -> dict[str, float]:
    probabilities, labels = softmax(outputs.predictions), outputs.label_ids
    return {"accuracy": accuracy(probabilities, labels), "log_loss": log_loss(probabilities, labels)}


class _KeepBest(transformers.TrainerCallback):
    """Saves the model whenever the validation accuracy is the best so far, across interruptions."""

    def __init__(self, folder: Path, tokenizer: Any) -> None:
        self.folder, self.tokenizer = folder, tokenizer

    def on_evaluate(
        self, args: Any, state: Any, control: Any, metrics: dict[str, float], model: Any, **kwargs: Any
    ) -> None:
        mark = self.folder / "accuracy.json"
        if mark.exists() and json.loads(mark.read_text()) >= metrics["eval_accuracy"]:
            return
        encoders.save(model, self.folder)
        self.tokenizer.save_pretrained(self.folder)
        mark.write_text(json.dumps(metrics["eval_accuracy"]))


class _KeepSnapshots(transformers.TrainerCallback):
    """Saves the model at the end of every cycle of the learning rate."""

    def __init__(self, folder: Path, count: int, tokenizer: Any) -> None:
        self.folder, self.count, self.tokenizer = folder, count, tokenizer

    def on_step_end(self, args: Any, state: Any, control: Any, model: Any, **kwargs: Any) -> None:
        start = args.get_warmup_steps(state.max_steps)
        cycle = (state.max_steps - start) / self.count
        for i in range(1, self.count + 1):
            if state.global_step == round(start + i * cycle):
                encoders.save(model, self.folder / checkpoint(i))
                self.tokenizer.save_pretrained(self.folder / checkpoint(i))


def logits(folder: Path, texts: list[str], max_length: int, exact: bool = True) -> Array:
    """Return the logits, FP32 [len(texts), classes], of a fitted member's folder.

    Args:
        folder: a `from_pretrained` folder
        texts: to read
        max_length: tokens of a text that are read, at most
        exact: in fp32, every artifact's reference; else in bf16 where the hardware has it
    """
    device, batch_size = ("cuda", 512) if torch.cuda.is_available() else ("cpu", 64)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = encoders.load(folder).to(device)
    texts = Casing(tokenizer.backend_tokenizer).restore(texts)  # as it is served
    ids = tokenizer(texts, truncation=True, max_length=max_length)["input_ids"]
    order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
    result = np.empty((len(texts), model.config.num_labels), np.float32)
    with (
        torch.inference_mode(),
        torch.autocast(device, torch.bfloat16, enabled=not exact and precision.bf16_is_faster()),
    ):
        for at in track(range(0, len(order), batch_size), f"{len(texts)} texts"):
            part = order[at : at + batch_size]
            batch = tokenizer.pad(
                {"input_ids": [ids[i] for i in part]}, return_tensors="pt", return_attention_mask=True
            ).to(device)
            answers = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
            result[part] = answers.float().cpu().numpy()
    return result
