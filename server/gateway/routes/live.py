"""Throughput and latency as server-sent events, for whoever watches."""

import asyncio
import time
from collections.abc import AsyncIterator

import msgspec
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import StreamingResponse

from newsdesk.server.gateway.auth import only
from newsdesk.server.gateway.keys import Role
from newsdesk.server.gateway.schemas import documented
from newsdesk.server.gateway.telemetry import Telemetry, rates

router = APIRouter(tags=["health"])
_SECONDS = 1.0


@router.get(
    "/v1/metrics/live",
    dependencies=only(Role.reader),
    response_class=StreamingResponse,
    responses={200: {"content": {"text/event-stream": {}}}, **documented(401, 403, 429)},
)
async def live(request: Request) -> StreamingResponse:
    """An event a second: requests, errors, texts and refused texts a second, latency of the last ten, queue, state."""
    return StreamingResponse(_events(request), media_type="text/event-stream")


async def _events(request: Request) -> AsyncIterator[bytes]:
    state = request.app.state
    telemetry: Telemetry = state.telemetry
    before, since = telemetry.totals(), time.monotonic()
    while not state.stopping():
        await asyncio.sleep(_SECONDS)
        after, now = telemetry.totals(), time.monotonic()
        event = {
            **rates(before, after, now - since),
            **telemetry.latency(),
            "queued_texts": state.plane.queued,
            "ready": state.plane.ready,
        }
        before, since = after, now
        yield b"data: " + msgspec.json.encode(event) + b"\n\n"
