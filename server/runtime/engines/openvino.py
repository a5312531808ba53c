"""OpenVINO on the CPU."""

from pathlib import Path

import numpy as np
import openvino


class OpenVino:
    """Runs the int8 (Q/DQ) graph as it is written, or the fp32 graph in fp32 or bf16."""

    compiles_shapes = True
    """The first batch of a shape waits for its kernels."""

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
        self._request = core.compile_model(core.read_model(graph), "CPU", settings).create_infer_request()
        self._has_types = any("token_type_ids" in given.names for given in self._request.model_inputs)

    def __call__(self, ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
        feed = {"input_ids": ids, "attention_mask": mask}
        if self._has_types:
            feed["token_type_ids"] = np.zeros_like(ids)
        return self._request.infer(feed, share_inputs=True)["logits"]
