"""A transformers checkpoint of a shipped BERT member: what the peers serve, with nothing but the repository at hand.

The weights are those of the shipped int8 graph, dequantised. transformers' own class reads a text's first token, where
the member reads the mean of all: a linear head is fitted on that token, to name the labels that the member names. So a
peer computes what the member computes, in the same shapes; its labels are the member's for nearly all articles.
"""

from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from sklearn.linear_model import LogisticRegression
from transformers import BertConfig, BertForSequenceClassification, BertTokenizerFast

from newsdesk.server.runtime import manifest
from newsdesk.server.runtime.classifier import Classifier
from newsdesk.server.runtime.text import clean

MAX_LENGTH = 256
_HEAD_SIZE = 32
"""Numbers of an attention head; MiniLM has 12 heads of them."""
_LINEAR = (
    "attention.self.query",
    "attention.self.key",
    "attention.self.value",
    "attention.output.dense",
    "intermediate.dense",
    "output.dense",
)
"""A layer's linear maps, in the order in which torch exports them."""
_NORMS = "attention.output.LayerNorm", "output.LayerNorm"
_BATCH = 64


def write(version: Path, articles: list[str], cache: Path) -> Path:
    """Write the only member of a version folder as a `from_pretrained` folder below `cache`, and return that.

    `articles`: the texts whose labels the head learns to name. Raises ValueError where the graph isn't BERT's.
    """
    made = manifest.load(version)
    (shipped,) = made.members
    digest = sha256("\n".join([shipped.graphs["int8"].sha256, *articles]).encode()).hexdigest()[:16]
    folder = cache / "checkpoint" / digest
    if (folder / "model.safetensors").is_file():
        return folder
    encoder = _read(onnx.load(version / shipped.graphs["int8"].path))
    tokenizer = BertTokenizerFast(tokenizer_file=str(version / shipped.tokenizer.path), model_max_length=MAX_LENGTH)
    names = dict(enumerate(made.labels))
    config = BertConfig(
        vocab_size=len(encoder["embeddings.word_embeddings.weight"]),
        hidden_size=encoder["embeddings.word_embeddings.weight"].shape[1],
        num_hidden_layers=_layers(encoder),
        num_attention_heads=encoder["embeddings.word_embeddings.weight"].shape[1] // _HEAD_SIZE,
        intermediate_size=len(encoder["encoder.layer.0.intermediate.dense.bias"]),
        max_position_embeddings=MAX_LENGTH,
        type_vocab_size=len(encoder["embeddings.token_type_embeddings.weight"]),
        id2label=names,
        label2id={label: place for place, label in names.items()},
    )
    model = BertForSequenceClassification(config).eval()
    missing, unknown = model.bert.load_state_dict({key: torch.tensor(array) for key, array in encoder.items()}, False)
    if unknown or any(not key.startswith(("pooler", "embeddings.position_ids")) for key in missing):
        raise ValueError(f"{version}: {shipped.name} isn't BERT; missing {missing}, unknown {unknown}")
    answers = Classifier(made, version).classify([clean(text) for text in articles])
    _fit_head(model, tokenizer, articles, answers.probabilities.argmax(1))
    tokenizer.save_pretrained(folder)
    model.save_pretrained(folder)
    return folder


