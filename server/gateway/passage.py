"""The steps of every request of the Open Inference Protocol on its way to Triton, over HTTP and gRPC alike."""

import re

from newsdesk.server.gateway import inference
from newsdesk.server.gateway.models import Model
from newsdesk.server.gateway.problems import Late, NotFound, TooMany
from newsdesk.server.gateway.triton import EXPIRED, AnyReply, Once

_QUEUE_FULL = "maximum queue size"
_BAD_REQUEST, _ERROR, _UNAVAILABLE = 400, 500, 503
# Triton takes the blame, with a 500, for bodies that are not of the protocol.
_WRONG_BODY = re.compile(r"(failed|Unable) to parse ")
# Paths, the regions of shared memory that Triton and its Python backend call by name, and their keys.
_INTERNAL = re.compile(r"(?<!\w)(?:/[\w.@+-]+){2,}/?|/?\b(?:newsdesk|triton)[\w.-]*[-_][\w.-]+|\bpsm_\w+")
_NAME = re.compile(r"[\w.-]+")


def check_name(what: str, name: str) -> None:
    """Check what a model, or a version, could be called.

    Raises:
        NotFound: none is called so.
    """
    if not _NAME.fullmatch(name) or not name.strip("."):
        raise NotFound(f"There is no {what} {name!r:.80}.")


async def check_outputs(model: Model, version: str, request: inference.Request) -> None:
    """Check that outputs wanted as classes have labels.

    Raises:
        Malformed: an output of the model has none.
    """
    if classified := request.classified():
        tried = model.rollout.candidate.version if model.rollout else ""
        path = f"/v2/models/{model.name}" + (f"/versions/{version}" if version not in ("", tried) else "")
        inference.check_classified(classified, await model.triton.ask("GET", f"{path}/config"))


async def infer(
    model: Model, content: bytes, size: int, once: Once[AnyReply], seconds: float | None = None
) -> AnyReply:
    """Pass a request on that was read and checked, in its turn.

    Args:
        model: that is asked
        content: what it reads of the request
        size: bytes of the request
        once: sends it
        seconds: that the caller waits; None: as long as a request may take

    Raises:
        Poisonous: it has ended the model's process twice.
        TooMany: the queue is full.
        Late: its turn did not come in time.
        Unavailable: the circuit breaker is open.
    """
    model.triton.suspects.check(content)
    async with model.plane.passing(size):
        reply = await model.triton.infer(content, once, seconds)
    if reply.good:
        model.plane.answered()
    return reply


def judge(status: int, reason: str) -> tuple[int, str]:
    """Return the status that an error of Triton's should have, and its words without what is internal.

    Raises:
        TooMany: Triton's queue is full.
        Late: the request's own `timeout` passed.
    """
    if status >= _ERROR and _QUEUE_FULL in reason.lower():
        raise TooMany("The model's queue is full: send it again in a moment.")
    if status == _UNAVAILABLE and EXPIRED in reason:
        raise Late("The request's own `timeout`, in microseconds, passed before its turn came: allow more.")
    if status >= _ERROR and _WRONG_BODY.match(reason):
        status = _BAD_REQUEST
    return status, _INTERNAL.sub("…", reason)
