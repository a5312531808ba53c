"""A caller who is gone wants no answer: its request ends, and with it what of it has not yet been sent to the model."""

import asyncio

from starlette.types import ASGIApp, Message, Receive, Scope, Send


class Disconnects:
    """Cancel a request once its body was read and its connection is closed.

    Before that, reading the body fails by itself. A WebSocket's handler reads for as long as it lives.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, as ASGI has it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        answering = asyncio.current_task()
        assert answering is not None
        watching: asyncio.Task[Message] | None = None
        gone = False

        def ended(watched: asyncio.Task[Message]) -> None:
            nonlocal gone
            if not watched.cancelled() and not watched.exception():
                gone = True
                answering.cancel()

        async def receiving() -> Message:
            nonlocal watching
            if watching:  # whoever streams an answer watches, too
                return await asyncio.shield(watching)
            message = await receive()
            if message["type"] == "http.request" and not message.get("more_body", False):
                watching = asyncio.ensure_future(receive())
                watching.add_done_callback(ended)
            return message

        async def sending(message: Message) -> None:
            if watching and message["type"] == "http.response.body" and not message.get("more_body", False):
                watching.remove_done_callback(ended)  # an answer that is whole ends the watch, too
            await send(message)

        try:
            await self._app(scope, receiving, sending)
        except asyncio.CancelledError:
            if not gone:
                raise
            answering.uncancel()
        finally:
            if watching:
                watching.remove_done_callback(ended)
                watching.cancel()
