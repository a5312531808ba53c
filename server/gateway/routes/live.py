"""Throughput and latency as server-sent events, for whoever watches."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import msgspec
from fastapi import APIRouter
from starlette.datastructures import State
from starlette.requests import Request
from starlette.responses import StreamingResponse

from newsdesk.clients import NewsdeskError
from newsdesk.server.gateway.auth import only
from newsdesk.server.gateway.keys import Role
from newsdesk.server.gateway.problems import Problem, describe
from newsdesk.server.gateway.schemas import documented
from newsdesk.server.gateway.telemetry import Telemetry, rates
from newsdesk.server.serving.workspace import MODEL

router = APIRouter(tags=["health"])
_SECONDS = 1.0
_CACHE_SECONDS = 0.5
_CACHE = ("cache_hits", "cache_misses")


@router.get(
    "/v1/metrics/live",
    dependencies=only(Role.reader),
    response_class=StreamingResponse,
    responses={200: {"content": {"text/event-stream": {}}}, **documented(401, 403, 429)},
)
async def live(request: Request) -> StreamingResponse:
    """An event a second: requests, errors, texts and refused texts a second, latency of the last ten, queue, state.

    A key or token that is no longer valid ends the stream, with an event `problem`.

    And Triton's cache hits and misses, requests a second; null without a response cache, or where Triton is away.
    """
    return StreamingResponse(_events(request), media_type="text/event-stream")


async def _events(request: Request) -> AsyncIterator[bytes]:
    state = request.app.state
    telemetry: Telemetry = state.telemetry
    before, since = telemetry.totals() | await _cache(state), time.monotonic()
    while not state.stopping():
        await asyncio.sleep(_SECONDS)
        try:
            await state.gate.check(request, Role.reader)
        except Problem as problem:
            end = msgspec.json.encode(describe(problem, request.state.request_id))
            yield b"event: problem\ndata: " + end + b"\n\n"
            return
        after, now = telemetry.totals() | await _cache(state), time.monotonic()
        event: dict[str, Any] = {
            **{f"{name}_per_second": None for name in _CACHE},
            **rates({name: min(before.get(name, count), count) for name, count in after.items()}, after, now - since),
            **telemetry.latency(),
            "queued_texts": state.plane.queued,
            "ready": state.plane.ready,
        }
        before, since = after, now
        yield b"data: " + msgspec.json.encode(event) + b"\n\n"


async def _cache(state: State) -> dict[str, int]:
    """Return what Triton's response cache was asked since it started, nothing where there is none to ask."""
    try:
        async with asyncio.timeout(_CACHE_SECONDS):
            config = await state.triton.ask("GET", f"/v2/models/{MODEL}/config")
            if not config.get("response_cache", {}).get("enable"):
                return {}
            models = (await state.triton.ask("GET", f"/v2/models/{MODEL}/stats"))["model_stats"]
    except (NewsdeskError, TimeoutError):
        return {}
    counted = [one["inference_stats"] for one in models]
    found = (sum(one[name]["count"] for one in counted) for name in ("cache_hit", "cache_miss"))
    return dict(zip(_CACHE, found, strict=True))
