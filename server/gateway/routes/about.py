"""What serves: labels and models."""

import asyncio
from pathlib import Path
from typing import Any

import msgspec
from fastapi import APIRouter
from starlette.datastructures import State
from starlette.requests import Request

from newsdesk.server.gateway.auth import only
from newsdesk.server.gateway.keys import Role
from newsdesk.server.gateway.schemas import Labels, documented
from newsdesk.server.gateway.triton import Triton
from newsdesk.server.runtime import manifest
from newsdesk.server.serving.workspace import MODEL, latest_version

router = APIRouter(tags=["about"], dependencies=only(Role.reader))


@router.get("/v1/labels", responses=documented(401, 403, 429, 503, 504))
async def labels(request: Request) -> Labels:
    """The model's labels."""
    return Labels(labels=list(await request.app.state.plane.labels()))


@router.get("/v1/models", responses=documented(401, 403, 429, 503, 504))
async def models(request: Request) -> dict[str, list[dict[str, Any]]]:
    """The models that serve: versions, compile target, members, cascade, and the figures that their builds measured."""
    return {"models": [await describe(request.app.state)]}


async def describe(state: State) -> dict[str, Any]:
    """Return what serves now. Raises NewsdeskError."""
    triton: Triton = state.triton
    about = await triton.ask("GET", f"/v2/models/{MODEL}")
    config = await triton.ask("GET", f"/v2/models/{MODEL}/config")
    held = await asyncio.to_thread(_manifest, state.launch.repository / MODEL)
    parameters = config.get("parameters", {})
    target = parameters.get("target", {}).get("string_value") or held.target
    chosen = parameters.get("unsure_share", {}).get("string_value")
    share = float(chosen) if chosen else held.unsure and held.unsure.share
    return {
        "name": MODEL,
        "versions": about.get("versions", []),
        "target": target,
        "labels": held.labels,
        "members": [
            {"name": one.name, "kind": one.kind, "graphs": sorted(one.graphs), "max_length": one.max_length}
            for one in held.members
        ],
        "cascade": [
            {"members": one.members, "thresholds": msgspec.to_builtins(one.thresholds)} for one in held.cascade
        ],
        "windows": msgspec.to_builtins(held.windows),
        "outputs": [one["name"] for one in about.get("outputs", [])],
        "unsure": held.unsure and {"score": held.unsure.score, "share": share},
        "cpu_features": held.cpu_features,
        "figures": held.figures,
    }


def _manifest(model: Path) -> manifest.Manifest:
    """Return the served version's manifest."""
    return msgspec.json.decode((latest_version(model) / manifest.FILE).read_bytes(), type=manifest.Manifest)
