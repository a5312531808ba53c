"""Texts in one request, answers in one response."""

import msgspec
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from newsdesk.clients import TextRefused
from newsdesk.server.gateway import models
from newsdesk.server.gateway.keys import Role
from newsdesk.server.gateway.routes.bodies import described, read_json
from newsdesk.server.gateway.routes.direct import DirectRoutes
from newsdesk.server.gateway.schemas import ClassifyRequest, ClassifyResponse, documented, shown

direct = DirectRoutes(APIRouter(tags=["classify"]))


@direct.post(
    "/v1/models/{model}/classify",
    Role.reader,
    response_model=ClassifyResponse,
    responses=documented(400, 401, 403, 404, 408, 413, 415, 422, 429, 500, 503, 504),
    openapi_extra=described(ClassifyRequest),
)
@direct.post(
    "/v1/classify",
    Role.reader,
    response_model=ClassifyResponse,
    responses=documented(400, 401, 403, 408, 413, 415, 422, 429, 500, 503, 504),
    openapi_extra=described(ClassifyRequest),
)
async def classify(request: Request, model: str = "") -> Response:
    """Give texts their labels, by a model or by the default one.

    A text that cannot be read has an `error` in its place; the others are answered.
    """
    body = await read_json(ClassifyRequest, request)
    texts = body.texts()
    request.state.texts = len(texts)
    items = await models.of(request, model).plane.classify(texts, body.asked())
    request.state.refused = sum(isinstance(item, TextRefused) for item in items)
    return Response(msgspec.json.encode({"items": [shown(item) for item in items]}), media_type="application/json")
