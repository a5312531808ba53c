"""Fine-tune an encoder on few rows so that texts of one label lie near each other: a fit of a minute.

The method is SetFit's (Tunstall et al. 2022, "Efficient Few-Shot Learning Without Prompts"): the cosine of two texts'
pooled states is drawn towards 1 where they have one label and towards 0 where they don't, and a linear layer is fitted
on the states afterwards. SetFit reads each pair of texts anew. Here every text of a batch is read once, and all pairs
of the batch count: 496 of 32 texts.
"""

import contextlib
from typing import Any

import numpy as np
import torch
import transformers
from transformers import AutoTokenizer

from newsdesk.build.members import encoders
from newsdesk.build.progress import track
from newsdesk.build.recipe import EncoderMember
from newsdesk.build.training import frozen, precision
from newsdesk.build.training.averaging import between
from newsdesk.build.training.fitting import EMBEDDINGS_ALONE, Dropout, freeze
from newsdesk.server.runtime.arrays import Array
from newsdesk.server.runtime.casing import Casing

_TEXTS_A_LABEL = 4
"""Texts that a batch has of a label, where there are labels enough to fill it."""


def tune(member: EncoderMember, texts: list[str], labels: Array, seed: int) -> transformers.PreTrainedModel:
    """Return the member's encoder, fine-tuned on the texts.

    Args:
        member: an encoder with `contrastive`
        texts: to learn from
        labels: INT [texts]
        seed: of the batches and the dropout
    """
    recipe = member.contrastive
    assert recipe
    transformers.set_seed(seed)
    place = "cuda" if torch.cuda.is_available() else "cpu"
    model = encoders.bare(member.base, member.name).to(place).train()
    pretrained = {name: value.clone() for name, value in model.state_dict().items()}
    freeze(model, EMBEDDINGS_ALONE)  # words that the rows never showed keep their place beside those that they did
    tokenizer = AutoTokenizer.from_pretrained(member.base, model_max_length=min(recipe.max_length, member.max_length))
    ids = tokenizer(Casing(tokenizer.backend_tokenizer).restore(texts), truncation=True)["input_ids"]
    learned = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(learned, lr=recipe.learning_rate)
    steps = recipe.steps_of(len(texts))
    schedule = transformers.get_linear_schedule_with_warmup(optimizer, steps // 10, steps)
    chance = np.random.default_rng(seed)
    dropout = Dropout if place == "cpu" else contextlib.nullcontext
    for _ in track(range(steps), f"{member.name} learns from {len(texts):,} texts"):
        part = draw(labels, recipe.batch_size, chance)
        drawn = {"input_ids": [ids[i] for i in part]}
        batch = tokenizer.pad(drawn, return_tensors="pt", pad_to_multiple_of=8).to(place)
        with dropout(), torch.autocast(place, torch.bfloat16, enabled=precision.bf16_is_faster()):
            states = model(**batch).last_hidden_state
        error = loss(encoders.pooled(states.float(), batch["attention_mask"], "unit"), torch.from_numpy(labels[part]))
        error.backward()
        torch.nn.utils.clip_grad_norm_(learned, 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    model.load_state_dict(between(pretrained, model.state_dict(), recipe.interpolate))
    return model.eval()


def states(member: EncoderMember, encoder: transformers.PreTrainedModel, texts: list[str]) -> Array:
    """Return the pooled states of texts by the member's tuned encoder, FP32 [texts, hidden]."""
    of_texts, _ = frozen.states_of(encoder, member.base, member.name, texts, member.max_length, member.pooling)
    return of_texts


def draw(labels: Array, count: int, chance: np.random.Generator) -> Array:
    """Return the places of at most `count` texts for a batch: labels at random, and as many texts of each of them.

    Args:
        labels: of all texts, INT [texts]
        count: texts of a batch
        chance: draws
    """
    present = np.unique(labels)
    drawn = chance.permutation(present)[: max(2, count // _TEXTS_A_LABEL)]
    each = count // len(drawn)
    return np.concatenate([chance.permutation(np.flatnonzero(labels == label))[:each] for label in drawn])


def loss(states: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return the mean squared error of the cosines, pairs of one label and pairs of two weighing the same.

    Args:
        states: of length 1, FP32 [texts, hidden]
        labels: INT [texts]
    """
    labels = labels.to(states.device)
    alike = (labels[:, None] == labels[None]).float()
    pairs = torch.ones_like(alike).fill_diagonal_(0)
    errors = (states @ states.T - alike) ** 2
    return (_mean(errors, pairs * alike) + _mean(errors, pairs * (1 - alike))) / 2


def _mean(errors: torch.Tensor, counted: torch.Tensor) -> Any:
    return (errors * counted).sum() / counted.sum().clamp(min=1)
