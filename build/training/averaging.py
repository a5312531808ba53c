"""Weights to choose from when training ends: the last ones, their average, and those on the way from the pretrained.

An exponential average of the weights over the steps errs less than the last ones (Polyak and Juditsky 1992). Weights on
the straight line between the pretrained and the fitted ones keep what the pretrained ones knew of other sources
(WiSE-FT: Wortsman et al. 2022, "Robust fine-tuning of zero-shot models").
"""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
import transformers
from msgspec.structs import replace
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from newsdesk.build.training.figures import ValidationScores
from newsdesk.server.runtime.arrays import Array

_FILE = "average.pt"

Weights = dict[str, torch.Tensor]


class WeightsCandidate(NamedTuple):
    """Weights for the model, named for the report; `share` of the way from the pretrained ones."""

    name: str
    share: float
    weights: Weights


class Average(transformers.TrainerCallback):
    """An exponential average of a model's weights, kept with the Trainer's checkpoints and read from them again."""

    def __init__(self, model: torch.nn.Module, decay: float) -> None:
        self._averaged = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay))

    @property
    def weights(self) -> Weights:
        """The average, by the names of the model's own weights."""
        return self._averaged.module.state_dict()

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Go on from the average of the checkpoint that training resumes from."""
        saved = Path(args.output_dir) / f"checkpoint-{state.global_step}" / _FILE
        if state.global_step and saved.is_file():
            self._averaged.load_state_dict(torch.load(saved, weights_only=True))

    def on_step_end(self, args: Any, state: Any, control: Any, model: Any, **kwargs: Any) -> None:
        """Take the weights of a step into the average."""
        self._averaged.update_parameters(model)

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Write the average into the checkpoint that the Trainer wrote."""
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        if folder.is_dir():
            torch.save(self._averaged.state_dict(), folder / _FILE)


def candidates(
    model: torch.nn.Module, pretrained: Weights, average: Average | None, shares: tuple[float, ...]
) -> Iterator[WeightsCandidate]:
    """Yield the last weights, their average, and the better-founded of the two at each share of the way.

    Args:
        model: the fitted one
        pretrained: its weights before; those that it lacked, its new head's, are the fitted ones at every share
        average: of the training; None without one
        shares: of the way from the pretrained to the fitted, 0 to 1
    """
    encoder = f"{getattr(model, 'base_model_prefix', 'encoder')}."
    last = {name: value.clone() for name, value in model.state_dict().items()}
    yield WeightsCandidate("last", 1.0, last)
    fitted = last
    if average:
        fitted = average.weights
        yield WeightsCandidate("average", 1.0, fitted)
    for share in shares:
        if share < 1:
            yield WeightsCandidate(f"{share:g} of the way", share, between(pretrained, fitted, share, encoder))


def choose(trainer: transformers.Trainer, among: Iterator[WeightsCandidate]) -> list[ValidationScores]:
    """Give the model the weights nearest to the pretrained that are as right as the best, and return all figures.

    As right means: the accuracy on the trainer's evaluation rows is within one standard error of the best one's, both
    on the same rows.
    """
    figures: list[ValidationScores] = []
    shares, weights, right = [], [], []
    for candidate in among:
        trainer.model.load_state_dict(candidate.weights)
        answered = trainer.predict(trainer.eval_dataset)
        accuracy, log_loss = answered.metrics["test_accuracy"], answered.metrics["test_log_loss"]
        figures.append(
            ValidationScores(name=candidate.name, share=candidate.share, accuracy=accuracy, log_loss=log_loss)
        )
        shares.append(candidate.share)
        weights.append(candidate.weights)
        right.append(answered.predictions.argmax(-1) == answered.label_ids)
    best = max(range(len(figures)), key=lambda i: figures[i].accuracy)
    place = min(
        (i for i, answers in enumerate(right) if _as_right(answers, right[best])),
        key=lambda i: (shares[i], -figures[i].accuracy),
    )
    figures[place] = replace(figures[place], chosen=True)
    trainer.model.load_state_dict(weights[place])
    return figures


def _as_right(right: Array, best: Array) -> bool:
    """Tell whether answers BOOL [rows] are right within one standard error of the best ones'."""
    return best.sum() - right.sum() <= math.sqrt((right != best).sum())


def between(pretrained: Weights, fitted: Weights, share: float, encoder: str = "") -> Weights:
    """Return the weights at a share of the way from the pretrained to the fitted ones.

    Args:
        pretrained: by name
        fitted: by name
        share: of the way, 0 to 1
        encoder: how the names of those begin that were pretrained; others are the fitted ones. Empty: all were
    """
    return {
        name: torch.lerp(pretrained[name], value, share)
        if name.startswith(encoder) and value.is_floating_point()
        else value
        for name, value in fitted.items()
    }
