"""The routes that tell labels and models."""

import asyncio
from pathlib import Path
from typing import Any

import msgspec
from fastapi import APIRouter
from starlette.datastructures import State
from starlette.requests import Request

from newsdesk.clients import NewsdeskError
from newsdesk.server.contract import QUALITIES
from newsdesk.server.gateway.auth import only
from newsdesk.server.gateway.keys import Role
from newsdesk.server.gateway.models import Model, Models, of
from newsdesk.server.gateway.problems import Problem
from newsdesk.server.gateway.schemas import Labels, documented
from newsdesk.server.runtime import manifest
from newsdesk.server.runtime.repository import latest_version

router = APIRouter(tags=["about"], dependencies=only(Role.reader))
_PROBLEMS = documented(401, 403, 404, 429, 503, 504)


@router.get("/v1/models/{model}/labels", responses=_PROBLEMS)
@router.get("/v1/labels", responses=_PROBLEMS | documented(400))
async def labels(request: Request, model: str = "") -> Labels:
    """A model's labels, or those of the default one."""
    return Labels(labels=list(await of(request, model).plane.labels()))


@router.get("/v1/models", responses=documented(401, 403, 429, 503, 504))
async def models(request: Request) -> dict[str, list[dict[str, Any]]]:
    """The models that serve: versions, compile target, members, cascade, and the figures that their builds measured."""
    return {"models": await describe_all(request.app.state)}


@router.get("/v1/models/{model}", responses=_PROBLEMS)
async def model(request: Request, model: str) -> dict[str, Any]:
    """One of the models, as /v1/models tells it."""
    return await describe(request.app.state, of(request, model))


async def describe_all(state: State) -> list[dict[str, Any]]:
    """Return what serves now. One of several that is not loaded is without versions. Raises NewsdeskError."""
    served: Models = state.models
    described = await asyncio.gather(*(describe(state, model) for model in served), return_exceptions=True)
    listed = []
    for model, about in zip(served, described, strict=True):
        if isinstance(about, NewsdeskError | Problem) and len(served) > 1:
            about = await _describe(state, model, {}, {})
        if isinstance(about, BaseException):
            raise about
        listed.append(about)
    return listed


async def describe(state: State, model: Model) -> dict[str, Any]:
    """Return what serves of a model. Raises NewsdeskError and Unavailable."""
    about = await model.triton.ask("GET", f"/v2/models/{model.name}")
    config = await model.triton.ask("GET", f"/v2/models/{model.name}/config")
    return await _describe(state, model, about, config)


async def _describe(state: State, model: Model, about: dict[str, Any], config: dict[str, Any]) -> dict[str, Any]:
    held = await asyncio.to_thread(_manifest, state.launch.repository / model.name)
    parameters = config.get("parameters", {})
    target = parameters.get("target", {}).get("string_value") or held.target
    chosen = parameters.get("unsure_share", {}).get("string_value")
    share = float(chosen) if chosen else held.unsure and held.unsure.share
    return {
        "name": model.name,
        "default": model.name == state.models.default,
        "ready": model.plane.ready,
        "versions": about.get("versions", []),
        "target": target,
        "labels": held.labels,
        "qualities": list(QUALITIES),
        "members": [
            {"name": part.name, "kind": part.kind, "graphs": sorted(part.graphs), "max_length": part.max_length}
            for part in held.members
        ],
        "cascade": [
            {"members": part.members, "thresholds": msgspec.to_builtins(part.thresholds)} for part in held.cascade
        ],
        "windows": msgspec.to_builtins(held.windows),
        "outputs": [part["name"] for part in about.get("outputs", [])],
        "unsure": held.unsure and {"score": held.unsure.score, "share": share},
        "cpu_features": held.cpu_features,
        "figures": held.figures,
    }


def _manifest(model: Path) -> manifest.Manifest:
    """Return the served version's manifest."""
    return msgspec.json.decode((latest_version(model) / manifest.FILE).read_bytes(), type=manifest.Manifest)
