"""Texts in and answers out over one WebSocket, in order, for as long as both sides like and the caller may."""

import asyncio
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter
from pydantic import Field, StrictInt, StrictStr
from starlette.websockets import WebSocket, WebSocketDisconnect

from newsdesk.clients import NewsdeskError
from newsdesk.server.gateway import models
from newsdesk.server.gateway.auth import CHECK_SECONDS, Authenticator, only
from newsdesk.server.gateway.keys import Role
from newsdesk.server.gateway.problems import Malformed, Problem, problem_of
from newsdesk.server.gateway.routes.bodies import parse
from newsdesk.server.gateway.schemas import ClassifyRequest, TextInput, shown

router = APIRouter()
_WAITING = 64
"""Texts of one connection that wait for their answer; a further one is not read before."""
_POLICY_VIOLATION = 1008
_MOST_REASON = 120
"""Bytes of a close frame's reason, which takes 123."""

Answers = asyncio.Queue[asyncio.Task[dict[str, Any]]]


class StreamRequest(ClassifyRequest):
    """A message of a stream: one text."""

    text: TextInput
    id: Annotated[StrictStr | StrictInt | None, Field(description="Comes back with the answer.")] = None
    model: Annotated[StrictStr, Field(description="Which model, else that of the connection.")] = ""


@router.websocket("/v1/models/{model}/stream", dependencies=only(Role.reader))
@router.websocket("/v1/stream", dependencies=only(Role.reader))
async def stream(websocket: WebSocket, model: str = "") -> None:
    """Answer messages in their order, until the caller goes or may no longer be here.

    A message is `{"text", "id"?, "model"?, "top_k"?, …}`, as /v1/classify takes it; its answer is an item, with the
    id. Without `model`, the connection's answers (/v1/stream?model=…), else the default one. Each counts as a request
    of the caller's.
    """
    await websocket.accept()
    waiting: Answers = asyncio.Queue(_WAITING)
    tasks = [asyncio.create_task(part) for part in (_read(websocket, waiting, model), _write(websocket, waiting))]
    tasks.append(asyncio.create_task(_watch(websocket)))
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            await task
    except WebSocketDisconnect:
        pass
    except Problem as problem:
        reason = problem.detail.encode()[:_MOST_REASON].decode(errors="ignore")
        await websocket.close(_POLICY_VIOLATION, reason)
    finally:
        for task in tasks:
            task.cancel()
        while not waiting.empty():  # what the caller does not wait for is not asked
            waiting.get_nowait().cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _read(websocket: WebSocket, waiting: Answers, model: str) -> None:
    """Start an answer for each message, no more than the queue takes, until the caller goes."""
    websocket.state.texts = 0
    while (message := await websocket.receive())["type"] == "websocket.receive":
        answering = asyncio.create_task(_answer(websocket, message.get("text"), websocket.state.texts, model))
        websocket.state.texts += 1
        try:
            await waiting.put(answering)
        except asyncio.CancelledError:
            answering.cancel()
            raise


async def _write(websocket: WebSocket, waiting: Answers) -> None:
    while True:
        await websocket.send_text(msgspec.json.encode(await (await waiting.get())).decode())


async def _watch(websocket: WebSocket) -> None:
    """Look again and again whether the caller may still be here. Raises Problem where not."""
    gate: Authenticator = websocket.app.state.gate
    while True:
        await asyncio.sleep(CHECK_SECONDS)
        await gate.check(websocket, Role.reader)


async def _answer(websocket: WebSocket, message: str | None, index: int, model: str) -> dict[str, Any]:
    state = websocket.app.state
    gate: Authenticator = state.gate
    parsed: StreamRequest | None = None
    try:
        try:
            if message is None:
                raise Malformed("The message is binary, expected text: an object in JSON.")
            parsed = parse(StreamRequest, message)
        finally:
            await gate.count(websocket.state.caller)
        (item,) = await models.of(websocket, parsed.model or model).plane.classify(
            parsed.texts(), parsed.asked(), wait=True
        )
        answer = shown(item)
    except NewsdeskError as error:
        answer = {"error": problem_of(error).detail}
    except Problem as problem:
        answer = {"error": problem.detail}
        if problem.headers and "Retry-After" in problem.headers:
            answer["retry_after"] = int(problem.headers["Retry-After"])
    return {**answer, "index": index, "id": parsed.id if parsed else None}
