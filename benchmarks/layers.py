"""Measure an int8 graph's layers inside of an engine on the CPU, by the engine's own counters."""

import json
import tempfile
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnxruntime
import openvino

from newsdesk.server.runtime.engines import onnxruntime as ort

PRODUCTS = "int8 matrix products"
QUANTISE = "quantise"
_ATTENTION = "attention: products, scale, mask, softmax"
_OPENVINO = {
    "FullyConnected": PRODUCTS,
    "Subgraph": "fused subgraphs: attention (products, softmax), GELU",
    "MatMul": _ATTENTION,
    "Softmax": _ATTENTION,
    "MVN": "LayerNorm",
    "FakeQuantize": QUANTISE,
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
_ONNXRUNTIME = {
    "MatMul": _ATTENTION,
    "Softmax": _ATTENTION,
    "Div": _ATTENTION,
    "BiasGelu": "GELU",
    "Gelu": "GELU",
    "LayerNormalization": "LayerNorm",
    "SkipLayerNormalization": "LayerNorm",
    "QuantizeLinear": QUANTISE,
    "DequantizeLinear": QUANTISE,
    "Gather": "embeddings",
    "Add": "elementwise",
    "Mul": "elementwise",
    "Sub": "elementwise",
    "Transpose": "copies",
    "Reshape": "copies",
    "Concat": "copies",
}
"""ONNX Runtime's operators."""


class CountedGraph(ABC):
    """An int8 graph on one thread that counts the seconds of its layers."""

    @abstractmethod
    def __call__(self, feed: Mapping[str, np.ndarray]) -> None:
        """Run once; inputs that the graph does not have are left out."""

    @abstractmethod
    def seconds(self) -> Counter[str]:
        """End, and return the seconds of all runs by kind of layer."""


class _OpenVino(CountedGraph):
    def __init__(self, graph: Path) -> None:
        core = openvino.Core()
        settings = {
            "INFERENCE_NUM_THREADS": 1,
            "NUM_STREAMS": 1,
            "PERFORMANCE_HINT": "LATENCY",
            "ENABLE_CPU_PINNING": False,
            "INFERENCE_PRECISION_HINT": "f32",
            "PERF_COUNT": True,
        }
        self._request = core.compile_model(core.read_model(graph), "CPU", settings).create_infer_request()
        self._names = {name for tensor in self._request.model_inputs for name in tensor.names}
        self._seconds: Counter[str] = Counter()

    def __call__(self, feed: Mapping[str, np.ndarray]) -> None:
        self._request.infer({name: feed[name] for name in self._names}, share_inputs=True)
        for layer in self._request.profiling_info:
            kind = next((kind for name, kind in _OPENVINO.items() if layer.node_type.startswith(name)), "other")
            self._seconds[kind] += layer.real_time.total_seconds()

    def seconds(self) -> Counter[str]:
        return self._seconds


class _OnnxRuntime(CountedGraph):
    def __init__(self, graph: Path) -> None:
        self._scratch = tempfile.TemporaryDirectory()
        options = ort.settings(1)
        options.enable_profiling = True
        options.profile_file_prefix = f"{self._scratch.name}/profile"
        self._session: onnxruntime.InferenceSession = ort.open_session(graph, "int8", options)
        self._names = [tensor.name for tensor in self._session.get_inputs()]

    def __call__(self, feed: Mapping[str, np.ndarray]) -> None:
        self._session.run(None, {name: feed[name] for name in self._names})

    def seconds(self) -> Counter[str]:
        with self._scratch:
            events = json.loads(Path(self._session.end_profiling()).read_text())
        spent: Counter[str] = Counter()
        for event in events:
            if event["name"].endswith("_kernel_time"):
                spent[self._kind(event["args"])] += event["dur"] / 1e6
        return spent

    @staticmethod
    def _kind(ran: dict) -> str:
        if ran["op_name"] == "MatMulIntegerToFloat":
            _, second, *_ = ran["input_type_shape"]  # packed weights are not listed; another activation is
            return PRODUCTS if "float" in second else _ATTENTION
        return _ONNXRUNTIME.get(ran["op_name"], "other")


ENGINES = {"openvino:int8": _OpenVino, "onnxruntime:int8": _OnnxRuntime}
"""Target → what counts for it."""
