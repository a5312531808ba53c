"""Client SDK of newsdesk: classify texts with a running server, blocking or with asyncio.

from newsdesk.clients import Client

with Client("grpc://127.0.0.1:8001") as client:
    prediction = client.classify("Wall Street bears claw back into the black")
    print(prediction.label, prediction.probabilities)
"""

from importlib.metadata import version

from newsdesk.clients.aio import AsyncClient
from newsdesk.clients.articles import Article, Text
from newsdesk.clients.client import Client
from newsdesk.clients.errors import (
    AccessDenied,
    BadResponse,
    DeadlineExceeded,
    NewsdeskError,
    RequestRefused,
    ServerFailed,
    ServerUnavailable,
    TextRefused,
    TooManyRequests,
)
from newsdesk.clients.feedback import Correction
from newsdesk.clients.job import Job
from newsdesk.clients.prediction import Prediction
from newsdesk.server.contract import Quality

__version__ = version("newsdesk")
"""The version of the whole package. `newsdesk` itself is a namespace of three parts, and has no attributes."""

__all__ = [
    "AccessDenied",
    "Article",
    "AsyncClient",
    "BadResponse",
    "Client",
    "Correction",
    "DeadlineExceeded",
    "Job",
    "NewsdeskError",
    "Prediction",
    "Quality",
    "RequestRefused",
    "ServerFailed",
    "ServerUnavailable",
    "Text",
    "TextRefused",
    "TooManyRequests",
    "__version__",
]
