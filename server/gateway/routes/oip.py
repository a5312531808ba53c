"""The Open Inference Protocol, passed on to Triton once it was read here, for readers.

Shared memory, tracing and logging are not passed on: over a network they serve nobody but who means harm.
"""

import zlib
from collections.abc import Mapping
from dataclasses import replace
from urllib.parse import quote

import msgspec
from fastapi import APIRouter
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from tritonclient.grpc.service_pb2 import ModelInferResponse

from newsdesk.server.gateway import inference, passage, splitting, structure
from newsdesk.server.gateway.auth import only
from newsdesk.server.gateway.keys import Role
from newsdesk.server.gateway.models import Model, Models, of
from newsdesk.server.gateway.problems import Malformed, TooLarge, Unsupported, status_of
from newsdesk.server.gateway.rollouts import tensors
from newsdesk.server.gateway.routes.direct import DirectRoutes
from newsdesk.server.gateway.schemas import documented
from newsdesk.server.gateway.triton import Reply
from newsdesk.server.gateway.upstream import RpcReply

health = APIRouter(prefix="/v2/health", tags=["open inference protocol"])
router = APIRouter(prefix="/v2", tags=["open inference protocol"], dependencies=only(Role.reader))
direct = DirectRoutes(APIRouter(tags=["open inference protocol"]))
_PASSED_ON = ("content-type", "accept-encoding", "inference-header-content-length")
_PASSED_BACK = ("content-type", "content-encoding", "inference-header-content-length")
_MIB = 2**20
_GZIP_OR_ZLIB = 32 + zlib.MAX_WBITS
_PACKED = {"gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}
_WORTH_PACKING, _LARGE = 1024, 64 * 1024
"""Bytes of an answer from which on it is packed for who accepts that: it fills more than a packet."""
_PROBLEMS = documented(401, 403, 404, 429, 503, 504)


@health.head("/live", include_in_schema=False)
@health.get("/live")
async def live() -> Response:
    """The gateway's process answers."""
    return Response()


@health.head("/ready", include_in_schema=False)
@health.get("/ready", responses=documented(503))
async def ready(request: Request) -> Response:
    """Every model has answered a real request within the last seconds, but those that were unloaded on demand."""
    models: Models = request.app.state.models
    models.check_ready()
    return Response()


@router.get("/models/{model}/ready", responses=_PROBLEMS)
@router.get("/models/{model}/versions/{version}/ready", responses=_PROBLEMS)
async def model_ready(request: Request, model: str, version: str = "") -> Response:
    """Triton's word, and a real answer within the last seconds."""
    models: Models = request.app.state.models
    models.check_ready(of(request, model).name)
    return await _pass(request)


@router.get("", responses=_PROBLEMS)
@router.get("/models/{model}", responses=_PROBLEMS)
@router.get("/models/{model}/config", responses=_PROBLEMS)
@router.get("/models/{model}/stats", responses=_PROBLEMS)
@router.get("/models/{model}/versions/{version}", responses=_PROBLEMS)
@router.get("/models/{model}/versions/{version}/config", responses=_PROBLEMS)
@router.get("/models/{model}/versions/{version}/stats", responses=_PROBLEMS)
@router.get("/models/stats", responses=_PROBLEMS)  # the first of them that is matched
async def about(request: Request) -> Response:
    """Metadata, configuration and statistics, as Triton gives them."""
    return await _pass(request)


@direct.post("/v2/models/{model}/infer", Role.reader, responses=_PROBLEMS | documented(400, 408, 413, 422))
@direct.post(
    "/v2/models/{model}/versions/{version}/infer", Role.reader, responses=_PROBLEMS | documented(400, 408, 413, 422)
)
async def infer(request: Request, model: str) -> Response:
    """Inference, with JSON or binary tensors."""
    asked = of(request, model)
    path, version = path_of(request), str(request.path_params.get("version", ""))
    headers, body, inference_request, binary = await _checked(request, asked, version, await _body(request))
    if inference_request is None:
        return _answered(await passage.infer(asked, body, len(body), asked.triton.once("POST", path, headers, body)))
    reply: Reply | RpcReply | ModelInferResponse
    # Triton gives up over gRPC alone what nobody waits for.
    if (message := tensors.whole(inference_request, binary, asked.name, version)) is not None:
        models: Models = request.app.state.models
        by_grpc = models.upstream.once("ModelInfer", message.SerializeToString())
        reply = await splitting.infer(asked, inference_request, binary, version, len(body), by_grpc)
    else:
        by_http = asked.triton.once("POST", path, headers, body)
        reply = await splitting.infer(asked, inference_request, binary, version, len(body), by_http)
    if isinstance(reply, Reply):
        return _answered(reply)
    if isinstance(reply, RpcReply):
        if not reply.good:
            status, reason = passage.judge(status_of(reply.code), reply.reason)
            return Response(msgspec.json.encode({"error": reason}), status, media_type="application/json")
        reply = ModelInferResponse.FromString(reply.body)
    body, headers = tensors.written(reply, inference_request)
    return await _packed(body, headers, request.headers.get("accept-encoding", ""))


async def _packed(body: bytes, headers: dict[str, str], accepted: str) -> Response:
    """Return an answer, packed where its caller accepts that and it is worth it."""
    name = next((name for name in _PACKED if _accepts(accepted, name)), None)
    if name is None or len(body) < _WORTH_PACKING:
        return Response(body, headers=headers)
    packer = zlib.compressobj(zlib.Z_BEST_SPEED, wbits=_PACKED[name])

    def pack() -> bytes:
        return packer.compress(body) + packer.flush()

    packed = await run_in_threadpool(pack) if len(body) > _LARGE else pack()
    return Response(packed, headers=headers | {"Content-Encoding": name})


def _accepts(accepted: str, name: str) -> bool:
    for coding in accepted.lower().replace(" ", "").split(","):
        own, _, quality = coding.partition(";q=")
        if own == name:
            return not quality or quality.strip("0.") != ""
    return False


async def _body(request: Request) -> bytes:
    """Return the body unpacked, so that a small one cannot become a huge one behind the limits."""
    body, packed = await request.body(), request.headers.get("content-encoding", "identity").lower()
    if packed == "identity":
        return body
    if packed not in ("gzip", "deflate"):
        raise Unsupported(f"Content-Encoding is {packed!r:.40}, expected gzip or deflate.")
    mib = request.app.state.settings.max_body_mib
    try:
        unpacked = await run_in_threadpool(zlib.decompressobj(_GZIP_OR_ZLIB).decompress, body, mib * _MIB + 1)
    except zlib.error as error:
        raise Malformed(f"The body is not {packed}: {error}.") from None
    if len(unpacked) > mib * _MIB:
        raise TooLarge(f"The body unpacks to more than {mib} MiB, the most that is taken here.")
    return unpacked


async def _checked(
    request: Request, model: Model, version: str, body: bytes
) -> tuple[dict[str, str], bytes, inference.Request | None, bytes]:
    """Return headers and body to pass on, and the request that they are with its binary data; None for a text's body.

    Raises:
        Malformed: it holds what Triton had better not see.
        TooLarge: it holds more values than are taken.
    """
    headers = headers_of(request)
    most = structure.VALUES + structure.VALUES_PER_TEXT * request.app.state.settings.max_texts
    asked, binary = inference.read(body, headers.get(inference.HEADER_LENGTH), most)
    if asked is None:
        return headers, body, None, b""
    await passage.check_outputs(model, version, asked)
    body, length = inference.written(asked, binary)
    if inference.HEADER_LENGTH in headers:
        headers[inference.HEADER_LENGTH] = str(length)
    return headers, body, asked, binary


async def _pass(request: Request) -> Response:
    models: Models = request.app.state.models
    named = request.path_params.get("model")
    triton = (of(request, str(named)) if named else models.any).triton
    return _answered(await triton.send(request.method, path_of(request), headers_of(request), b""))


def _answered(reply: Reply) -> Response:
    """Return Triton's answer, with the status that its error should have, and without what is internal."""
    if reply.good:
        return answer(reply)
    reason = reply.error()
    status, shown = passage.judge(reply.status, reason)
    if shown != reason:
        return Response(msgspec.json.encode({"error": shown}), status, media_type="application/json")
    return answer(replace(reply, status=status))


def path_of(request: Request) -> str:
    """Return the path to ask Triton for, of the names in the route.

    Raises:
        NotFound: no model, or version, is called so.
    """
    names = {name: str(value) for name, value in request.path_params.items()}
    for name, value in names.items():
        passage.check_name(name, value)
    path: str = request.scope["route"].path
    return path.format(**{name: quote(value, safe="") for name, value in names.items()})


def headers_of(request: Request) -> dict[str, str]:
    """Return the headers of a request that Triton is told."""
    return {name: request.headers[name] for name in _PASSED_ON if name in request.headers}


def answer(reply: Reply) -> Response:
    """Return Triton's own answer, errors of its protocol's form among it."""
    return Response(reply.body, reply.status, _kept(reply.headers))


def _kept(headers: Mapping[str, str]) -> dict[str, str]:
    return {name: headers[name] for name in _PASSED_BACK if name in headers}
