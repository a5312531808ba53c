"""Requests of single calls that go together, which tests answer without a server."""

from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from newsdesk.clients import Prediction, TextRefused
from newsdesk.clients.chunk import Item, Text
from newsdesk.clients.deadline import Deadline
from newsdesk.clients.options import Options

URL = "grpc://127.0.0.1:8001"
PLAIN = Options()
SHARES = {"Business": 0.6, "World": 0.3, "Sports": 0.1}


def answer(text: Text, index: int = 0, top_k: int | None = None) -> Prediction:
    """Return what the model answers: it is sure that every text is of its own name."""
    shares = {name: share for name, share in [*SHARES.items()][:top_k]}
    return Prediction(index, str(text), shares, "tiny")


@dataclass
class Request:
    texts: list[Text]
    options: Options
    deadline: Deadline
    place: str
    result: Any
    cancelled: bool = False

    def answers(self) -> list[Item]:
        """Answer as the model would, the word "bad" refused."""
        return [
            TextRefused(index, "empty") if text == "bad" else answer(text, index)
            for index, text in enumerate(self.texts)
        ]


PLACE = ContextVar("place", default="nowhere")
