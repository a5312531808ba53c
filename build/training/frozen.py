"""Fit a linear layer on an encoder that stays as it was pretrained: a convex fit, of seconds, for few rows.

The texts are read by the encoder once. The pooled states are centred and scaled for the fit, and the layer that is
saved has both multiplied into it, so that the checkpoint is that of any fine-tuned encoder with a pooling.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from transformers import AutoTokenizer, PreTrainedModel

from newsdesk.build.ensemble import calibrators
from newsdesk.build.ensemble.balance import equal
from newsdesk.build.evaluation.metrics import is_worse, row_losses, softmax
from newsdesk.build.members import encoders, layers
from newsdesk.build.progress import track
from newsdesk.build.recipe import EncoderMember
from newsdesk.build.training.trainer import CHECKPOINT
from newsdesk.server.runtime import calibrate
from newsdesk.server.runtime.arrays import Array
from newsdesk.server.runtime.casing import Casing

_TOKENS_AT_ONCE = 4096
_STEPS = 300
"""The most steps of L-BFGS: hundreds of numbers a text leave no more to win behind them."""


@dataclass(frozen=True)
class Head:
    """A linear layer over pooled states: weights FP32 [labels, hidden], bias FP32 [labels]."""

    weights: Array
    bias: Array

    def logits(self, states: Array) -> Array:
        """Return logits, FP32 [texts, labels], of pooled states FP32 [texts, hidden]."""
        return states @ self.weights.T + self.bias


def embed(base: str, name: str, texts: list[str], max_length: int, pooling: str) -> tuple[Array, list[int]]:
    """Return the pooled states of texts, FP32 [texts, hidden], and the tokens of each text.

    Args:
        base: the encoder: its name on the hub, or its folder
        name: the member's, for messages
        texts: to read
        max_length: tokens of a text that are read, at most
        pooling: how the states of the tokens become one
    """
    return states_of(encoders.bare(base, name), base, name, texts, max_length, pooling)


def states_of(
    model: PreTrainedModel, base: str, name: str, texts: list[str], max_length: int, pooling: str
) -> tuple[Array, list[int]]:
    """Return what `embed` does, of an encoder that is loaded; `base` is where its tokenizer lies."""
    tokenizer = AutoTokenizer.from_pretrained(base, model_max_length=max_length)
    place = "cuda" if torch.cuda.is_available() else "cpu"
    model = model.to(place).eval()
    restored = Casing(tokenizer.backend_tokenizer).restore(texts)  # as it is served
    ids = tokenizer(restored, truncation=True, max_length=max_length)["input_ids"]
    lengths = [len(of_text) for of_text in ids]
    states = np.empty((len(texts), model.config.hidden_size), np.float32)
    with torch.inference_mode():
        for part in track(_groups(lengths), f"{name} reads {len(texts):,} texts"):
            batch = tokenizer.pad(
                {"input_ids": [ids[i] for i in part]}, return_tensors="pt", return_attention_mask=True
            ).to(place)
            mask = batch["attention_mask"]
            tokens = model(input_ids=batch["input_ids"], attention_mask=mask).last_hidden_state
            states[part] = encoders.pooled(tokens, mask, pooling).float().cpu().numpy()
    return states, lengths


def fit(
    states: Array,
    labels: Array,
    count: int,
    *,
    cost: float = 1.0,
    balanced: bool = False,
    weights: Array | None = None,
    soft: Array | None = None,
) -> Head:
    """Fit a logistic regression on pooled states.

    A label without a row is the last that the layer says.

    Args:
        states: FP32 [texts, hidden]
        labels: INT [texts]
        count: of labels
        cost: scikit-learn's C
        balanced: whether the rows of every label count as much together
        weights: the rows' own, FP [texts]
        soft: probabilities FP [texts, count], learned from instead of the labels

    Raises:
        DataError: fewer than two labels have rows.
    """
    centre = states.mean(0, dtype=np.float64)
    scale = float(np.sqrt(((states - centre) ** 2).sum(1).mean())) or 1.0
    scaled = (states - centre) * (_LENGTH / scale)
    if soft is not None:
        texts, labels, weights = layers.repeated(soft, weights, balanced)
        scaled, balanced = scaled[texts], False
    present = layers.present(labels)
    classifier = LogisticRegression(
        C=cost, max_iter=_STEPS, tol=1e-4, class_weight="balanced" if balanced else None
    ).fit(scaled, labels, sample_weight=weights)
    lines = classifier.coef_ * (_LENGTH / scale)
    weights_of_all, bias = layers.of_all_labels(lines, classifier.intercept_ - lines @ centre, present, count)
    return Head(weights_of_all.astype(np.float32), bias.astype(np.float32))


_LENGTH = 8.0
"""Root mean square length of a text's state in the fit, which says how much a C of 1 holds the weights back."""