def _read(graph_file: onnx.ModelProto) -> dict[str, np.ndarray]:
    """Return BERT's weights, by torch's names, FP32, of an exported graph whose weights are int8 behind Q/DQ."""
    graph = graph_file.graph
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    makers = {output: node for node in graph.node for output in node.output}
    users: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            users.setdefault(name, []).append(node)

    def weight(name: str) -> np.ndarray | None:
        """Return the constant behind a name, dequantised; None where it depends on the texts."""
        if name in constants:
            return constants[name]
        node = makers.get(name)
        if node is None or node.op_type != "DequantizeLinear" or node.input[0] not in constants:
            return None
        values, scale, zero = (constants[part].astype(np.float32) for part in node.input)
        return (values - zero) * scale

    def smoothing(name: str) -> np.ndarray | float:
        """Return what the values were multiplied with before they were quantised: their columns' scales."""
        node = makers.get(name)
        while node is not None and node.op_type in ("DequantizeLinear", "QuantizeLinear"):
            node = makers.get(node.input[0])
        if node is None or node.op_type != "Mul":
            return 1.0
        return next((constants[part] for part in node.input if part in constants), 1.0)

    linear = []
    for node in graph.node:
        if node.op_type == "MatMul" and (matrix := weight(node.input[1])) is not None:
            (adds,) = (user for user in users[node.output[0]] if user.op_type == "Add")
            bias = next(constants[part] for part in adds.input if part in constants)
            linear.append(((matrix * np.reshape(smoothing(node.input[0]), (-1, 1))).T, bias))
    norms = [
        (constants[node.input[1]], constants[node.input[2]])
        for node in graph.node
        if node.op_type == "LayerNormalization"
    ]
    layers, rest = divmod(len(linear), len(_LINEAR))
    if rest or len(norms) != 1 + 2 * layers:
        raise ValueError(f"{len(linear)} linear maps and {len(norms)} normalisations aren't those of BERT's layers")
    weights = dict(_embeddings(graph, weight, users))
    weights["embeddings.LayerNorm.weight"], weights["embeddings.LayerNorm.bias"] = norms[0]
    for layer in range(layers):
        for part, (matrix, bias) in zip(_LINEAR, linear[layer * len(_LINEAR) :], strict=False):
            weights[f"encoder.layer.{layer}.{part}.weight"] = matrix
            weights[f"encoder.layer.{layer}.{part}.bias"] = bias
        for part, (scale, bias) in zip(_NORMS, norms[1 + 2 * layer :], strict=False):
            weights[f"encoder.layer.{layer}.{part}.weight"] = scale
            weights[f"encoder.layer.{layer}.{part}.bias"] = bias
    return {name: np.ascontiguousarray(array, np.float32) for name, array in weights.items()}


def _embeddings(graph: onnx.GraphProto, weight: Any, users: Any) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the three tables: words are read by `input_ids`; of the others the larger one is the positions'."""
    tables = []
    for node in graph.node:
        if node.op_type != "Gather" or (table := weight(node.input[0])) is None or table.ndim != 2:
            continue
        if table.shape[1] == 1:  # the scales of a table's rows, which the rows are multiplied with
            name, rows = tables[-1]
            tables[-1] = (name, rows * table)
        else:
            tables.append((node.input[1], table))
    words = next(table for name, table in tables if name == "input_ids")
    kinds, positions = sorted((table for name, table in tables if name != "input_ids"), key=len)
    # Positions that no text of the member's reaches aren't shipped. Those that longer texts reach here repeat the last.
    positions = positions[np.minimum(np.arange(MAX_LENGTH), len(positions) - 1)]
    yield "embeddings.word_embeddings.weight", words
    yield "embeddings.token_type_embeddings.weight", kinds
    yield "embeddings.position_embeddings.weight", positions


def _layers(encoder: dict[str, np.ndarray]) -> int:
    return sum(name.endswith("intermediate.dense.bias") for name in encoder)


def _fit_head(
    model: BertForSequenceClassification, tokenizer: BertTokenizerFast, articles: list[str], labels: np.ndarray
) -> None:
    """Give the model a head that names `labels` by the first token's state."""
    states = []
    with torch.inference_mode():
        for at in range(0, len(articles), _BATCH):
            batch = tokenizer(articles[at : at + _BATCH], padding=True, truncation=True, return_tensors="pt")
            states.append(model.bert(**batch).last_hidden_state[:, 0].tanh())
    head = LogisticRegression(C=10, max_iter=1000).fit(torch.cat(states).numpy(), labels)
    with torch.no_grad():
        model.bert.pooler.dense.weight.copy_(torch.eye(model.config.hidden_size))
        model.bert.pooler.dense.bias.zero_()
        model.classifier.weight.zero_()
        model.classifier.bias.fill_(-1e4)  # labels that no article has
        for place, label in enumerate(head.classes_):
            model.classifier.weight[label] = torch.tensor(head.coef_[place])
            model.classifier.bias[label] = torch.tensor(head.intercept_[place])
