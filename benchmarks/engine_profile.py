"""Where the time of an encoder goes, on one core, in the engine and around it, and what share of the peak it reaches.

    python -m benchmarks.engine_profile [--texts test.csv.gz] [--member minilm]

Articles come 64 together, planned and padded as in the server. The engine is OpenVINO on the int8 graph; its layers are
timed by its own counters, scaled to the time without them. The peak is measured here as well, with int8 matrix products
alone, each a graph of one weight: once in the very shapes of the member (texts x length rows), once large.
"""

import argparse
import os
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import openvino
from onnx import TensorProto, helper, numpy_helper

from benchmarks import peak, texts
from newsdesk.server import processor
from newsdesk.server.ensemble import batching, manifest
from newsdesk.server.ensemble.text import clean
from newsdesk.server.ensemble.tokens import Tokens
from newsdesk.server.settings import Settings
from newsdesk.server.workspace import MODEL, latest_version

TOGETHER = 64
LARGE = 4096, 1024, 1024
"""Rows, columns in, columns out of the product that stands for what the processor can do at most."""
_SECONDS = 2.0
_PROBE = 16
"""Tokens of the text in which products are found."""
_KINDS = {
    "FullyConnected": "int8 matrix products",
    "Subgraph": "fused subgraphs: attention (products, softmax), GELU",
    "MatMul": "attention outside of fused subgraphs",
    "Softmax": "attention outside of fused subgraphs",
    "MVN": "LayerNorm",
    "FakeQuantize": "quantise",
    "Gather": "embeddings",
    "Add": "elementwise",
    "Eltwise": "elementwise",
    "MulAdd": "elementwise",
    "Multiply": "elementwise",
    "PowerStatic": "elementwise",
    "Subtract": "elementwise",
    "Reorder": "copies",
    "Transpose": "copies",
    "Reshape": "copies",
    "Concatenation": "copies",
    "Convert": "copies",
    "copies": "copies",
}
"""OpenVINO's names of layers, by their beginnings."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=Path, help="CSV with title and description; made-up articles without it")
    parser.add_argument("--count", type=int, default=1024, help="articles a round")
    parser.add_argument("--member", default="minilm")
    parser.add_argument("--model-repository", type=Path, default=Settings().model_repository)
    given = parser.parse_args()
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    folder = latest_version(given.model_repository.absolute() / MODEL)
    about = next(member for member in manifest.load(folder).members if member.name == given.member)
    articles = texts.choose(given.texts)[: given.count]
    parts = [articles[at : at + TOGETHER] for at in range(0, len(articles), TOGETHER)]
    graph, tokens = folder / about.graphs["int8"].path, Tokens(folder / about.reader.path, about.max_length)

    cleaned = [[clean(text) for text in part] for part in parts]
    encoded = [tokens.encode(part) for part in cleaned]
    shapes = batching.shapes(about.max_length, compiled=True)
    groups = [shapes.plan([len(one) for one in part]) for part in encoded]
    batches = [
        batch
        for part, planned in zip(encoded, groups, strict=True)
        for batch in batching.pad(part, planned, about.pad_id, shapes)
    ]
    plain, counted = _compile(graph, False), _compile(graph, True)
    around = {
        "clean": _best(lambda: [[clean(text) for text in part] for part in parts]),
        "tokenise": _best(lambda: [tokens.encode(part) for part in cleaned]),
        "plan and pad": _best(
            lambda: [
                [*batching.pad(part, shapes.plan([len(one) for one in part]), about.pad_id, shapes)] for part in encoded
            ]
        ),
    }
    engine = _best(lambda: [plain.infer(_feed(plain, batch), share_inputs=True) for batch in batches])
    layers: Counter[str] = Counter()
    began = time.perf_counter()
    for batch in batches:
        counted.infer(_feed(counted, batch), share_inputs=True)
        for layer in counted.profiling_info:
            seconds = layer.real_time.total_seconds()
            if seconds:
                layers[_kind(layer.node_type)] += seconds
    with_counters = time.perf_counter() - began
    real, computed = sum(len(one) for part in encoded for one in part), sum(ids.size for ids, _ in batches)

    total = engine + sum(around.values())
    print(
        f"{processor.describe()}, one core, {about.name}, openvino:int8, {len(articles)} articles, "
        f"{TOGETHER} together\n"
    )
    print(f"\n{len(articles) / total:.0f} articles/s; {computed / real:.3f} computed tokens for a real one; ", end="")
    print(
        f"engine {1e3 * engine / len(batches):.2f} ms a group ({with_counters / engine:.2f} times that with counters)\n"
    )
    print("| where | share of all | µs an article |\n|---|---:|---:|")
    scale = engine / layers.total()
    inside = {name: seconds for name, seconds in layers.most_common()}
    for name, seconds in [*inside.items(), *around.items()]:
        own = seconds * scale if name in inside else seconds
        print(f"| {name} | {own / total:.1%} | {1e6 * own / len(articles):.0f} |")
    products = layers["int8 matrix products"] * min(1.0, scale)
    weights = _weights(graph)
    operations = sum(2 * (computed if per_token else len(articles)) * deep * wide for per_token, deep, wide in weights)
    print(f"\nthe member's int8 products    {operations / products / 1e12:.3f} T operations/s")
    ((together, length), _), *_ = Counter(ids.shape for ids, _ in batches).most_common(1)
    rows = together * length
    alone = _products([(rows if per_token else together, deep, wide) for per_token, deep, wide in weights])
    print(f"the same products alone, {rows} rows   {alone / 1e12:.3f} T operations/s: ", end="")
    print(f"the member reaches {operations / products / alone:.0%} of it")
    large = _products([LARGE])
    print(f"one large product, {LARGE[0]}x{LARGE[1]}x{LARGE[2]}   {large / 1e12:.3f} T operations/s: ", end="")
    print(f"the member reaches {operations / products / large:.0%} of it")


def _kind(layer: str) -> str:
    return next((kind for beginning, kind in _KINDS.items() if layer.startswith(beginning)), "other")


def _compile(graph: Path | bytes, counters: bool) -> openvino.InferRequest:
    core = openvino.Core()
    settings = {
        "INFERENCE_NUM_THREADS": 1,
        "NUM_STREAMS": 1,
        "PERFORMANCE_HINT": "LATENCY",
        "ENABLE_CPU_PINNING": False,
        "INFERENCE_PRECISION_HINT": "f32",
        "PERF_COUNT": counters,
    }
    return core.compile_model(core.read_model(graph), "CPU", settings).create_infer_request()


def _feed(request: openvino.InferRequest, batch: tuple[np.ndarray, np.ndarray]) -> dict[str, np.ndarray]:
    feed = dict(zip(("input_ids", "attention_mask"), batch, strict=True))
    if any("token_type_ids" in given.names for given in request.model_inputs):
        feed["token_type_ids"] = np.zeros_like(batch[0])
    return feed


def _best(work: Callable[[], object], rounds: int = 3) -> float:
    """Return the seconds of the best round, after a warm-up."""
    work()
    found = []
    for _ in range(rounds):
        began = time.perf_counter()
        work()
        found.append(time.perf_counter() - began)
    return min(found)


def _weights(graph: Path) -> list[tuple[bool, int, int]]:
    """Return the matrices that texts are multiplied with: whether by each token or once a text, and the shape."""
    ran = peak.products(graph, _PROBE)
    return [(one.rows == _PROBE, one.deep, one.wide) for one in ran if one.of_weights and min(one.deep, one.wide) >= 64]


def _products(shapes: list[tuple[int, int, int]]) -> float:
    """Return operations/s of int8 products of so many rows with weights of these shapes, each alone."""
    seconds, operations = 0.0, 0
    for (rows, deep, wide), count in Counter(shapes).items():
        request = _compile(_product(deep, wide), True)
        values = np.random.default_rng(0).normal(size=(rows, deep)).astype(np.float32)
        began = time.perf_counter()
        spent, runs = 0.0, 0
        while time.perf_counter() - began < _SECONDS:
            request.infer({"x": values}, share_inputs=True)
            spent += sum(
                layer.real_time.total_seconds()
                for layer in request.profiling_info
                if _kind(layer.node_type) != "quantise"
            )
            runs += 1
        seconds += count * spent / runs
        operations += count * 2 * rows * deep * wide
    return operations / seconds


def _product(deep: int, wide: int) -> bytes:
    """Return a graph of one int8 product in Q/DQ form."""
    chance = np.random.default_rng(1)
    weights = chance.integers(-127, 128, (deep, wide)).astype(np.int8)
    constants = {
        "scale": np.array(0.03, np.float32),
        "zero": np.array(0, np.int8),
        "weights": weights,
        "scales": np.full(wide, 0.001, np.float32),
        "zeros": np.zeros(wide, np.int8),
    }
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["d"]),
        helper.make_node("DequantizeLinear", ["weights", "scales", "zeros"], ["w"], axis=1),
        helper.make_node("MatMul", ["d", "w"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "product",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", deep])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["rows", wide])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8).SerializeToString()


if __name__ == "__main__":
    main()
