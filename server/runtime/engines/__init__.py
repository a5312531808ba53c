"""Engines: what runs a member's graph. A target is "<engine>:<precision>" and reads one variant of the graph."""

from pathlib import Path

from newsdesk.server.runtime import gpu
from newsdesk.server.runtime.engines.engine import COMPILED, Engine
from newsdesk.server.runtime.engines.rewrites import REWRITTEN
from newsdesk.server.runtime.errors import EngineError

__all__ = ["COMPILED", "INSTALL", "REWRITTEN", "TARGETS", "Engine", "here", "load"]

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
_ON_CPU = ("openvino", "onnxruntime")


def here() -> list[str]:
    """Return the targets worth trying on this machine: those of a GPU only where there is one."""
    return [target for target in TARGETS if gpu.find() or target.partition(":")[0] in _ON_CPU]


def load(target: str, graph: Path, threads: int = 1) -> Engine:
    """Compile a graph for a target.

    An engine's package is imported when a target asks for it: a machine has some of them, and each takes a while.

    Args:
        target: one of TARGETS
        graph: an ONNX file, or a plan of TensorRT
        threads: of an engine on the CPU

    Raises:
        EngineError: the target is unknown or cannot run here.
    """
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


INSTALL = {
    "tensorrt": "pip install 'tensorrt>=10.12' 'newsdesk[gpu]'",
    "tensorrt_rtx": "pip install 'newsdesk[tensorrt,gpu]'",
    "onnxruntime-cuda": "pip install onnxruntime-gpu",
    "onnxruntime-tensorrt": "pip install onnxruntime-gpu",
}
