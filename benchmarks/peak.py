"""Measure the share of a device's peak that an engine reaches: the graph's products against one large product.

Nothing is taken from a data sheet: the peak is what torch's own product of that precision reaches on the same device.
"""

import json
import math
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime

from newsdesk.server.runtime.engines import Engine
from newsdesk.server.runtime.manifest import Member

SIZE = 8192
"""Rows and columns of the large product on a GPU: 1.1 T operations, beyond what any cache holds."""
AHEAD = 8
"""Batches under way at once, so that the device does not wait for the host."""
_SECONDS = 1.0
_PRODUCTS = "MatMul", "Gemm"


@dataclass(frozen=True)
class Speed:
    """An engine at one shape: seconds a batch, copies to the device and back among them."""

    batch: int
    length: int
    seconds: float

    @property
    def per_second(self) -> float:
        return self.batch / self.seconds


@dataclass(frozen=True)
class Product:
    """A matrix product as it ran: [rows, deep] times [deep, wide], all heads of an attention together."""

    rows: int
    deep: int
    wide: int
    of_weights: bool
    """Whether the right side is a matrix of the member's own, not of the text."""

    @property
    def operations(self) -> int:
        return 2 * self.rows * self.deep * self.wide


def operations(member: Member, folder: Path, length: int) -> int:
    """Return the multiplications and additions of one text's matrix products, `length` tokens with padding.

    Counted in a graph as it is written, any but fused ones and plans. Raises ValueError where the member has none.
    """
    written = [name for name in member.graphs if name not in member.plans and name != "int8-dynamic"]
    if not written:
        raise ValueError(f"member {member.name} has only {', '.join(member.graphs)}: keep an ONNX graph to count in")
    graph = folder / member.graphs["fp32" if "fp32" in written else written[0]].path
    return sum(product.operations for product in products(graph, length))


def products(graph: Path, length: int) -> list[Product]:
    """Return the products that a text of `length` tokens runs through, as ONNX Runtime finds them on the CPU."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.enable_profiling = True
    with tempfile.TemporaryDirectory() as scratch:
        options.profile_file_prefix = f"{scratch}/profile"
        session = onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
        session.run(["logits"], {tensor.name: np.ones((1, length), np.int64) for tensor in session.get_inputs()})
        events = json.loads(Path(session.end_profiling()).read_text())
    ran = [event["args"] for event in events if event.get("args", {}).get("op_name") in _PRODUCTS]
    products = []
    for product in ran:
        if "output_type_shape" in product:
            left, right, *_ = (shape for typed in product["input_type_shape"] for shape in typed.values())
            ((*rows, wide),) = (shape for typed in product["output_type_shape"] for shape in typed.values())
            products.append(Product(math.prod(rows), left[-1], wide, len(right) == 2))
    return products


def speed(engine: Engine, batch: int, length: int, seconds: float = _SECONDS) -> Speed:
    """Run an engine at one shape, AHEAD batches under way, for about `seconds`."""
    ids = np.full((batch, length), 5, np.int64)  # whatever the ids, a dense graph takes the same time
    mask = np.ones_like(ids)

    def work() -> None:
        for result in [engine.submit(ids, mask) for _ in range(AHEAD)]:
            result()

    return Speed(batch, length, _timed(work, seconds) / AHEAD)


def peak(precision: str, device: str, size: int = SIZE, seconds: float = _SECONDS) -> float:
    """Return operations/s of one product of `size` × `size` matrices, by torch on "cuda" or "cpu".

    int8 and fp8 (E4M3) sum in their own wider types, as an engine's do. Raises RuntimeError where torch is missing, or
    cannot multiply so on this device.
    """
    try:
        import torch
    except ImportError as error:
        raise RuntimeError("the peak is measured by torch: pip install torch") from error
    kinds = {"int8": torch.int8, "fp8": torch.float8_e4m3fn, "fp16": torch.float16, "bf16": torch.bfloat16}
    kind = kinds.get(precision, torch.float32)
    if device == "cuda":
        torch.backends.cuda.matmul.allow_tf32 = True  # as TensorRT and ONNX Runtime do in fp32
    values = torch.randint(-3, 4, (2, size, size), device=device)
    left, right = values[0].to(kind), values[1].to(kind).t()  # cuBLAS wants the second one by columns
    unit = torch.ones((), device=device)
    multiply: Callable[[], object] = lambda: left @ right  # noqa: E731
    if precision == "int8":
        multiply = lambda: torch._int_mm(left, right)  # noqa: E731
    elif precision == "fp8":
        multiply = lambda: torch._scaled_mm(left, right, scale_a=unit, scale_b=unit, out_dtype=torch.bfloat16)  # noqa: E731

    def work() -> None:
        for _ in range(AHEAD):
            multiply()
        if device == "cuda":
            torch.cuda.synchronize()

    return 2 * size**3 * AHEAD / _timed(work, seconds)


def _timed(work: Callable[[], None], seconds: float) -> float:
    """Return the seconds of one round of `work`, the mean over `seconds`, after a round that warms up."""
    work()
    rounds, began = 0, time.perf_counter()
    while (passed := time.perf_counter() - began) < seconds or not rounds:
        work()
        rounds += 1
    return passed / rounds
