"""A pretrained encoder with a classification head: the family's own, or a pooling of ours before a linear layer."""

import os
from pathlib import Path
from typing import Any, Literal, TypeAlias

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModel, AutoModelForSequenceClassification, PreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput
from transformers.utils import logging

from newsdesk.build.members import bases

Pooling = Literal["own", "mean", "unit", "first"]
if "TRANSFORMERS_VERBOSITY" not in os.environ:
    logging.set_verbosity_error()  # no warning of its is about what a build does: weights without a use, ways to pad

HEAD = "head.safetensors"
_MARK = "newsdesk_pooling"
"""Key of the saved configuration that says that the head is ours."""


class Pooled(torch.nn.Module):
    """An encoder whose token states are pooled, by "mean", "unit" or "first", into a linear layer.

    Mean pooling is what sentence encoders (e5, MiniLM, MPNet) were trained with, and they compare means by their angle
    alone: "unit". BERT's own head starts from a pooler that those never fitted.
    """

    def __init__(self, encoder: PreTrainedModel, pooling: Pooling) -> None:
        super().__init__()
        self.encoder, self.config, self.pooling = encoder, encoder.config, pooling
        self.dropout = torch.nn.Dropout(getattr(self.config, "hidden_dropout_prob", 0.1))
        self.head = torch.nn.Linear(self.config.hidden_size, self.config.num_labels)
        torch.nn.init.normal_(self.head.weight, std=0.02)
        torch.nn.init.zeros_(self.head.bias)

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, token_type_ids: torch.Tensor | None = None
    ) -> SequenceClassifierOutput:
        """Return the logits, FP [batch, labels], of ids and mask, INT64 [batch, length]."""
        kinds = {} if token_type_ids is None else {"token_type_ids": token_type_ids}
        states = self.encoder(input_ids=input_ids, attention_mask=attention_mask, **kinds).last_hidden_state
        return SequenceClassifierOutput(logits=self.head(self.dropout(pooled(states, attention_mask, self.pooling))))

    def get_input_embeddings(self) -> torch.nn.Module:
        """Return the encoder's own, as transformers asks for them."""
        return self.encoder.get_input_embeddings()


def pooled(states: torch.Tensor, attention_mask: torch.Tensor, pooling: str) -> torch.Tensor:
    """Return pooled token states, FP [batch, hidden].

    Args:
        states: FP [batch, length, hidden]
        attention_mask: INT [batch, length]
        pooling: "mean" over the real tokens, "unit", the same scaled to length 1, or "first"
    """
    if pooling == "first":
        return states[:, 0]
    mask = attention_mask.unsqueeze(-1).to(states.dtype)
    mean = (states * mask).sum(1) / mask.sum(1).clamp(min=1)
    return mean / mean.norm(dim=1, keepdim=True).clamp(min=1e-6) if pooling == "unit" else mean


Encoder: TypeAlias = PreTrainedModel | Pooled


def create(base: str, pooling: Pooling, labels: list[str], name: str) -> Encoder:
    """Return the pretrained encoder `base` (a hub name or a folder) with a new head for `labels`."""
    names: dict[str, Any] = {
        "num_labels": len(labels),
        "id2label": dict(enumerate(labels)),
        "label2id": {label: i for i, label in enumerate(labels)},
    }
    bases.check(base, name)
    if pooling == "own":
        return AutoModelForSequenceClassification.from_pretrained(base, **_settings(), **names)
    return Pooled(_bare(base, **_settings(), **names), pooling)


def bare(base: str, name: str) -> PreTrainedModel:
    """Return the pretrained encoder `base` (a hub name or a folder) of the member `name`, without a head."""
    bases.check(base, name)
    return _bare(base, **_settings())


def _settings() -> dict[str, Any]:
    """On CPUs eager attention: the fused one has no kernel there for dropout, and a step takes 15 % longer."""
    attention = {} if torch.cuda.is_available() else {"attn_implementation": "eager"}
    return {"dtype": torch.float32, **attention}


def save(model: Encoder, folder: Path) -> None:
    """Write a fitted member as a `from_pretrained` folder.

    It is in fp16: half of the disk, and finer than any precision that it is served in.
    """
    head = None
    if isinstance(model, Pooled):
        setattr(model.config, _MARK, model.pooling)
        model, head = model.encoder, model.head
    model.save_pretrained(folder, state_dict=_halved(model))
    if head:
        save_file(_halved(head), Path(folder) / HEAD)


def load(checkpoint: Path) -> Encoder:
    """Return a fitted member in fp32, ready to be asked or exported.

    Eager attention: fused attention is traced into 12 more products and 6 more transposes, and OpenVINO is 7 to 15 %
    slower on it.
    """
    settings: dict[str, Any] = {"dtype": torch.float32, "attn_implementation": "eager"}
    pooling: Pooling = getattr(AutoConfig.from_pretrained(checkpoint), _MARK, "own")
    if pooling == "own":
        return AutoModelForSequenceClassification.from_pretrained(checkpoint, **settings).eval()
    model = Pooled(_bare(str(checkpoint), **settings), pooling)
    model.head.load_state_dict(load_file(checkpoint / HEAD))
    return model.eval()


def _halved(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {
        name: value.half().contiguous() if value.is_floating_point() else value
        for name, value in module.state_dict().items()
    }


def _bare(base: str, **settings: Any) -> PreTrainedModel:
    """Return the encoder without the pooler that some families add and that nothing here reads."""
    try:
        return AutoModel.from_pretrained(base, add_pooling_layer=False, **settings)
    except TypeError:  # a family without one
        return AutoModel.from_pretrained(base, **settings)
