"""Measure an encoder's time on one core, in the engine and around it, and the share of the peak that it reaches.

    python -m benchmarks.engine_profile [--texts test.csv.gz] [--member minilm] [--target onnxruntime:int8]

Articles come 64 together, grouped and padded as in the server. The engine runs the int8 graph; its layers are timed by
its own counters, scaled to the time without them. The peak is measured here as well, with int8 matrix products alone,
each a graph of one weight: once in the very shapes of the member (texts x length rows), once large.
"""

import argparse
import os
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from benchmarks import MODEL, layers, peak, texts
from newsdesk.server.runtime import batching, engines, manifest, processor
from newsdesk.server.runtime.repository import latest_version
from newsdesk.server.runtime.text import clean
from newsdesk.server.runtime.tokens import Tokens
from newsdesk.server.serving.settings import Settings

TOGETHER = 64
LARGE = 4096, 1024, 1024
"""Rows, columns in, columns out of the product that stands for what the processor can do at most."""
_SECONDS, _ROUNDS = 0.5, 4
"""Each product runs so long alone, in so many rounds; the best one counts."""
_PROBE = 16
"""Tokens of the text in which products are found."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=Path, help="CSV with title and description; made-up articles without it")
    parser.add_argument("--count", type=int, default=1024, help="articles a round")
    parser.add_argument("--member", default="minilm")
    parser.add_argument("--target", default="openvino:int8", choices=layers.ENGINES)
    parser.add_argument("--model-repository", type=Path, default=Settings().model_repository)
    options = parser.parse_args()
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    folder = latest_version(options.model_repository.absolute() / MODEL)
    about = next(member for member in manifest.load(folder).members if member.name == options.member)
    articles = texts.choose(options.texts)[: options.count]
    parts = [articles[at : at + TOGETHER] for at in range(0, len(articles), TOGETHER)]
    graph, tokens = folder / about.graphs["int8"].path, Tokens(folder / about.tokenizer.path, about.max_length)

    cleaned = [[clean(text) for text in part] for part in parts]
    encoded = [tokens.encode(part) for part in cleaned]
    engine = engines.load(options.target, graph)
    shapes = engine.shapes(about.max_length)
    groups = [shapes.group([len(ids) for ids in part]) for part in encoded]
    batches = [
        batch
        for part, grouped in zip(encoded, groups, strict=True)
        for batch in batching.pad(part, grouped, about.pad_id, shapes)
    ]
    around = {
        "clean": _best(lambda: [[clean(text) for text in part] for part in parts]),
        "tokenise": _best(lambda: [tokens.encode(part) for part in cleaned]),
        "group and pad": _best(
            lambda: [
                [*batching.pad(part, shapes.group([len(ids) for ids in part]), about.pad_id, shapes)]
                for part in encoded
            ]
        ),
    }
    inside = _best(lambda: [engine(*batch) for batch in batches])
    counted = layers.ENGINES[options.target](graph)
    began = time.perf_counter()
    for ids, mask in batches:
        counted({"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)})
    with_counters = time.perf_counter() - began
    spent = counted.seconds()
    real, computed = sum(len(ids) for part in encoded for ids in part), sum(ids.size for ids, _ in batches)

    total = inside + sum(around.values())
    print(
        f"{processor.describe()}, one core, {about.name}, {options.target}, {len(articles)} articles, "
        f"{TOGETHER} together\n"
    )
    print(f"\n{len(articles) / total:.0f} articles/s; {computed / real:.3f} computed tokens for a real one; ", end="")
    print(
        f"engine {1e3 * inside / len(batches):.2f} ms a group ({with_counters / inside:.2f} times that with counters)\n"
    )
    print("| where | share of all | µs an article |\n|---|---:|---:|")
    scale = inside / spent.total()
    rows = {name: seconds * scale for name, seconds in spent.most_common()} | around
    for name, seconds in rows.items():
        print(f"| {name} | {seconds / total:.1%} | {1e6 * seconds / len(articles):.0f} |")
    products = spent[layers.PRODUCTS] * min(1.0, scale)
    weights = _weights(graph)
    operations = sum(2 * (computed if per_token else len(articles)) * deep * wide for per_token, deep, wide in weights)
    print(f"\nthe member's int8 products    {operations / products / 1e12:.3f} T operations/s")
    shares: Counter[tuple[int, ...]] = Counter()
    for ids, _ in batches:
        shares[ids.shape] += ids.size
    (((together, length), _),) = shares.most_common(1)
    alone = _products(
        options.target,
        [(together * length if per_token else together, deep, wide) for per_token, deep, wide in weights],
    )
    print(f"the same products alone, {together * length} rows   {alone / 1e12:.3f} T operations/s: ", end="")
    print(f"the member reaches {operations / products / alone:.0%} of it")
    large = _products(options.target, [LARGE])
    print(f"one large product, {LARGE[0]}x{LARGE[1]}x{LARGE[2]}   {large / 1e12:.3f} T operations/s: ", end="")
    print(f"the member reaches {operations / products / large:.0%} of it")


def _best(work: Callable[[], object], rounds: int = 3) -> float:
    """Return the seconds of the best round, after a warm-up."""
    work()
    seconds = []
    for _ in range(rounds):
        began = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - began)
    return min(seconds)


def _weights(graph: Path) -> list[tuple[bool, int, int]]:
    """Return the matrices that texts are multiplied with: whether by each token or once a text, and the shape."""
    ran = peak.products(graph, _PROBE)
    return [
        (product.rows == _PROBE, product.deep, product.wide)
        for product in ran
        if product.of_weights and min(product.deep, product.wide) >= 64
    ]


def _products(target: str, shapes: list[tuple[int, int, int]]) -> float:
    """Return operations/s of int8 products of so many rows with weights of these shapes, each alone."""
    seconds, operations = 0.0, 0
    for (rows, deep, wide), count in Counter(shapes).items():
        values = np.random.default_rng(0).normal(size=(rows, deep)).astype(np.float32)
        seconds += count * min(_alone(target, _product(deep, wide), values) for _ in range(_ROUNDS))
        operations += count * 2 * rows * deep * wide
    return operations / seconds


def _alone(target: str, graph: bytes, values: np.ndarray) -> float:
    """Return the seconds of one run of a graph, but for what quantises its input."""
    with tempfile.NamedTemporaryFile(suffix=".onnx") as file:
        Path(file.name).write_bytes(graph)
        counted = layers.ENGINES[target](Path(file.name))
    runs, began = 0, time.perf_counter()
    while time.perf_counter() - began < _SECONDS:
        counted({"x": values})
        runs += 1
    spent = counted.seconds()
    return (spent.total() - spent[layers.QUANTISE]) / runs


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
