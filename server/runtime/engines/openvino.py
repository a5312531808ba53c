"""OpenVINO on the CPU."""

import contextlib
import fcntl
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import openvino

from newsdesk.server.runtime.arrays import Array
from newsdesk.server.runtime.batching import Shapes, compiled_shapes
from newsdesk.server.runtime.engines.engine import COMPILED, Engine
from newsdesk.server.runtime.files import digest


class OpenVino(Engine):
    """Runs the int8 (Q/DQ) graph as it is written, or the fp32 graph in fp32 or bf16."""

    def __init__(self, graph: Path, precision: str, threads: int) -> None:
        core = openvino.Core()
        settings = {
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
            "PERFORMANCE_HINT": "LATENCY",
            # Each process would pin itself to the same core as the others.
            "ENABLE_CPU_PINNING": False,
            "INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32",
        }
        with _compiled(graph) as folder:
            kept = {"CACHE_DIR": str(folder)} if folder else {}
            compiled = core.compile_model(core.read_model(graph), "CPU", settings | kept)
        self._request: Any = compiled.create_infer_request()
        self._has_types = any("token_type_ids" in value.names for value in self._request.model_inputs)

    def shapes(self, most: int) -> Shapes:
        """Return the shapes of an engine that compiles kernels for each."""
        return compiled_shapes(most)

    def submit(self, ids: Array, mask: Array) -> Callable[[], Array]:
        """Compute a group's logits now."""
        feed = {"input_ids": ids, "attention_mask": mask}
        if self._has_types:
            feed["token_type_ids"] = np.zeros_like(ids)
        logits: Array = self._request.infer(feed, share_inputs=True)["logits"]
        return lambda: logits

    def close(self) -> None:
        """Drop the compiled graph."""
        self._request = None


@contextlib.contextmanager
def _compiled(graph: Path) -> Iterator[Path | None]:
    """Give the folder where a graph is kept as it was compiled; None where there is none, or no room for one.

    It is named by the graph's content: whether OpenVINO tells apart those that differ in their weights alone is open.
    One process at a time has it, because OpenVINO's cache has no lock: of several that meet a damaged file, each takes
    it away from the others, who fail. The others also read what the first one compiled, instead of compiling it again.
    """
    with contextlib.ExitStack() as stack:
        folder = None
        if above := os.environ.get(COMPILED):
            folder = Path(above) / digest(graph)
            try:
                folder.mkdir(parents=True, exist_ok=True)
                fcntl.flock(stack.enter_context((folder / "lock").open("w")), fcntl.LOCK_EX)
            except OSError:
                folder = None
        yield folder
