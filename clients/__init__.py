"""Client SDK of newsdesk: classify texts with a running server, blocking or with asyncio.

from newsdesk.clients import Client

with Client("grpc://127.0.0.1:8001") as client:
    prediction = client.classify("Wall Street bears claw back into the black")
    print(prediction.label, prediction.probabilities)
"""

from newsdesk.clients.aio import AsyncClient
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
from newsdesk.clients.options import Quality
from newsdesk.clients.prediction import Prediction

__all__ = [
    "AccessDenied",
    "AsyncClient",
    "BadResponse",
    "Client",
    "DeadlineExceeded",
    "NewsdeskError",
    "Prediction",
    "Quality",
    "RequestRefused",
    "ServerFailed",
    "ServerUnavailable",
    "TextRefused",
    "TooManyRequests",
]
