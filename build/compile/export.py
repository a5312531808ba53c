"""Export a fitted member to ONNX, and prove that the graph answers as the model does at shapes it was not traced at."""

import itertools
import json
import shutil
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from msgspec import structs
from transformers import AutoTokenizer, PreTrainedModel

from newsdesk.build.compile import rewrite
from newsdesk.build.compile.families import FAMILIES, family
from newsdesk.build.compile.graphs import GRAPH, OPSET, PARITY_TOLERANCE, GraphFacts
from newsdesk.build.compile.metrics import ExportFigures, Parity
from newsdesk.build.errors import BuildError, VerificationError
from newsdesk.build.members import encoders
from newsdesk.build.members.encoders import Encoder, Pooled
from newsdesk.build.progress import track
from newsdesk.server.runtime import engines
from newsdesk.server.runtime.arrays import Array

TOKENIZER = "tokenizer.json"
PARITY_LENGTHS = 1, 2, 16, 128, 512
PARITY_BATCHES = 1, 2, 8
_UNLIMITED = 8192
"""Tokens of a family whose positions are relative: the most that a recipe may ask for."""


def export(checkpoint: Path, folder: Path, max_length: int, texts: Sequence[str] = ()) -> ExportFigures:
    """Write the fp32 graph, the tokenizer and the facts of a `from_pretrained` folder; return the parity figures.

    The graph takes input_ids, attention_mask and, where the family has them, token_type_ids, INT64 [batch, length],
    and gives logits, FP32 [batch, labels].

    Args:
        checkpoint: the folder of the fit
        folder: is written to
        max_length: tokens that the member will read at once
        texts: are other kinds' of members: parity is proved on ids of chance

    Raises:
        BuildError: the model has fewer positions, no exporter, or no tokenizer that serves.
        VerificationError: the graph differs from the model.
    """
    model = encoders.load(checkpoint)
    tokenizer = AutoTokenizer.from_pretrained(checkpoint, use_fast=True)
    of_family = family(model.config.model_type)
    pad_id = _save_tokenizer(tokenizer, folder / TOKENIZER, model.config.vocab_size)
    limit = positions(model, pad_id)
    if max_length > limit:
        raise BuildError(
            f"max_length is {max_length}, but the model has positions for {limit} tokens. "
            f"Ask for at most that: --set members.NAME.max_length={limit}"
        )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=torch.jit.TracerWarning)
        warnings.filterwarnings("ignore", category=DeprecationWarning)  # TorchScript's exporter, chosen on purpose
        if isinstance(model, Pooled):
            _export_with_torchscript(model, OnlyLogits(model), pad_id, folder / GRAPH)
        elif of_family.exporter == "optimum":
            _export_with_optimum(model, folder / GRAPH)
        else:
            _export_with_torchscript(model, LastRealPosition(model), pad_id, folder / GRAPH)
    rewritten = _rewrite(folder / GRAPH)
    _check_contract(folder / GRAPH)
    figures = parity(model, folder / GRAPH, pad_id, limit)
    GraphFacts(
        family=model.config.model_type,
        pad_id=pad_id,
        heads=getattr(model.config, "num_attention_heads", 0),
        hidden_size=getattr(model.config, "hidden_size", 0),
        positions=limit,
    ).save(folder)
    pooled = isinstance(model, Pooled)
    return ExportFigures(
        exporter="torchscript" if pooled else of_family.exporter,
        reason="the pooling is ours" if pooled else of_family.reason,
        opset=OPSET,
        rewritten=rewritten,
        **structs.asdict(figures),
    )


def parity(model: Encoder, graph: Path, pad_id: int, limit: int) -> Parity:
    """Compare the graph with the model at shapes never traced, and padded rows with the same rows alone.

    Args:
        model: in PyTorch
        graph: of it
        pad_id: the id of padding
        limit: tokens that the model has positions for

    Returns:
        The shapes, and the largest differences of a logit.

    Raises:
        VerificationError: a logit differs by more than PARITY_TOLERANCE, or is NaN or Inf.
    """
    engine = engines.load("onnxruntime:fp32", graph)
    generator = np.random.default_rng(0)
    lengths = sorted({min(length, limit) for length in PARITY_LENGTHS})
    worst, padded_worst = 0.0, 0.0
    shapes = [*itertools.product(PARITY_BATCHES, lengths)]
    for batch, length in track(shapes, "parity"):
        ids = _random_ids(generator, model.config.vocab_size, pad_id, (batch, length))
        expected, alone = _original(model, ids), engine(ids, np.ones_like(ids))
        worst = _checked(alone, expected, worst, f"batch {batch}, length {length}, against PyTorch")
        # The same rows beside a longer neighbour; two lengths of padding, of which one is odd.
        for padding in (1, 16):
            if length + padding > limit:
                continue
            wide = np.full((batch + 1, length + padding), pad_id, np.int64)
            wide[:batch, :length] = ids
            wide[batch] = _random_ids(generator, model.config.vocab_size, pad_id, (length + padding,))
            mask = np.ones_like(wide)
            mask[:batch, length:] = 0
            padded = engine(wide, mask)[:batch]
            padded_worst = _checked(padded, alone, padded_worst, f"batch {batch}, length {length} padded by {padding}")
    return Parity(
        shapes=[list(shape) for shape in shapes],
        largest_difference=worst,
        largest_padded_difference=padded_worst,
    )


def positions(model: Encoder, pad_id: int) -> int:
    """Return the most tokens that the model has positions for."""
    config = model.config
    table = getattr(config, "max_position_embeddings", 0)
    if table <= 0:
        return _UNLIMITED
    return table - (pad_id + 1 if FAMILIES[config.model_type].positions_after_padding else 0)


