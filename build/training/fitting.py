"""How a step of training goes: the loss, its regularisers, and the learning rate of each layer."""

import contextlib
import re
from collections.abc import Iterator
from typing import Any

import torch
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from transformers import Trainer
from transformers.trainer_pt_utils import get_length_grouped_indices

from newsdesk.build.recipe import Distil, Train
from newsdesk.build.training.adversary import Adversary


class Fitting(Trainer):
    """transformers' Trainer with what the recipe adds to it.

    Rows may carry `soft`, a teacher's probabilities FP32 [labels], and `weight`, how much they count.

    r_drop       R-Drop (Liang et al. 2021): two passes under different dropout, and a symmetric KL between them
    adversarial  FGM, PGD or FreeLB on the word embeddings (`Adversary`)
    layer_decay  each layer learns at that share of the rate of the one above it (Howard and Ruder 2018)
    distil       the teacher's share of the loss, and the temperature of both (Hinton et al. 2015)
    """

    def __init__(self, *arguments: Any, recipe: Train, distil: Distil | None, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self._recipe, self._distil = recipe, distil
        self._adversary = Adversary(recipe.adversarial, self.model) if recipe.adversarial else None
        self._on_cpu = self.args.device.type == "cpu"
        self.model_accepts_loss_kwargs = False  # the loss is a mean over the batch

    def _get_train_sampler(self, train_dataset: Any = None) -> "torch.utils.data.Sampler[int]":
        return LengthSampler(self.train_dataset, self.args.train_batch_size, self.args.seed)

    def compute_loss(self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, **_: Any) -> Any:
        """Return the mean loss of a batch, and with `return_outputs` its logits, FP32 [rows, labels], too."""
        of_rows = {name: inputs.get(name) for name in ("labels", "soft", "weight")}
        tensors = {name: value for name, value in inputs.items() if name not in of_rows}
        dropout = Dropout if self._on_cpu else contextlib.nullcontext
        with dropout():
            outputs = model(**tensors)
        loss = self._loss(outputs.logits, **of_rows)
        if self._recipe.r_drop and model.training:
            with dropout():
                again = model(**tensors).logits
            loss = (loss + self._loss(again, **of_rows)) / 2 + self._recipe.r_drop * _distance(outputs.logits, again)
        return (loss, {"logits": outputs.logits}) if return_outputs else loss

    def _loss(
        self, logits: torch.Tensor, labels: torch.Tensor, soft: torch.Tensor | None, weight: torch.Tensor | None
    ) -> torch.Tensor:
        logits = logits.float()
        smoothing = self._recipe.label_smoothing
        loss = functional.cross_entropy(logits, labels, label_smoothing=smoothing, reduction="none")
        loss = (loss if weight is None else loss * weight).mean()
        if soft is None or self._distil is None:
            return loss
        warm = self._distil.temperature
        target = functional.softmax(soft.clamp(min=1e-7).log() / warm, -1)
        taught = functional.kl_div(functional.log_softmax(logits / warm, -1), target, reduction="batchmean") * warm**2
        return (1 - self._distil.weight) * loss + self._distil.weight * taught

    def training_step(self, model: Any, inputs: dict[str, Any], num_items_in_batch: Any = None) -> torch.Tensor:
        """Add the gradients of a batch, with an adversary's where the recipe has one; return the loss."""

        def learn() -> torch.Tensor:
            return super(Fitting, self).training_step(model, inputs, num_items_in_batch)

        if not self._adversary:
            return learn()
        return self._adversary.train(
            inputs["input_ids"], learn, lambda: self.compute_loss(model, self._prepare_inputs(inputs))
        )

    def create_optimizer(self) -> torch.optim.Optimizer:
        """Make AdamW, with a rate for each layer where the recipe's decays."""
        if self._recipe.layer_decay < 1:
            groups = layer_groups(
                self.model, self.args.learning_rate, self._recipe.layer_decay, self._recipe.weight_decay
            )
            self.optimizer = torch.optim.AdamW(groups, lr=self.args.learning_rate, fused=not self._on_cpu)
        return super().create_optimizer()


class LengthSampler(torch.utils.data.Sampler[int]):
    """Rows in a random order of each epoch's own, those of a batch of like length, in the views of that epoch."""

    def __init__(self, rows: Any, batch_size: int, seed: int) -> None:
        self._rows, self._batch_size, self._seed, self._epoch = rows, batch_size, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Be told by the Trainer which epoch begins, in a run that is resumed as well."""
        self._epoch = epoch

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[int]:
        self._rows.draw(self._epoch)
        lengths = [len(ids) for ids in self._rows.ids]
        generator = torch.Generator().manual_seed(self._seed + self._epoch)
        return iter(get_length_grouped_indices(lengths, self._batch_size, generator=generator))


class Dropout(TorchFunctionMode):
    """Dropout that draws a byte an element, where a CPU otherwise draws a number: about half of its time.

    The share is rounded to a 256th, and what is left is scaled by just that share. torch's generator draws, so seeds
    and checkpoints hold.
    """

    def __torch_function__(self, function: Any, types: Any, arguments: Any = (), keywords: Any = None) -> Any:
        return (_dropped if function is functional.dropout else function)(*arguments, **(keywords or {}))


def _dropped(x: torch.Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> torch.Tensor:
    dropped = round(p * 256)
    if not training or not 0 < dropped < 256:
        return functional.dropout(x, p, training, inplace)
    words = torch.empty(x.numel() // 8 + 1, dtype=torch.int64).random_(torch.iinfo(torch.int64).min, None)
    kept = words.view(torch.uint8)[: x.numel()].view(x.shape) >= dropped
    return x * kept.to(x.dtype).mul_(256 / (256 - dropped))


def layer_groups(model: Any, rate: float, decay: float, weight_decay: float) -> list[dict[str, Any]]:
    """Return AdamW's parameter groups: the head at `rate`, the layer below at `rate`·`decay`, the embeddings last.

    Biases and normalisation weights aren't decayed.
    """
    depths = {name: _depth(name) for name, parameter in model.named_parameters() if parameter.requires_grad}
    numbers = [depth for depth in depths.values() if depth is not None and depth >= 0]
    top = max(numbers, default=-1) + 1  # layers
    groups: dict[tuple[int, bool], dict[str, Any]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        depth = depths[name]
        below = 0 if depth is None else top - depth  # embeddings (-1) stand below every layer
        plain = parameter.ndim < 2
        group = groups.setdefault(
            (below, plain),
            {"params": [], "lr": rate * decay**below, "weight_decay": 0.0 if plain else weight_decay},
        )
        group["params"].append(parameter)
    return list(groups.values())


EMBEDDINGS_ALONE = 0
"""Layers to freeze where the embeddings alone stay as they are."""


def freeze(model: Any, layers: int) -> None:
    """Leave the embeddings and the lowest `layers` of the encoder as they are."""
    for name, parameter in model.named_parameters():
        depth = _depth(name)
        if depth is not None and depth < layers:
            parameter.requires_grad_(False)


def _depth(name: str) -> int | None:
    """Return the layer's number, -1 for embeddings (and MPNet's bias, which its layers share), None for the head."""
    if layer := re.search(r"\.layers?\.(\d+)\.", name):
        return int(layer[1])
    return -1 if "embedding" in name or "relative_attention_bias" in name else None


def _distance(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Return the symmetric KL divergence of two batches of logits."""
    a, b = functional.log_softmax(a.float(), -1), functional.log_softmax(b.float(), -1)
    forth = functional.kl_div(a, b, log_target=True, reduction="batchmean")
    return (forth + functional.kl_div(b, a, log_target=True, reduction="batchmean")) / 2
