"""Ray Serve with its request batching and a replica a core, as its documentation's batching tutorial sets it up.

CHECKPOINT is a `from_pretrained` folder, WORKERS the replicas of one core each, PORT where to listen.
"""

import os

import ray
import torch
from ray import serve
from ray.serve.config import HTTPOptions
from starlette.requests import Request
from transformers import pipeline

BATCH = 8
WORKERS = int(os.environ["WORKERS"])


@serve.deployment(num_replicas=WORKERS, ray_actor_options={"num_cpus": 1}, max_ongoing_requests=512)
class Classify:
    def __init__(self, checkpoint: str) -> None:
        torch.set_num_threads(1)
        self.classifier = pipeline("text-classification", checkpoint, device="cpu")

    @serve.batch(max_batch_size=BATCH, batch_wait_timeout_s=0.005)
    async def classify(self, texts: list[str]) -> list[dict[str, str | float]]:
        return self.classifier(texts, batch_size=BATCH, truncation=True, max_length=256)

    async def __call__(self, request: Request) -> dict[str, str | float]:
        return await self.classify((await request.json())["text"])


if __name__ == "__main__":
    ray.init(num_cpus=WORKERS, include_dashboard=False, object_store_memory=128 * 2**20, log_to_driver=False)
    serve.start(http_options=HTTPOptions(host="127.0.0.1", port=int(os.environ["PORT"])))
    serve.run(Classify.bind(os.environ["CHECKPOINT"]), blocking=True)
