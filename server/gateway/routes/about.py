"""What serves: labels and models."""

import asyncio
from typing import Any

import msgspec
from fastapi import APIRouter
from starlette.datastructures import State
from starlette.requests import Request

from newsdesk.server.ensemble import manifest
from newsdesk.server.gateway.auth import only
from newsdesk.server.gateway.keys import Role
from newsdesk.server.gateway.schemas import Labels, documented
from newsdesk.server.gateway.triton import Triton
from newsdesk.server.workspace import MODEL, latest_version

router = APIRouter(tags=["about"], dependencies=only(Role.reader))


@router.get("/v1/labels", responses=documented(401, 403, 429, 503, 504))
async def labels(request: Request) -> Labels:
    """The model's labels."""
    return Labels(labels=list(await request.app.state.plane.labels()))


@router.get("/v1/models", responses=documented(401, 403, 429, 503, 504))
async def models(request: Request) -> dict[str, list[dict[str, Any]]]:
    """The models that serve: versions, compile target, members, and the figures that their builds measured."""
    return {"models": [await describe(request.app.state)]}


async def describe(state: State) -> dict[str, Any]:
    """Return what serves now. Raises NewsdeskError."""
    triton: Triton = state.triton
    about = await triton.ask("GET", f"/v2/models/{MODEL}")
    config = await triton.ask("GET", f"/v2/models/{MODEL}/config")
    held = await asyncio.to_thread(_manifest, state.repository / MODEL)
    target = config.get("parameters", {}).get("target", {}).get("string_value", "")
    versions = about.get("versions", [])
    return {"name": MODEL, "versions": versions, "target": target or held.get("target"), **held}


def _manifest(model: Any) -> dict[str, Any]:
    """Return what the served version's manifest says of it, its files' names and the build's stages left out."""
    raw = (latest_version(model) / manifest.FILE).read_bytes()
    held = msgspec.json.decode(raw, type=manifest.Manifest)
    members = [{"name": one.name, "graphs": sorted(one.graphs), "max_length": one.max_length} for one in held.members]
    return {"labels": held.labels, "members": members, "cpu_features": held.cpu_features, "figures": held.figures}
