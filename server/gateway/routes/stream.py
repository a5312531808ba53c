"""Texts in and answers out over one WebSocket, in order, for as long as both sides like."""

import asyncio
from contextlib import suppress
from typing import Annotated, Any
from urllib.parse import urlsplit

import msgspec
from fastapi import APIRouter
from pydantic import Field, StrictInt, StrictStr
from starlette.websockets import WebSocket, WebSocketDisconnect

from newsdesk.clients import NewsdeskError
from newsdesk.server.gateway.auth import only
from newsdesk.server.gateway.keys import Role
from newsdesk.server.gateway.plane import Plane
from newsdesk.server.gateway.problems import Forbidden, Problem, problem_of
from newsdesk.server.gateway.routes.bodies import parse
from newsdesk.server.gateway.schemas import ClassifyRequest, Given, shown

router = APIRouter()
_WAITING = 64
"""Texts of one connection that wait for their answer; a further one is not read before."""


class Message(ClassifyRequest):
    text: Given
    id: Annotated[StrictStr | StrictInt | None, Field(description="Comes back with the answer.")] = None


@router.websocket("/v1/stream", dependencies=only(Role.reader))
async def stream(websocket: WebSocket) -> None:
    """A message is `{"text", "id"?, "top_k"?, …}`, as /v1/classify takes it; its answer is an item, with the id."""
    _check_origin(websocket)
    await websocket.accept()
    waiting: asyncio.Queue[asyncio.Task[dict[str, Any]] | None] = asyncio.Queue(_WAITING)
    reading = asyncio.create_task(_read(websocket, waiting))
    try:
        with suppress(WebSocketDisconnect):
            while task := await waiting.get():
                await websocket.send_text(msgspec.json.encode(await task).decode())
    finally:
        reading.cancel()
        while not waiting.empty():
            if task := waiting.get_nowait():
                task.cancel()


async def _read(websocket: WebSocket, waiting: asyncio.Queue[asyncio.Task[dict[str, Any]] | None]) -> None:
    """Start an answer for each message, no more than the queue takes; None is the end."""
    plane: Plane = websocket.app.state.plane
    websocket.state.texts = 0
    try:
        async for message in websocket.iter_text():
            websocket.state.texts += 1
            await waiting.put(asyncio.create_task(_answer(plane, message, websocket.state.texts - 1)))
    finally:
        await waiting.put(None)


async def _answer(plane: Plane, message: str, index: int) -> dict[str, Any]:
    given: Message | None = None
    try:
        given = parse(Message, message)
        (found,) = await plane.classify(given.texts(), given.asked(), wait=True)
        item = shown(found)
    except NewsdeskError as error:
        item = {"error": problem_of(error).detail}
    except Problem as problem:
        item = {"error": problem.detail}
    return {**item, "index": index, "id": given.id if given else None}


def _check_origin(websocket: WebSocket) -> None:
    """Refuse pages of other origins: browsers let any page open a WebSocket. Raises Forbidden."""
    origin = websocket.headers.get("origin")
    listed = websocket.app.state.settings.cors_origin
    if origin and origin not in listed and urlsplit(origin).netloc != websocket.headers.get("host"):
        raise Forbidden(f"Pages of {origin!r:.80} may not call; --cors-origin lists those that may.")
