"""Managing, in the audit log whatever comes of it: models for operators, keys for administrators."""

import time
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Depends
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from newsdesk.server.gateway.auth import Authenticator, Caller, only, requires
from newsdesk.server.gateway.keys import KeysError, Role
from newsdesk.server.gateway.models import of
from newsdesk.server.gateway.problems import Conflict, Forbidden, Malformed, NotFound
from newsdesk.server.gateway.rollouts.rollout import Rollout
from newsdesk.server.gateway.schemas import documented
from newsdesk.server.gateway.settings import Launch
from newsdesk.server.machine import servers, versions
from newsdesk.server.machine.servers import Served
from newsdesk.server.runtime.repository import RepositoryError

models = APIRouter(prefix="/v2/repository", tags=["management"], dependencies=only(Role.operator))
keys = APIRouter(prefix="/v1/keys", tags=["management"], dependencies=only(Role.admin))
_PROBLEMS = documented(400, 401, 403, 404, 429, 503, 504)


@models.post("/index", responses=_PROBLEMS)
def index(request: Request) -> list[dict[str, str]]:
    """The models of the repository, and which of them are loaded."""
    launch: Launch = request.app.state.launch
    served, starting = servers.read_served(launch.run), Served("", unready="it is being started")
    about = {model: served.get(model, starting) for model in launch.models}
    return [
        {
            "name": model,
            "version": version.version,
            "state": "UNAVAILABLE" if version.unready else "READY",
            "reason": version.unready,
        }
        for model, version in about.items()
    ]


@models.post("/models/{model}/load", responses=_PROBLEMS | documented(409))
@models.post("/models/{model}/unload", responses=_PROBLEMS | documented(409))
async def manage(request: Request, model: str, caller: Annotated[Caller, Depends(requires(Role.operator))]) -> Response:
    """Load or unload a model. `unload_dependents` is the only parameter: files and configurations are code."""
    action = request.url.path.rsplit("/", 1)[-1]
    entry = {"action": action, "model": model}
    launch: Launch = request.app.state.launch
    try:
        _check_parameters(await request.body())
        if model not in launch.models:
            raise NotFound(f"There is no model {model!r:.80} to {action}.")
        await run_in_threadpool(versions.reload if action == "load" else versions.unload, launch.state, model)
    except RepositoryError as error:
        _audit(request, caller, **entry, outcome=str(error))
        raise Conflict(str(error)) from error
    except Exception as error:
        _audit(request, caller, **entry, outcome=str(error))
        raise
    _audit(request, caller, **entry, outcome="done")
    return Response()


@models.post("/models/{model}/rollback", responses=_PROBLEMS | documented(409))
async def rollback(
    request: Request, model: str, caller: Annotated[Caller, Depends(requires(Role.operator))]
) -> dict[str, str]:
    """Go back to the version before: take the latest out of service and load what is left, as `newsdesk rollback`."""
    launch: Launch = request.app.state.launch
    entry = {"action": "rollback", "model": model[:80]}
    if model not in launch.models:
        _audit(request, caller, **entry, outcome="there is no such model")
        raise NotFound(f"There is no model {model!r:.80} to roll back.")
    try:
        withdrawn, serves = await run_in_threadpool(versions.withdraw, launch.source / model)
        await run_in_threadpool(versions.reload, launch.state, model)
    except RepositoryError as error:
        _audit(request, caller, **entry, outcome=str(error))
        raise Conflict(str(error)) from error
    _audit(request, caller, **entry, outcome=f"version {withdrawn} is withdrawn, {serves} serves")
    return {"withdrawn": withdrawn, "serves": serves}


@models.get("/models/{model}/canary", responses=_PROBLEMS)
async def trial(request: Request, model: str) -> dict[str, Any]:
    """How the version that is tried does beside the current one."""
    status: dict[str, Any] = msgspec.to_builtins(_rollout(request, model).status())
    return status


@models.post("/models/{model}/canary/promote", responses=_PROBLEMS | documented(409))
@models.post("/models/{model}/canary/withdraw", responses=_PROBLEMS | documented(409))
async def decide(
    request: Request, model: str, caller: Annotated[Caller, Depends(requires(Role.operator))]
) -> dict[str, str]:
    """Have the version that is tried take the current one's place, or take it out of service."""
    launch: Launch = request.app.state.launch
    action = request.url.path.rsplit("/", 1)[-1]
    entry = {"action": action, "model": model[:80]}
    try:
        candidate = _rollout(request, model).candidate
        outcome = await run_in_threadpool(versions.decide, launch.state, candidate.name, action)
    except RepositoryError as error:
        _audit(request, caller, **entry, outcome=str(error))
        raise Conflict(str(error)) from error
    except Exception as error:
        _audit(request, caller, **entry, outcome=str(error))
        raise
    _audit(request, caller, **entry, outcome=f"version {candidate.version} is {outcome}")
    return {"version": candidate.version, "outcome": outcome}


def _rollout(request: Request, model: str) -> Rollout:
    """Raises NotFound where no version is tried."""
    rollout = of(request, model).rollout
    if rollout is None:
        raise NotFound(f"No version of {model} is tried: newsdesk serve --canary or --shadow has one tried.")
    return rollout


@keys.get("", responses=_PROBLEMS)
async def list_keys(request: Request) -> dict[str, list[dict[str, Any]]]:
    """The API keys, without what they are compared with."""
    gate: Authenticator = request.app.state.gate
    return {"keys": [key.shown(time.time()) for key in gate.keys.keys().values()]}


@keys.delete("/{id}", responses=_PROBLEMS)
async def revoke(request: Request, id: str, caller: Annotated[Caller, Depends(requires(Role.admin))]) -> dict[str, Any]:
    """Revoke an API key, from the next request on."""
    gate: Authenticator = request.app.state.gate
    try:
        revoked = await run_in_threadpool(gate.keys.revoke, id)
    except KeysError as error:
        _audit(request, caller, action="revoke", key=id[:80], outcome=str(error))
        raise NotFound(f"There is no key {id!r:.80}.") from error
    _audit(request, caller, action="revoke", key=id, outcome="done")
    return revoked.shown(time.time())


def _check_parameters(raw: bytes) -> None:
    try:
        parameters = msgspec.json.decode(raw or b"{}", type=dict[str, Any]).get("parameters") or {}
    except msgspec.DecodeError as error:
        raise Malformed(f"The body is not a JSON object: {error}.") from None
    if not isinstance(parameters, dict) or not parameters.keys() <= {"unload_dependents"}:
        raise Forbidden("Only the parameter unload_dependents is taken: what a model is, the repository alone says.")


def _audit(request: Request, caller: Caller, **entry: Any) -> None:
    state = request.app.state
    state.audit.write(request_id=request.state.request_id, caller=caller.id, role=caller.role.name, **entry)
