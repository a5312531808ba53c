"""The gateway's REST protocol: POST /v1/models/<model>/classify, with an answer or an error for each text."""

import json
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from newsdesk.clients.errors import BadResponse, RequestRefused
from newsdesk.clients.feedback import kept
from newsdesk.clients.job import JobRequest, Reply
from newsdesk.clients.options import Options
from newsdesk.clients.transports import Address, ModelFacts, ServerAnswer, only
from newsdesk.clients.web import AsyncWeb, Web
from newsdesk.server.contract import MAX_BATCH, UNCERTAINTY

_JSON = {"Content-Type": "application/json"}


class GatewayTransport:
    """The blocking transport to a gateway."""

    def __init__(self, address: Address) -> None:
        self._web, self._address = Web(address), address

    def models(self, timeout: float) -> tuple[str, ...]:
        """Return the names of the models that are served."""
        return tuple(_served(self._web.call("GET", "/v1/models", None, {}, timeout)[0], self._address))

    def describe(self, name: str, timeout: float) -> ModelFacts:
        """Return what a model is."""
        return _model(name, self._web.call("GET", "/v1/models", None, {}, timeout)[0], self._address)

    def infer(
        self, texts: Sequence[bytes], model: ModelFacts, options: Options, timeout: float
    ) -> list[ServerAnswer | str]:
        """Return an answer for each text, or why it is refused."""
        readable, refused = _decoded(texts)
        if not readable:
            return [refused[index] for index in range(len(texts))]
        answer, _ = self._web.call("POST", _path(model), _request(readable, options, model), _JSON, timeout)
        return _answers(answer, len(readable), refused, model)

    def feedback(self, corrections: bytes, path: str, timeout: float) -> int:
        """Send corrections, and return how many were kept."""
        return kept(self._web.call("POST", path, corrections, _JSON, timeout)[0])

    def send(self, request: JobRequest, timeout: float) -> Reply:
        """Send a request about jobs."""
        return self._web.call(request.method, request.path, request.body, request.headers, timeout)

    def close(self) -> None:
        """Close the connections."""
        self._web.close()


class AsyncGatewayTransport:
    """The transport to a gateway for the event loop that it is made in."""

    def __init__(self, address: Address) -> None:
        self._web, self._address = AsyncWeb(address), address

    async def models(self, timeout: float) -> tuple[str, ...]:
        """Return the names of the models that are served."""
        return tuple(_served((await self._web.call("GET", "/v1/models", None, {}, timeout))[0], self._address))

    async def describe(self, name: str, timeout: float) -> ModelFacts:
        """Return what a model is."""
        return _model(name, (await self._web.call("GET", "/v1/models", None, {}, timeout))[0], self._address)

    async def infer(
        self, texts: Sequence[bytes], model: ModelFacts, options: Options, timeout: float
    ) -> list[ServerAnswer | str]:
        """Return an answer for each text, or why it is refused."""
        readable, refused = _decoded(texts)
        if not readable:
            return [refused[index] for index in range(len(texts))]
        answer, _ = await self._web.call("POST", _path(model), _request(readable, options, model), _JSON, timeout)
        return _answers(answer, len(readable), refused, model)

    async def feedback(self, corrections: bytes, path: str, timeout: float) -> int:
        """Send corrections, and return how many were kept."""
        return kept((await self._web.call("POST", path, corrections, _JSON, timeout))[0])

    async def send(self, request: JobRequest, timeout: float) -> Reply:
        """Send a request about jobs."""
        return await self._web.call(request.method, request.path, request.body, request.headers, timeout)

    async def close(self) -> None:
        """Close the connections."""
        await self._web.close()

    def abandon(self) -> None:
        """Close what can be closed when the loop has ended."""
        self._web.abandon()


def _path(model: ModelFacts) -> str:
    return f"/v1/models/{quote(model.name, safe='')}/classify"


def _served(body: bytes, address: Address) -> dict[str, Any]:
    try:
        return {model["name"]: model for model in json.loads(body)["models"]}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadResponse(f"{address.url} does not say what it serves ({error!r}): is it a gateway?") from error


def _model(name: str, body: bytes, address: Address) -> ModelFacts:
    """Return what is known of a model; without a name, of the default or only one."""
    served = _served(body, address)
    if not name:
        name = next((model for model, about in served.items() if about.get("default")), "") or only(
            list(served), address.url
        )
    if name not in served:
        raise RequestRefused(f"{address.url} has no model {name!r}, it serves {', '.join(served) or 'none'}")
    about = served[name]
    try:
        members = tuple(member["name"] for member in about["members"])
        # The gateway takes more, but then a caller with much to ask would wait for whole requests.
        return ModelFacts(tuple(about["labels"]), members, MAX_BATCH, frozenset(about.get("outputs", ())), name)
    except (KeyError, TypeError, AttributeError) as error:
        raise BadResponse(f"{address.url} does not say what it serves ({error!r}): is it a gateway?") from error


def _decoded(texts: Sequence[bytes]) -> tuple[list[str], dict[int, str]]:
    """Return the texts that JSON can carry, and why the others can't be sent, by their places."""
    readable, refused = [], {}
    for index, text in enumerate(texts):
        try:
            readable.append(text.decode())
        except UnicodeDecodeError as error:
            refused[index] = f"not UTF-8 (byte {error.start} is 0x{text[error.start]:02x}), send UTF-8"
    return readable, refused


def _request(texts: list[str], options: Options, model: ModelFacts) -> bytes:
    body: dict[str, Any] = {"text": texts}
    if options.quality is not None:
        body["quality"] = options.quality
    if options.members:
        body["members"] = True
    if options.uncertainty and UNCERTAINTY in model.outputs:
        body["uncertainty"] = True
    return json.dumps(body, ensure_ascii=False).encode()


def _answers(body: bytes, count: int, refused: dict[int, str], model: ModelFacts) -> list[ServerAnswer | str]:
    try:
        items = json.loads(body)["items"]
        answers = [item["error"] if "error" in item else _answer(item, model) for item in items]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadResponse(
            f"an answer cannot be read ({error!r}): the gateway has changed its model, or is none. Call again."
        ) from error
    if len(answers) != count:
        raise BadResponse(f"{len(answers)} answers came for {count} texts")
    for index in sorted(refused):
        answers.insert(index, refused[index])
    return answers


def _answer(item: dict[str, Any], model: ModelFacts) -> ServerAnswer:
    members = item.get("members")
    if members is not None:
        members = [_row(members[name], model) if name in members else [-1.0] for name in model.members]
    uncertainty = item.get("uncertainty")
    if uncertainty is not None:
        uncertainty = [float(uncertainty[of]) for of in ("total", "data", "model")]
    return ServerAnswer(
        item["label"],
        _row(item["probabilities"], model),
        item["answered_by"],
        item["windows"],
        members,
        item.get("unsure"),
        uncertainty,
        item.get("version", ""),
    )


def _row(probabilities: dict[str, float], model: ModelFacts) -> list[float]:
    """In the model's order. Raises KeyError for the labels of another model."""
    return [float(probabilities[label]) for label in model.labels]
