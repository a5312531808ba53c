"""LitServe with its batching and a worker a core, as its documentation speeds up a server on a CPU.

CHECKPOINT is a `from_pretrained` folder, WORKERS the processes of one thread each, PORT where to listen.
"""

import os

import litserve
import torch
from transformers import pipeline

BATCH = 8


class Classify(litserve.LitAPI):
    def setup(self, device: str) -> None:
        torch.set_num_threads(1)
        self.classifier = pipeline("text-classification", os.environ["CHECKPOINT"], device="cpu")

    def decode_request(self, request: dict[str, str]) -> str:
        return request["text"]

    def predict(self, texts: list[str]) -> list[dict[str, str | float]]:
        return self.classifier(list(texts), batch_size=BATCH, truncation=True, max_length=256)

    def encode_response(self, output: dict[str, str | float]) -> dict[str, str | float]:
        return output


if __name__ == "__main__":
    server = litserve.LitServer(
        Classify(max_batch_size=BATCH, batch_timeout=0.005),
        accelerator="cpu",
        workers_per_device=int(os.environ["WORKERS"]),
        timeout=120,
    )
    server.run(host="127.0.0.1", port=int(os.environ["PORT"]), log_level="warning", generate_client_file=False)
