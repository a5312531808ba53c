"""A stand-in for a model that takes known times and no core: it sleeps. Runs inside Triton's Python backend."""

import time

import numpy as np
import triton_python_backend_utils as pb_utils

# For a batch, and for each text in it; benchmarks/replicas.py puts the numbers here.
SLEPT = 0.0, 0.0


class TritonPythonModel:
    def execute(self, requests):
        counts = [len(pb_utils.get_input_tensor_by_name(request, "TEXT").as_numpy()) for request in requests]
        time.sleep(SLEPT[0] + SLEPT[1] * sum(counts))
        return [pb_utils.InferenceResponse(self.answers(count)) for count in counts]

    def answers(self, count):
        return [
            pb_utils.Tensor("LABEL", np.full((count, 1), b"World", np.object_)),
            pb_utils.Tensor("PROBABILITIES", np.tile(np.float32([0.7, 0.1, 0.1, 0.1]), (count, 1))),
            pb_utils.Tensor("ANSWERED_BY", np.full((count, 1), b"stand-in", np.object_)),
            pb_utils.Tensor("WINDOWS", np.ones((count, 1), np.int32)),
            pb_utils.Tensor("UNSURE", np.zeros((count, 1), np.bool_)),
        ]
