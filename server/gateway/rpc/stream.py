"""ModelStreamInfer: requests in and answers out over one call, in order, for as long as both sides like."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

import grpc.aio
from tritonclient.grpc.service_pb2 import ModelInferRequest, ModelInferResponse, ModelStreamInferResponse

from newsdesk.server.gateway.auth import CHECK_SECONDS, Authenticator
from newsdesk.server.gateway.logs import log, request_id
from newsdesk.server.gateway.problems import Problem, Unavailable, explained
from newsdesk.server.gateway.rpc import messages
from newsdesk.server.gateway.rpc.calls import RpcCall

_WAITING = 64
"""Requests of one stream that wait for their answer; a further one is not read before."""
_LOOK_SECONDS = 0.1
_FINAL = "triton_final_response"

Answer = Callable[[ModelInferRequest, float | None], Awaitable[bytes]]
Answers = asyncio.Queue["asyncio.Task[bytes] | None"]


async def answer_stream(call: RpcCall, answer: Answer, stopping: Callable[[], bool]) -> None:
    """Answer each request in its turn; an error of one is its answer's `error_message`, and the others go on.

    Each counts as a request of the caller's.

    Args:
        call: the stream
        answer: answers one request, within the seconds that the caller's deadline leaves
        stopping: says whether the gateway stops

    Raises:
        Problem: the caller may no longer be here.
        Unavailable: the gateway stops.
    """
    waiting: Answers = asyncio.Queue(_WAITING)
    tasks = [asyncio.create_task(part) for part in (_read(call, answer, waiting), _watch(call, stopping))]
    writing = asyncio.create_task(_write(call, waiting))
    try:
        done, _ = await asyncio.wait([*tasks, writing], return_when=asyncio.FIRST_COMPLETED)
        if tasks[0] in done and not tasks[0].exception():
            done, _ = await asyncio.wait([tasks[1], writing], return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            await task
    finally:
        for task in (*tasks, writing):
            task.cancel()
        while not waiting.empty():  # what the caller does not wait for is not asked
            if left := waiting.get_nowait():
                left.cancel()
        await asyncio.gather(*tasks, writing, return_exceptions=True)


async def _read(call: RpcCall, answer: Answer, waiting: Answers) -> None:
    """Start an answer for each request, no more than the queue takes, until the caller has no more."""
    count = 0
    while (raw := await call.context.read()) is not grpc.aio.EOF:
        count += 1
        call.connection.state.texts = count
        answering = asyncio.create_task(_answer(call, bytes(raw), answer))
        try:
            await waiting.put(answering)
        except asyncio.CancelledError:
            answering.cancel()
            raise
    await waiting.put(None)


async def _write(call: RpcCall, waiting: Answers) -> None:
    while answering := await waiting.get():
        try:
            encoded = await answering
        except asyncio.CancelledError:
            answering.cancel()
            raise
        await call.context.write(encoded)


async def _watch(call: RpcCall, stopping: Callable[[], bool]) -> None:
    """Look again and again whether the caller may still be here. Raises Problem where not."""
    gate: Authenticator = call.state.gate
    assert call.method.least is not None
    while True:
        for _ in range(round(CHECK_SECONDS / _LOOK_SECONDS)):
            await asyncio.sleep(_LOOK_SECONDS)
            if stopping():
                raise Unavailable("The gateway stops: begin the stream anew.")
        await gate.check(call.connection, call.method.least)


async def _answer(call: RpcCall, raw: bytes, answer: Answer) -> bytes:
    gate: Authenticator = call.state.gate
    message = ModelInferRequest()
    try:
        await gate.count(call.caller)
        message = messages.parse(ModelInferRequest, raw)
        if messages.EMPTY_FINAL in message.parameters:
            del message.parameters[messages.EMPTY_FINAL]
        response = ModelInferResponse.FromString(await answer(message, call.context.time_remaining()))
        # One request has one answer here, so each is the final one, which Triton says of it, too.
        response.parameters[_FINAL].bool_param = True
        return ModelStreamInferResponse(infer_response=response).SerializeToString()
    except Exception as error:
        problem, cause = explained(error)
        if problem.status_code >= Problem.status:
            log("a request of a stream failed", logging.ERROR, error, request_id=request_id.get(), cause=cause)
        about = ModelInferResponse(id=message.id, model_name=message.model_name)
        return ModelStreamInferResponse(error_message=problem.detail, infer_response=about).SerializeToString()
