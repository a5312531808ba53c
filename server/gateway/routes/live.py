"""Throughput and latency as server-sent events, for whoever watches."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import StreamingResponse

from newsdesk.clients import NewsdeskError
from newsdesk.server.gateway.auth import only
from newsdesk.server.gateway.keys import Role
from newsdesk.server.gateway.models import Model, Models
from newsdesk.server.gateway.problems import Problem, describe
from newsdesk.server.gateway.schemas import documented
from newsdesk.server.gateway.telemetry import Telemetry, rates

router = APIRouter(tags=["health"])
_SECONDS = 1.0
_CACHE_SECONDS = 0.5
_CACHE = ("cache_hits", "cache_misses")


@router.get(
    "/v1/metrics/live",
    dependencies=only(Role.reader),
    response_class=StreamingResponse,
    responses={200: {"content": {"text/event-stream": {}}}, **documented(401, 403, 404, 429)},
)
async def live(
    request: Request, model: Annotated[str, Query(description="One model's; of all without.")] = ""
) -> StreamingResponse:
    """An event a second: requests, errors, texts and refused texts a second, latency of the last ten, queue, state.

    A key or token that is no longer valid ends the stream, with an event `problem`.

    And Triton's cache hits and misses, requests a second; null without a response cache, or where Triton is away.
    """
    models: Models = request.app.state.models
    watched = [models.of(model)] if model else list(models)
    return StreamingResponse(_events(request, model, watched), media_type="text/event-stream")


async def _events(request: Request, model: str, watched: list[Model]) -> AsyncIterator[bytes]:
    state = request.app.state
    telemetry: Telemetry = state.telemetry
    before, since = telemetry.totals(model) | await _cache(watched), time.monotonic()
    while not state.stopping():
        await asyncio.sleep(_SECONDS)
        try:
            await state.gate.check(request, Role.reader)
        except Problem as problem:
            end = msgspec.json.encode(describe(problem, request.state.request_id))
            yield b"event: problem\ndata: " + end + b"\n\n"
            return
        after, now = telemetry.totals(model) | await _cache(watched), time.monotonic()
        event: dict[str, Any] = {
            **{f"{name}_per_second": None for name in _CACHE},
            **rates({name: min(before.get(name, count), count) for name, count in after.items()}, after, now - since),
            **telemetry.latency(model),
            "queued_texts": sum(each.plane.queued for each in watched),
            "ready": all(each.plane.ready for each in watched),
        }
        before, since = after, now
        yield b"data: " + msgspec.json.encode(event) + b"\n\n"


async def _cache(watched: list[Model]) -> dict[str, int]:
    """Return what Triton's response cache was asked since it started, nothing where there is none to ask."""
    try:
        async with asyncio.timeout(_CACHE_SECONDS):
            counted = [stats for model in watched for stats in await _cached(model)]
    except (NewsdeskError, Problem, TimeoutError):
        return {}
    sums = (sum(stats[name]["count"] for stats in counted) for name in ("cache_hit", "cache_miss"))
    return dict(zip(_CACHE, sums, strict=True)) if counted else {}


async def _cached(model: Model) -> list[dict[str, Any]]:
    """Return a model's statistics where it is served with a cache."""
    config = await model.triton.ask("GET", f"/v2/models/{model.name}/config")
    if not config.get("response_cache", {}).get("enable"):
        return []
    versions = (await model.triton.ask("GET", f"/v2/models/{model.name}/stats"))["model_stats"]
    return [version["inference_stats"] for version in versions]
