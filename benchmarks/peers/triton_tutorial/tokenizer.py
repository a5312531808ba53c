"""TEXT [n, 1] → input_ids, attention_mask, token_type_ids, INT64 [n, 128]."""

import json

import numpy as np
import triton_python_backend_utils as pb_utils
from transformers import AutoTokenizer


class TritonPythonModel:
    def initialize(self, args):
        parameters = json.loads(args["model_config"])["parameters"]
        self.tokenizer = AutoTokenizer.from_pretrained(parameters["checkpoint"]["string_value"])

    def execute(self, requests):
        responses = []
        for request in requests:
            texts = pb_utils.get_input_tensor_by_name(request, "TEXT").as_numpy().ravel()
            encoded = self.tokenizer(
                [text.decode() for text in texts],
                padding="max_length",
                truncation=True,
                max_length=128,
                return_token_type_ids=True,
                return_tensors="np",
            )
            outputs = [pb_utils.Tensor(name, ids.astype(np.int64)) for name, ids in encoded.items()]
            responses.append(pb_utils.InferenceResponse(outputs))
        return responses
