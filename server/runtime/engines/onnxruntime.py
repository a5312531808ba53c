"""ONNX Runtime on the CPU, or on a GPU by its CUDA and TensorRT providers."""

from collections.abc import Callable
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import onnxruntime

from newsdesk.server.runtime.arrays import Array
from newsdesk.server.runtime.batching import FreeShapes, Shapes
from newsdesk.server.runtime.engines import rewrites
from newsdesk.server.runtime.engines.engine import Engine
from newsdesk.server.runtime.errors import EngineError
from newsdesk.server.runtime.grids import ANY

MERGING = "CommonSubexpressionElimination"
"""ONNX Runtime's optimiser that would make one of pairs that are alike again."""


def settings(threads: int) -> onnxruntime.SessionOptions:
    """Return what every session on the CPU has in common."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Shapes vary with every batch: an arena would keep the largest of everything it ever saw.
    options.enable_cpu_mem_arena = False
    options.enable_mem_pattern = False
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


def open_session(graph: Path, precision: str, options: onnxruntime.SessionOptions) -> onnxruntime.InferenceSession:
    """Read a graph for the CPU: as it is written, or in int8 (Q/DQ) with every product in int8, and none saturated.

    Args:
        graph: an ONNX file, whose weights may lie beside it
        precision: "int8" rewrites the graph, unless it is kept so; any other one leaves it
        options: are added to
    """
    form, source = rewrites.read(graph) if precision == "int8" else (rewrites.AS_WRITTEN, str(graph))
    # U8S8 products would saturate on such a processor; with this they are U8U8, which is slower, and exact.
    options.add_session_config_entry("session.x64quantprecision", "0" if form == rewrites.NARROWED else "1")
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(graph.parent))
    disabled = [] if form == rewrites.AS_WRITTEN else [MERGING]
    return onnxruntime.InferenceSession(source, options, ["CPUExecutionProvider"], disabled_optimizers=disabled)


class OnnxRuntime(Engine):
    """Runs any variant of the graph."""

    def __init__(self, graph: Path, precision: str, threads: int) -> None:
        self._session: Any = open_session(graph, precision, settings(threads))
        self._has_types = any(value.name == "token_type_ids" for value in self._session.get_inputs())

    def shapes(self, most: int) -> Shapes:
        """Return shapes that are all alike to the engine."""
        return FreeShapes(most)

    def submit(self, ids: Array, mask: Array) -> Callable[[], Array]:
        """Compute a group's logits now."""
        feed = {"input_ids": ids, "attention_mask": mask}
        if self._has_types:
            feed["token_type_ids"] = np.zeros_like(ids)
        logits: Array = self._session.run(["logits"], feed)[0]
        return lambda: logits

    def close(self) -> None:
        """Drop the session."""
        self._session = None


class OnnxRuntimeGpu(Engine):
    """Runs a graph at the shapes of a grid, by the provider "cuda" or "tensorrt" (its engines are kept beside it).

    Raises:
        EngineError: the ONNX Runtime that is installed has no such provider, or this machine no GPU for it.
    """

    _PROVIDERS = MappingProxyType({"cuda": "CUDAExecutionProvider", "tensorrt": "TensorrtExecutionProvider"})

    def __init__(self, graph: Path, provider: str) -> None:
        wanted = self._PROVIDERS[provider]
        if wanted not in onnxruntime.get_available_providers():
            raise EngineError(
                f"the ONNX Runtime that is installed has no {wanted}, only "
                f"{', '.join(onnxruntime.get_available_providers())}: pip uninstall onnxruntime; "
                "pip install onnxruntime-gpu"
            )
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        provider_options = self._settings(graph) if provider == "tensorrt" else {}
        fallbacks = ["CUDAExecutionProvider", "CPUExecutionProvider"]
        self._session: Any = onnxruntime.InferenceSession(
            str(graph), options, providers=[(wanted, provider_options), *(name for name in fallbacks if name != wanted)]
        )
        if self._session.get_providers()[0] != wanted:  # it falls back to the processor without an error
            raise EngineError(
                f"{wanted} does not start here: no GPU, or no CUDA libraries that this ONNX Runtime needs"
            )
        self._inputs = [value.name for value in self._session.get_inputs()]

    def shapes(self, most: int) -> Shapes:
        """Return the grid for engines that say nothing of their shapes."""
        return ANY

    def submit(self, ids: Array, mask: Array) -> Callable[[], Array]:
        """Compute a group's logits now, padded to a shape of the grid."""
        padded, padded_mask = ANY.pad(ids, mask)
        feed = {"input_ids": padded, "attention_mask": padded_mask, "token_type_ids": np.zeros_like(padded)}
        logits: Array = self._session.run(["logits"], {name: feed[name] for name in self._inputs})[0][: len(ids)]
        return lambda: logits

    def close(self) -> None:
        """Drop the session."""
        self._session = None

    def _settings(self, graph: Path) -> dict[str, str]:
        names = [value.name for value in onnxruntime.InferenceSession(str(graph)).get_inputs()]
        (least, length), (most, longest) = ANY.shapes[0], ANY.shapes[-1]

        def shapes(batch: int, tokens: int) -> str:
            return ",".join(f"{name}:{batch}x{tokens}" for name in names)

        return {
            "trt_engine_cache_enable": "True",
            "trt_timing_cache_enable": "True",
            "trt_engine_cache_path": str(graph.parent / "tensorrt"),
            "trt_layer_norm_fp32_fallback": "True",
            "trt_profile_min_shapes": shapes(least, length),
            "trt_profile_opt_shapes": shapes(32, 64),
            "trt_profile_max_shapes": shapes(most, longest),
        }
