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
from newsdesk.server.gateway.settings import Launch
from newsdesk.server.serving import workspace

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
    check_ready(request)
    body = msgspec.json.encode({"ready": True, "last_answer_seconds": round(plane.age, 2)})
    return Response(body, media_type="application/json")


def check_ready(request: Request) -> None:
    """Raises Unavailable, with what its server last said of it, where the model has not answered lately."""
    if not request.app.state.plane.ready:
        launch: Launch = request.app.state.launch
        served = workspace.read_served(launch.run)
        reason = (served and served.unready) or "it is being started or healed"
        raise Unavailable(f"The model has not answered a real request lately: {reason}.")


@router.head("/metrics", dependencies=only(Role.reader), include_in_schema=False)
@router.get("/metrics", dependencies=only(Role.reader), responses=documented(401, 403, 429))
async def metrics(request: Request) -> Response:
    """In Prometheus's text format."""
    return Response(request.app.state.telemetry.exposition(), media_type=CONTENT_TYPE_LATEST)
