"""Adversarial training: fit a batch also where its words are moved the way that raises the loss most.

FGM (Miyato et al. 2017, "Adversarial training methods for semi-supervised text classification") takes one step up the
gradient. PGD (Madry et al. 2018, "Towards deep learning models resistant to adversarial attacks") takes several, and
comes back to the ball after each. FreeLB (Zhu et al. 2020) begins anywhere in the ball and learns at every step.

The output of the word embeddings is moved, not their table. So a text has a step of its own, and frozen embeddings are
no obstacle.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch

from newsdesk.build.recipe import Adversarial

_REACH = 2.5
"""Ball radii that all steps together could go: as Madry et al. have it, enough to reach its edge from anywhere."""


class Adversary:
    """Moves the word embeddings of a model's batches, FP32 [texts, tokens, width], in a ball around what they are."""

    def __init__(self, recipe: Adversarial, model: Any) -> None:
        self._recipe, self._model = recipe, model
        self._words = model.get_input_embeddings()
        self._move: torch.Tensor | None = None
        self._words.register_forward_hook(self._moved)

    def train(
        self, tokens: torch.Tensor, learn: Callable[[], torch.Tensor], loss: Callable[[], torch.Tensor]
    ) -> torch.Tensor:
        """Fit one batch.

        Args:
            tokens: its ids, INT64 [texts, tokens]
            learn: add the gradients of the batch's loss to those of the model, and return that loss
            loss: return that loss alone, with its graph

        Returns:
            The loss where nothing is moved; of FreeLB the mean over its steps.
        """
        shape = (*tokens.shape, self._words.embedding_dim)
        if self._recipe.method == "freelb":
            return self._train_at_every_step(shape, learn)
        move = torch.zeros(shape, device=self._words.weight.device, requires_grad=True)
        with self._at(move):
            unmoved = learn()
        assert move.grad is not None
        move = self._climb(move, move.grad)
        for _ in range(self._recipe.steps - 1):
            move.requires_grad_()
            with self._at(move):
                (gradient,) = torch.autograd.grad(loss(), move)
            move = self._climb(move, gradient)
        with self._at(move):
            learn()
        return unmoved

    def _train_at_every_step(self, shape: tuple[int, ...], learn: Callable[[], torch.Tensor]) -> torch.Tensor:
        start = torch.empty(shape, device=self._words.weight.device).uniform_(-1, 1)
        move, losses = self._within(start), []
        for _ in range(self._recipe.steps):
            move.requires_grad_()
            with self._at(move):
                losses.append(learn())
            assert move.grad is not None
            move = self._climb(move, move.grad)
        for parameter in self._model.parameters():
            if parameter.grad is not None:  # of this batch alone: gradients are not accumulated over batches
                parameter.grad /= self._recipe.steps
        return torch.stack(losses).mean()

    def _climb(self, move: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
        """Return the move one step up the gradient, of each text apart, and back in the ball."""
        length = gradient.flatten(1).norm(dim=1).clamp(min=1e-12).view(-1, 1, 1)
        step = _REACH * self._recipe.norm / self._recipe.steps
        return self._within(move.detach() + step * gradient / length)

    def _within(self, move: torch.Tensor) -> torch.Tensor:
        length = move.flatten(1).norm(dim=1).clamp(min=1e-12).view(-1, 1, 1)
        return move * (self._recipe.norm / length).clamp(max=1)

    @contextlib.contextmanager
    def _at(self, move: torch.Tensor) -> Iterator[None]:
        self._move = move
        try:
            yield
        finally:
            self._move = None

    def _moved(self, module: Any, inputs: Any, words: torch.Tensor) -> torch.Tensor:
        return words if self._move is None else words + self._move
