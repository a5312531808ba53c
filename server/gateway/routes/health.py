"""For orchestrators and for Prometheus."""

import msgspec
from fastapi import APIRouter
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.requests import Request
from starlette.responses import Response

from newsdesk.server.gateway.auth import only
from newsdesk.server.gateway.keys import Role
from newsdesk.server.gateway.plane import Plane
from newsdesk.server.gateway.problems import Unavailable
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
    """The model has answered a real request within the last seconds."""
    plane: Plane = request.app.state.plane
    if not plane.ready:
        raise Unavailable("The model has not answered a real request lately: it is being started or healed.")
    body = msgspec.json.encode({"ready": True, "last_answer_seconds": round(plane.age, 2)})
    return Response(body, media_type="application/json")


@router.head("/metrics", dependencies=only(Role.reader), include_in_schema=False)
@router.get("/metrics", dependencies=only(Role.reader), responses=documented(401, 403, 429))
async def metrics(request: Request) -> Response:
    """In Prometheus's text format."""
    return Response(request.app.state.telemetry.exposition(), media_type=CONTENT_TYPE_LATEST)
