"""Requests of the Open Inference Protocol while a version is tried: whole, or shared out by their texts."""

import asyncio
from collections.abc import Sequence

from starlette.exceptions import HTTPException
from tritonclient.grpc.service_pb2 import ModelInferResponse

from newsdesk.clients import NewsdeskError, Quality
from newsdesk.server.contract import MEMBER_PROBABILITIES, QUALITIES
from newsdesk.server.gateway import inference, passage
from newsdesk.server.gateway.models import Model
from newsdesk.server.gateway.problems import Unavailable, status_of
from newsdesk.server.gateway.rollouts import tensors
from newsdesk.server.gateway.rollouts.candidate import CandidateFailed
from newsdesk.server.gateway.rollouts.rollout import Rollout
from newsdesk.server.gateway.rollouts.shadow import Compared
from newsdesk.server.gateway.rollouts.tensors import Rows
from newsdesk.server.gateway.triton import AnyReply, Once, Reply, TritonReply
from newsdesk.server.gateway.upstream import RpcReply

_REFUSED, _SERVERS_OWN = "INVALID_ARGUMENT", 500
_QUALITIES: dict[str | None, Quality | None] = {None: None, **{quality: quality for quality in QUALITIES}}


async def infer(
    model: Model,
    request: inference.Request,
    binary: bytes,
    version: str,
    size: int,
    once: Once[AnyReply],
    seconds: float | None = None,
) -> AnyReply | ModelInferResponse:
    """Answer a request that was read and checked: as Triton's own reply, or put together where a candidate answers.

    Args:
        model: that is asked
        request: its JSON, or what gRPC says of it
        binary: its binary data
        version: that the caller named, or ""
        size: bytes of the request
        once: sends it to the current version
        seconds: that the caller waits; None: as long as a request may take

    Raises:
        Poisonous: it has ended the model's process twice.
        TooMany: the queue is full.
        Late: its turn did not come in time.
        Unavailable: the circuit breaker is open, or the version that was named does not answer.
    """
    rollout, content = model.rollout, inference.content(request, binary)
    if rollout is None:
        return await passage.infer(model, content, size, once, seconds)
    held = tensors.rows(request, binary) if rollout.active else None
    if held and rollout.candidate.share:
        answer = await _shared(model, rollout, request, held, version, seconds)
        if answer is not None:
            return answer
    count = len(held.texts) if held else 1
    reply = await rollout.noted(count, passage.infer(model, content, size, once, seconds), _well)
    if held and rollout.shadow and reply.good:
        _offer(rollout, held, _labels(reply))
    if held and rollout.answers and not version and reply.good:
        rollout.trial.current.labelled(zip(held.texts, _labels(reply) or (), strict=False))
    return reply


def _labels(reply: TritonReply) -> Sequence[str] | None:
    if isinstance(reply, RpcReply):
        return tensors.labels(ModelInferResponse.FromString(reply.body))
    return tensors.labels_over_http(reply.body, reply.headers) if isinstance(reply, Reply) else None


async def _shared(
    model: Model, rollout: Rollout, request: inference.Request, held: Rows, version: str, seconds: float | None
) -> ModelInferResponse | None:
    """Return the answer that the candidate has a part in; None where the current version is to answer the whole."""
    count, candidate = len(held.texts), rollout.candidate
    pinned = version == candidate.version
    if version and not pinned:
        return None
    if not (candidate.alike or pinned) and MEMBER_PROBABILITIES in [output.name for output in request.outputs or ()]:
        return None  # they are read by the names of the current version's members
    own = list(range(count)) if pinned else rollout.chosen(held.texts)
    if not own:
        return None
    others = sorted(set(range(count)).difference(own))
    trying = asyncio.create_task(_try(rollout, request, held, own, seconds))
    try:
        rest = await _ask_current(model, rollout, request, held, others, seconds) if others else None
        tried = await trying
    except BaseException:
        trying.cancel()
        await asyncio.gather(trying, return_exceptions=True)
        raise
    if pinned:
        return _pinned(tried, own, model.name, candidate.version)
    if (tried and not tried.good) or (rest and not rest.good):
        return None  # what is refused names the texts by their places in the whole
    parts = [(others, ModelInferResponse.FromString(rest.body))] if rest else []
    if tried:
        parts.append((own, ModelInferResponse.FromString(tried.body)))
    elif rest is None:
        return None
    else:
        again = await _ask_current(model, rollout, request, held, own, seconds)
        if not again.good:
            return None
        parts.append((own, ModelInferResponse.FromString(again.body)))
    for places, answer in parts:
        seen = rollout.trial.candidate if tried and places is own else rollout.trial.current
        seen.labelled(zip((held.texts[place] for place in places), tensors.labels(answer) or (), strict=False))
    try:
        return tensors.merge(parts, model.name, parts[0][1].model_version)
    except NewsdeskError:  # outputs of other shapes: members that the other version lacks
        return None


def _well(reply: TritonReply) -> bool:
    """Return whether the model did what it should: answered, or said what is wrong with the request."""
    if isinstance(reply, RpcReply):
        return reply.good or reply.code == _REFUSED
    return reply.good or (isinstance(reply, Reply) and reply.status < _SERVERS_OWN)


def _pinned(tried: RpcReply | None, own: Sequence[int], model: str, version: str) -> ModelInferResponse:
    """Return the candidate's answer to who asked for it by its number. Raises HTTPException and Unavailable."""
    if tried is None:
        raise Unavailable(f"Version {version}, which is being tried, does not answer. Ask for none, or send it again.")
    if not tried.good:
        status, reason = passage.judge(status_of(tried.code), tried.reason)
        raise HTTPException(status, reason)
    return tensors.merge([(own, ModelInferResponse.FromString(tried.body))], model, version)


async def _try(
    rollout: Rollout, request: inference.Request, held: Rows, own: Sequence[int], seconds: float | None
) -> RpcReply | None:
    message = tensors.message(request, held, own, rollout.candidate.name)
    try:
        return await rollout.client.pass_on(message.SerializeToString(), len(own), seconds)
    except CandidateFailed:
        return None


async def _ask_current(
    model: Model,
    rollout: Rollout,
    request: inference.Request,
    held: Rows,
    places: Sequence[int],
    seconds: float | None,
) -> RpcReply:
    """Return its answer, or that it refuses the request. Raises HTTPException for any other error."""
    message = tensors.message(request, held, places, model.name)
    sent = message.SerializeToString()
    content = b"".join((*(output.name.encode() for output in message.outputs), *message.raw_input_contents))
    once = rollout.client.upstream.once("ModelInfer", sent)
    reply = await rollout.noted(len(places), passage.infer(model, content, len(sent), once, seconds), _well)
    if not reply.good and reply.code != _REFUSED:
        status, reason = passage.judge(status_of(reply.code), reply.reason)
        raise HTTPException(status, reason)
    return reply


def _offer(rollout: Rollout, held: Rows, labels: Sequence[str] | None) -> None:
    """Hand texts to the shadow, where the answer has their labels."""
    assert rollout.shadow is not None
    if labels is None or len(labels) != len(held.texts):
        rollout.shadow.drop(len(held.texts))
        return
    rollout.shadow.offer(
        Compared(text, _QUALITIES[quality], label)
        for text, quality, label in zip(held.texts, held.qualities, labels, strict=True)
        if quality in _QUALITIES
    )
