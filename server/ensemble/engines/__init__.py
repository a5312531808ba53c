"""Engines: what runs a member's graph. A target is "<engine>:<precision>" and reads one variant of the graph.

An engine is called with ids, INT64 [batch, length], and mask of the same shape, and gives logits, FP32 [batch, labels].
It uses one thread unless told otherwise: processes, not threads, fill the cores.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from newsdesk.server.ensemble.errors import EngineError

Engine = Callable[[np.ndarray, np.ndarray], np.ndarray]

TARGETS = {
    "openvino:int8": "int8",
    "openvino:bf16": "fp32",
    "openvino:fp32": "fp32",
    "onnxruntime:int8": "int8",
    "onnxruntime:int8-dynamic": "int8-dynamic",
    "onnxruntime:fp32": "fp32",
}
"""Target → the variant of the graph that it reads."""


def load(target: str, graph: Path, threads: int = 1) -> Engine:
    """Compile a graph for a target. Raises EngineError where the target is unknown or cannot run here."""
    if target not in TARGETS:
        raise EngineError(f"target {target!r} is unknown; expected one of {', '.join(TARGETS)}")
    engine, _, precision = target.partition(":")
    try:
        if engine == "openvino":
            from newsdesk.server.ensemble.engines.openvino import OpenVino

            return OpenVino(graph, precision, threads)
        from newsdesk.server.ensemble.engines.onnxruntime import OnnxRuntime

        return OnnxRuntime(graph, threads)
    except ImportError as error:
        raise EngineError(
            f"target {target!r} needs a package that is missing ({error}): pip install 'newsdesk[serve]'"
        ) from error
