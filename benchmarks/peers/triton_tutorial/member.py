"""input_ids, attention_mask, token_type_ids, INT64 [n, 128] → logits, FP32 [n, labels], by ONNX Runtime.

The Triton that pip installs has no ONNX Runtime backend: this does in the Python backend what that one does, a session
of the graph as it is, batches as the dynamic batcher forms them.
"""

import json

import numpy as np
import onnxruntime
import triton_python_backend_utils as pb_utils

NAMES = "input_ids", "attention_mask", "token_type_ids"


class TritonPythonModel:
    def initialize(self, args):
        parameters = json.loads(args["model_config"])["parameters"]
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        graph = parameters["graph"]["string_value"]
        self.session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])

    def execute(self, requests):
        options = {
            name: [pb_utils.get_input_tensor_by_name(request, name).as_numpy() for request in requests]
            for name in NAMES
        }
        (logits,) = self.session.run(["logits"], {name: np.concatenate(parts) for name, parts in options.items()})
        ends = np.cumsum([len(part) for part in options["input_ids"]])[:-1]
        return [pb_utils.InferenceResponse([pb_utils.Tensor("logits", own)]) for own in np.split(logits, ends)]