def out_of_fold(
    member: EncoderMember,
    count: int,
    states_without: Callable[[Array], Array],
    truth: Array,
    weights: Array,
    parts: list[Array],
    soft: Array | None = None,
) -> tuple[float, Array]:
    """Return the cost, and logits FP32 [rows, count] of each part by a fit that never saw it.

    The cost is the smallest whose log-loss is within one standard error of the least, both on the same rows: of a few
    dozen rows the least is mostly chance, and layers that are held back more are wrong less often on other texts. The
    losses are those of calibrated probabilities, as members are combined: a layer that is held back more is only less
    sure of itself, which a temperature mends.

    Args:
        member: an encoder that stays frozen
        count: of labels
        states_without: returns the states of all rows, FP32 [rows, hidden], by an encoder that never saw a part
        truth: labels INT [rows], which judge
        weights: FP [rows]
        parts: numbers of rows; rows of no part keep logits of 0, and are not judged
        soft: probabilities FP [rows, count], learned from as by `fit`
    """
    assert member.frozen
    logits_by_cost = {cost: np.zeros((len(truth), count), np.float32) for cost in member.frozen.costs}
    for part in track(parts, f"{member.name}, a linear layer without each part"):
        states = states_without(part)
        rest = np.setdiff1d(np.arange(len(states)), part)
        for cost, logits in logits_by_cost.items():
            head = fit(
                states[rest],
                truth[rest],
                count,
                cost=cost,
                balanced=member.balanced,
                weights=weights[rest],
                soft=None if soft is None else soft[rest],
            )
            logits[part] = head.logits(states[part])
    judged = np.concatenate(parts)
    counts = equal(truth[judged]) if member.balanced else None
    losses = {cost: calibrated_losses(logits[judged], truth[judged], counts) for cost, logits in logits_by_cost.items()}
    least = min(losses.values(), key=lambda of_rows: np.average(of_rows, weights=counts))
    chosen = min(cost for cost, of_rows in losses.items() if not is_worse(of_rows, least, errors=1, weights=counts))
    return chosen, logits_by_cost[chosen]


def calibrated_losses(logits: Array, truth: Array, counts: Array | None = None) -> Array:
    """Return what each row loses once its probabilities are calibrated, FP [rows].

    Args:
        logits: FP [rows, labels]
        truth: INT [rows]
        counts: how much each row counts, FP [rows]; None: alike
    """
    probabilities = softmax(logits)
    return row_losses(calibrate.ready(calibrators.of_member(probabilities, truth, counts))(probabilities), truth)


def save(
    member: EncoderMember, labels: list[str], head: Head, folder: Path, tuned: PreTrainedModel | None = None
) -> None:
    """Write the encoder, as it was pretrained or `tuned`, with the layer to `folder`/checkpoint."""
    model = encoders.create(member.base, member.pooling, labels, member.name)
    assert isinstance(model, encoders.Pooled)
    if tuned:
        model.encoder.load_state_dict(tuned.state_dict())
    model.head.load_state_dict({"weight": torch.from_numpy(head.weights), "bias": torch.from_numpy(head.bias)})
    encoders.save(model, folder / CHECKPOINT)
    AutoTokenizer.from_pretrained(member.base, model_max_length=member.max_length).save_pretrained(folder / CHECKPOINT)


def _groups(lengths: list[int]) -> list[list[int]]:
    """Part texts into batches of like length, of some thousand tokens each."""
    order = sorted(range(len(lengths)), key=lengths.__getitem__)
    groups: list[list[int]] = []
    for i in order:
        if groups and (len(groups[-1]) + 1) * lengths[i] <= _TOKENS_AT_ONCE:
            groups[-1].append(i)
        else:
            groups.append([i])
    return groups
