"""logits, FP32 [n, labels] → LABEL, BYTES [n, 1], and PROBABILITIES, FP32 [n, labels]."""

import json

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args):
        names = json.loads(args["model_config"])["parameters"]["labels"]["string_value"]
        self.labels = np.array([name.encode() for name in json.loads(names)], np.object_)

    def execute(self, requests):
        responses = []
        for request in requests:
            logits = pb_utils.get_input_tensor_by_name(request, "logits").as_numpy()
            scores = np.exp(logits - logits.max(-1, keepdims=True))
            probabilities = scores / scores.sum(-1, keepdims=True)
            outputs = [
                pb_utils.Tensor("LABEL", self.labels[probabilities.argmax(-1)][:, None]),
                pb_utils.Tensor("PROBABILITIES", probabilities.astype(np.float32)),
            ]
            responses.append(pb_utils.InferenceResponse(outputs))
        return responses
