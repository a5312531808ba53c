"""For orchestrators and for Prometheus."""

import msgspec
from fastapi import APIRouter
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.requests import Request
from starlette.responses import Response

from newsdesk.server.gateway.auth import only
from newsdesk.server.gateway.keys import Role
from newsdesk.server.gateway.models import Models
from newsdesk.server.gateway.schemas import documented

router = APIRouter(tags=["health"])


@router.head("/health/live", include_in_schema=False)
@router.get("/health/live")
async def live() -> dict[str, bool]:
    """The gateway's process answers."""
    return {"live": True}


@router.head("/health/ready", include_in_schema=False)
@router.get("/health/ready", responses=documented(503))
async def ready(request: Request) -> Response:
    """Every model has answered a real request within the last seconds, but those that were unloaded on demand."""
    models: Models = request.app.state.models
    ages = [model.plane.age for model in models.check_ready()]
    body = msgspec.json.encode({"ready": True, "last_answer_seconds": round(max(ages), 2)})
    return Response(body, media_type="application/json")


@router.head("/metrics", dependencies=only(Role.reader), include_in_schema=False)
@router.get("/metrics", dependencies=only(Role.reader), responses=documented(401, 403, 429))
async def metrics(request: Request) -> Response:
    """In Prometheus's text format."""
    return Response(request.app.state.telemetry.exposition(), media_type=CONTENT_TYPE_LATEST)