class LastRealPosition(torch.nn.Module):
    """XLNet with its summary taken at the last real token, so that padding may stand on the right as everywhere else.

    transformers takes the last position whatever stands there, and relies on padding on the left.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Return the logits, FP32 [batch, labels], of ids and mask, INT64 [batch, length]."""
        hidden = self.model.transformer(input_ids, attention_mask=attention_mask).last_hidden_state
        last = (attention_mask.sum(1) - 1).clamp(min=0)[:, None, None].expand(-1, 1, hidden.shape[-1])
        return self.model.logits_proj(self.model.sequence_summary(hidden.gather(1, last)))


class OnlyLogits(torch.nn.Module):
    """A model with a pooling of ours, without the wrapper that transformers puts around its output."""

    def __init__(self, model: Pooled) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Return the logits, FP32 [batch, labels], of ids and mask, INT64 [batch, length]."""
        return self.model(input_ids, attention_mask).logits


def _export_with_optimum(model: PreTrainedModel, graph: Path) -> None:
    from optimum.exporters.onnx import onnx_export_from_model

    scratch = graph.parent / "scratch" / "export"
    onnx_export_from_model(model, scratch, task="text-classification", opset=OPSET, do_validation=False)
    shutil.move(scratch / "model.onnx", graph)


def _export_with_torchscript(model: Encoder, traced: torch.nn.Module, pad_id: int, graph: Path) -> None:
    ids = torch.full((2, 7), model.config.vocab_size - 1)
    mask = torch.ones_like(ids)
    ids[1, 5:], mask[1, 5:] = pad_id, 0
    axes = {0: "batch_size", 1: "sequence_length"}
    torch.onnx.export(
        traced.eval(),
        (ids, mask),
        str(graph),
        input_names=["input_ids", "attention_mask"],
        output_names=["logits"],
        dynamic_axes={"input_ids": axes, "attention_mask": axes, "logits": {0: "batch_size"}},
        opset_version=OPSET,
        dynamo=False,
    )


def _rewrite(graph: Path) -> list[str]:
    model = onnx.load(graph)
    done = rewrite.rewrite(model)
    if done:
        onnx.checker.check_model(model)
        onnx.save(model, graph)
    return done


def _save_tokenizer(tokenizer: Any, path: Path, vocab_size: int) -> int:
    """Write tokenizer.json without truncation and padding (the manifest says those), and return the id of padding."""
    if not tokenizer.is_fast:
        raise BuildError(f"{type(tokenizer).__name__} has no fast (Rust) form, which serving needs. Take another base.")
    if tokenizer.pad_token_id is None:
        raise BuildError(f"{type(tokenizer).__name__} has no padding token, which batches need. Choose another base.")
    backend = tokenizer.backend_tokenizer
    backend.no_truncation()
    backend.no_padding()
    highest = max(backend.get_vocab(with_added_tokens=True).values())
    if highest >= vocab_size:
        raise VerificationError(
            f"the tokenizer gives ids up to {highest}, but the model has embeddings for {vocab_size}. "
            "Resize the model's embeddings, or take the tokenizer that belongs to it."
        )
    path.write_text(shorten_scores(backend.to_str()), encoding="utf-8")
    return tokenizer.pad_token_id


def shorten_scores(tokenizer: str) -> str:
    """Return a tokenizer.json whose unigram scores have the digits of the float32 that they are, and no more.

    A third of such a file is digits that widening to float64 made up. Texts are read as before, but where two ways to
    read one are equally probable to seven digits.
    """
    described = json.loads(tokenizer)
    model = described["model"]
    if model["type"] == "Unigram":
        model["vocab"] = [[piece, float(str(np.float32(score)))] for piece, score in model["vocab"]]
    return json.dumps(described, ensure_ascii=False, separators=(",", ":"))


def _check_contract(graph: Path) -> None:
    model = onnx.load(graph, load_external_data=False)
    inputs = {value.name: value.type.tensor_type for value in model.graph.input}
    known = {"input_ids", "attention_mask", "token_type_ids"}
    wrong = [
        name
        for name, kind in inputs.items()
        if name not in known
        or kind.elem_type != onnx.TensorProto.INT64
        or any(not axis.dim_param for axis in kind.shape.dim)
    ]
    outputs = [(value.name, value.type.tensor_type.elem_type) for value in model.graph.output]
    if wrong or not {"input_ids", "attention_mask"} <= inputs.keys() or outputs != [("logits", onnx.TensorProto.FLOAT)]:
        raise VerificationError(
            f"{graph}: inputs {list(inputs)} and outputs {outputs}; expected input_ids, attention_mask[, "
            "token_type_ids] INT64 with both axes dynamic, and logits FP32"
        )


def _random_ids(generator: np.random.Generator, vocab_size: int, pad_id: int, shape: tuple[int, ...]) -> Array:
    ids = generator.integers(0, vocab_size - 1, shape, np.int64)
    return ids + (ids >= pad_id)  # any id but padding's: some families derive positions from it


def _original(model: Encoder, ids: Array) -> Array:
    mask = torch.ones(ids.shape, dtype=torch.int64)
    with torch.inference_mode():
        return model(input_ids=torch.from_numpy(ids), attention_mask=mask).logits.numpy()


def _checked(logits: Array, expected: Array, worst: float, what: str) -> float:
    difference = float(np.abs(logits - expected).max())
    if not difference <= PARITY_TOLERANCE:  # a NaN is not less or equal
        raise VerificationError(f"{what}: logits differ by {difference}, expected at most {PARITY_TOLERANCE}")
    return max(worst, difference)
