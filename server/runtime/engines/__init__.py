"""Engines: what runs a member's graph. A target is "<engine>:<precision>" and reads one variant of the graph.

An engine is called with ids, INT64 [batch, length], and mask of the same shape, and gives logits, FP32 [batch, labels].
It uses one thread unless told otherwise: processes, not threads, fill the cores.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from newsdesk.server.runtime import cancellation, gpu
from newsdesk.server.runtime.errors import EngineError

Engine = Callable[[np.ndarray, np.ndarray], np.ndarray]

TARGETS = {
    "openvino:int8": "int8",
    "openvino:bf16": "fp32",
    "openvino:fp32": "fp32",
    "onnxruntime:int8": "int8",
    "onnxruntime:int8-dynamic": "int8-dynamic",
    "onnxruntime:fp32": "fp32",
    "onnxruntime-cuda:fp32": "fp32",
    "onnxruntime-cuda:fp16": "fp16",
    "onnxruntime-tensorrt:fp16": "fp16",
    "onnxruntime-tensorrt:int8-fp16": "int8-fp16",
    "tensorrt:fp16": "tensorrt:fp16",
    "tensorrt:int8-fp16": "tensorrt:int8-fp16",
    "tensorrt:fp8": "tensorrt:fp8",
    "tensorrt_rtx:fp16": "tensorrt_rtx:fp16",
    "tensorrt_rtx:int8-fp16": "tensorrt_rtx:int8-fp16",
    "tensorrt_rtx:fp8": "tensorrt_rtx:fp8",
}
"""Target → the variant of the graph that it reads. A plan of TensorRT is a variant of its own."""
COMPILED = "NEWSDESK_COMPILED"
"""Variable of the environment: a folder in which graphs are kept as they were compiled, for the next process."""
_ON_CPU = ("openvino", "onnxruntime")


def here() -> list[str]:
    """Return the targets worth trying on this machine: those of a GPU only where there is one."""
    return [target for target in TARGETS if gpu.find() or target.partition(":")[0] in _ON_CPU]


def load(target: str, graph: Path, threads: int = 1) -> Engine:
    """Compile a graph for a target. Raises EngineError where the target is unknown or cannot run here."""
    if target not in TARGETS:
        raise EngineError(f"target {target!r} is unknown; expected one of {', '.join(TARGETS)}")
    engine, _, precision = target.partition(":")
    try:
        if engine == "openvino":
            from newsdesk.server.runtime.engines.openvino import OpenVino

            return OpenVino(graph, precision, threads)
        if engine in ("tensorrt", "tensorrt_rtx"):
            from newsdesk.server.runtime.engines.tensorrt import TensorRt

            return TensorRt(graph, engine)
        from newsdesk.server.runtime.engines.onnxruntime import OnnxRuntime, OnnxRuntimeGpu

        if engine == "onnxruntime":
            return OnnxRuntime(graph, precision, threads)
        return OnnxRuntimeGpu(graph, engine.removeprefix("onnxruntime-"))
    except ImportError as error:
        extra = "pip install 'newsdesk[serve]'" if engine in _ON_CPU else INSTALL[engine]
        raise EngineError(f"target {target!r} needs a package that is missing ({error}): {extra}") from error


def submit(engine: Engine, ids: np.ndarray, mask: np.ndarray) -> Callable[[], np.ndarray]:
    """Start an engine on a batch and return what gives its logits. A GPU's is only queued; others compute now.

    Raises Cancelled where nobody waits for it.
    """
    cancellation.check()
    if hasattr(engine, "submit"):
        return engine.submit(ids, mask)
    logits = engine(ids, mask)
    return lambda: logits


INSTALL = {
    "tensorrt": "pip install 'tensorrt>=10.12' 'newsdesk[gpu]'",
    "tensorrt_rtx": "pip install 'newsdesk[tensorrt,gpu]'",
    "onnxruntime-cuda": "pip install onnxruntime-gpu",
    "onnxruntime-tensorrt": "pip install onnxruntime-gpu",
}
