"""Fine-tune a pretrained encoder with a classification head, through transformers' Trainer."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from transformers import AutoModelForSequenceClassification, AutoTokenizer, DataCollatorWithPadding, Trainer

from newsdesk.build.data.cleaning import Row
from newsdesk.build.errors import BuildError
from newsdesk.build.evaluation.metrics import accuracy, log_loss, softmax
from newsdesk.build.recipe import Member

CHECKPOINT = "checkpoint"
"""The fitted model, as a `from_pretrained` folder below the stage's."""


@dataclass
class _Encoded(torch.utils.data.Dataset):
    """Rows tokenised once; `length` lets the Trainer group rows of like length."""

    ids: list[list[int]]
    labels: list[int]

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, i: int) -> dict[str, Any]:
        return {"input_ids": self.ids[i], "labels": self.labels[i]}


def train(
    member: Member, labels: list[str], rows: list[Row], validation: list[Row], seed: int, folder: Path
) -> dict[str, Any]:
    """Fit `member` on `rows`, keep the epoch with the best accuracy on `validation`, write it to `folder`/checkpoint.

    Resumes from the newest checkpoint in `folder`/scratch. Returns the figures: accuracy and log-loss per epoch.
    """
    recipe = member.train
    if recipe.max_rows:
        rows = rows[: recipe.max_rows]
    transformers.set_seed(seed)
    try:
        tokenizer = AutoTokenizer.from_pretrained(member.base, model_max_length=member.max_length)
        model = AutoModelForSequenceClassification.from_pretrained(
            member.base,
            num_labels=len(labels),
            id2label=dict(enumerate(labels)),
            label2id={name: i for i, name in enumerate(labels)},
        )
    except OSError as error:
        raise BuildError(
            f"member {member.name}: {member.base!r} is neither a folder here nor a model that the hub gave ({error}). "
            "Name a local folder: --set members.0.base=PATH"
        ) from error
    if recipe.freeze_word_embeddings:
        model.get_input_embeddings().requires_grad_(False)
    scratch = folder / "scratch"
    arguments = transformers.TrainingArguments(
        output_dir=str(scratch),
        num_train_epochs=recipe.epochs,
        per_device_train_batch_size=recipe.batch_size,
        per_device_eval_batch_size=64,
        learning_rate=recipe.learning_rate,
        lr_scheduler_type=recipe.schedule,
        warmup_ratio=recipe.warmup_ratio,
        weight_decay=recipe.weight_decay,
        label_smoothing_factor=recipe.label_smoothing,
        bf16=recipe.bf16,
        use_cpu=not torch.cuda.is_available(),
        group_by_length=True,
        eval_strategy="epoch",
        save_strategy="steps",
        save_steps=500,
        save_total_limit=2,
        logging_steps=100,
        load_best_model_at_end=False,  # the best epoch is kept by _KeepBest, at any save interval
        seed=seed,
        report_to=[],
        dataloader_num_workers=0,
    )
    best = _KeepBest(scratch / "best", tokenizer)
    trainer = Trainer(
        model=model,
        args=arguments,
        train_dataset=_encode(tokenizer, rows, member.max_length),
        eval_dataset=_encode(tokenizer, validation, member.max_length),
        data_collator=DataCollatorWithPadding(
            tokenizer, pad_to_multiple_of=8
        ),  # few shapes: kernels are cached per shape
        processing_class=tokenizer,
        compute_metrics=_measure,
        callbacks=[best],
    )
    trainer.train(
        resume_from_checkpoint=transformers.trainer_utils.get_last_checkpoint(scratch) if scratch.exists() else None
    )
    (scratch / "best").rename(folder / CHECKPOINT)
    history = [
        {"epoch": line["epoch"], "accuracy": line["eval_accuracy"], "log_loss": line["eval_log_loss"]}
        for line in trainer.state.log_history
        if "eval_accuracy" in line
    ]
    return {"rows": len(rows), "validation": max(history, key=lambda line: line["accuracy"]), "epochs": history}


def _encode(tokenizer: Any, rows: list[Row], max_length: int) -> _Encoded:
    ids = tokenizer([row.text for row in rows], truncation=True, max_length=max_length)["input_ids"]
    return _Encoded(ids, [row.label for row in rows])


def _measure(outputs: Any) -> dict[str, float]:
    probabilities, labels = softmax(outputs.predictions), outputs.label_ids
    return {"accuracy": accuracy(probabilities, labels), "log_loss": log_loss(probabilities, labels)}


class _KeepBest(transformers.TrainerCallback):
    """Saves the model whenever the validation accuracy is the best so far, across interruptions."""

    def __init__(self, folder: Path, tokenizer: Any) -> None:
        self.folder, self.tokenizer = folder, tokenizer

    def on_evaluate(self, args: Any, state: Any, control: Any, metrics: dict, model: Any, **kwargs: Any) -> None:
        mark = self.folder / "accuracy.json"
        if mark.exists() and json.loads(mark.read_text()) >= metrics["eval_accuracy"]:
            return
        model.save_pretrained(self.folder)
        self.tokenizer.save_pretrained(self.folder)
        mark.write_text(json.dumps(metrics["eval_accuracy"]))


def logits(checkpoint: Path, texts: list[str], max_length: int, batch_size: int = 64) -> np.ndarray:
    """Return the fp32 logits, FP32 [len(texts), classes], of a `from_pretrained` folder: every artefact's reference."""
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    model = AutoModelForSequenceClassification.from_pretrained(checkpoint, dtype=torch.float32).eval()
    ids = tokenizer(texts, truncation=True, max_length=max_length)["input_ids"]
    order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
    result = np.empty((len(texts), model.config.num_labels), np.float32)
    with torch.inference_mode():
        for at in range(0, len(order), batch_size):
            part = order[at : at + batch_size]
            batch = tokenizer.pad({"input_ids": [ids[i] for i in part]}, return_tensors="pt")
            result[part] = model(**batch).logits.numpy()
    return result
