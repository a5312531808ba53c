"""FastAPI around a transformers pipeline, as its tutorials show it: one pipeline a worker, a thread pool in front.

CHECKPOINT is a `from_pretrained` folder, THREADS torch's threads in this worker.
Run it with: uvicorn benchmarks.peers.fastapi_pipeline:app --workers N
"""

import os

import torch
from fastapi import FastAPI
from pydantic import BaseModel
from transformers import pipeline

torch.set_num_threads(int(os.environ["THREADS"]))
classifier = pipeline("text-classification", os.environ["CHECKPOINT"], device="cpu")
app = FastAPI()


class Article(BaseModel):
    text: str


@app.post("/classify")
def classify(article: Article) -> dict[str, str | float]:
    """Answer one article; FastAPI runs plain functions in its thread pool."""
    (answer,) = classifier([article.text], truncation=True, max_length=256)
    return answer
