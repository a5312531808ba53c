"""Triton's HTTP protocol with the binary tensor extension, over urllib3 and aiohttp.

tritonclient's HTTP clients are not used: the blocking one is built on gevent, bound to the thread that made it, pins
geventhttpclient against Locust's, and has no deadline for a call; the protocol itself is the few lines below.
https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_binary_data.md
"""

import json
from collections.abc import Mapping, Sequence

from newsdesk.clients.errors import BadResponse
from newsdesk.clients.options import Options
from newsdesk.clients.tensors import (
    ALL_CLASSES,
    OPTIONAL,
    PROBE_TEXT,
    Tensor,
    inputs,
    outputs,
    read_answers,
    read_labels,
    read_members,
    read_versions,
)
from newsdesk.clients.transports import Address, ModelFacts, ServerAnswer, current, only
from newsdesk.clients.web import AsyncWeb, Web
from newsdesk.server.contract import PROBABILITIES, VERSIONS

_JSON_LENGTH = "Inference-Header-Content-Length"


class HttpTransport:
    """The blocking transport."""

    def __init__(self, address: Address) -> None:
        self._web, self._url = Web(address), address.url

    def models(self, timeout: float) -> tuple[str, ...]:
        """Return the names of the models that are served."""
        return _names(self._web.call("GET", "/v2/models/stats", None, {}, timeout)[0])

    def describe(self, name: str, timeout: float) -> ModelFacts:
        """Return what a model is."""
        name = name or only(self.models(timeout), self._url)
        config, _ = self._web.call("GET", _path(name, "config"), None, {}, timeout)
        probe = self._web.call("POST", _path(name, "infer"), *_probe_request(), timeout)
        return _model(name, config, read_labels(_outputs(*probe)))

    def infer(self, texts: Sequence[bytes], model: ModelFacts, options: Options, timeout: float) -> list[ServerAnswer]:
        """Return an answer for each text."""
        answer = self._web.call(
            "POST", _path(model.name, "infer"), *_infer_request(texts, options, model, timeout), timeout
        )
        return read_answers(_outputs(*answer), len(texts), model, options, _versions(*answer))

    def close(self) -> None:
        """Close the connections."""
        self._web.close()


class AsyncHttpTransport:
    """The transport for the event loop that it is made in."""

    def __init__(self, address: Address) -> None:
        self._web, self._url = AsyncWeb(address), address.url

    async def models(self, timeout: float) -> tuple[str, ...]:
        """Return the names of the models that are served."""
        return _names((await self._web.call("GET", "/v2/models/stats", None, {}, timeout))[0])

    async def describe(self, name: str, timeout: float) -> ModelFacts:
        """Return what a model is."""
        name = name or only(await self.models(timeout), self._url)
        config, _ = await self._web.call("GET", _path(name, "config"), None, {}, timeout)
        probe = await self._web.call("POST", _path(name, "infer"), *_probe_request(), timeout)
        return _model(name, config, read_labels(_outputs(*probe)))

    async def infer(
        self, texts: Sequence[bytes], model: ModelFacts, options: Options, timeout: float
    ) -> list[ServerAnswer]:
        """Return an answer for each text."""
        answer = await self._web.call(
            "POST", _path(model.name, "infer"), *_infer_request(texts, options, model, timeout), timeout
        )
        return read_answers(_outputs(*answer), len(texts), model, options, _versions(*answer))

    async def close(self) -> None:
        """Close the connections."""
        await self._web.close()

    def abandon(self) -> None:
        """Close what can be closed when the loop has ended."""
        self._web.abandon()


def _path(model: str, what: str) -> str:
    return f"/v2/models/{model}/{what}"


def _infer_request(
    texts: Sequence[bytes], options: Options, model: ModelFacts, timeout: float
) -> tuple[bytes, dict[str, str]]:
    """Say how long the answer is waited for: over HTTP Triton does not see a client go."""
    wanted: list[dict[str, object]] = [
        {"name": name, "parameters": {"binary_data": True}} for name in outputs(options, model)
    ]
    return _request(texts, options, wanted, {"timeout": round(timeout * 1e6)})


def _probe_request() -> tuple[bytes, dict[str, str]]:
    parameters = {"binary_data": True, "classification": ALL_CLASSES}
    return _request([PROBE_TEXT], Options(), [{"name": PROBABILITIES, "parameters": parameters}], {})


def _request(
    texts: Sequence[bytes], options: Options, wanted: list[dict[str, object]], parameters: dict[str, object]
) -> tuple[bytes, dict[str, str]]:
    packed = inputs(texts, options)
    tensors = [
        {
            "name": name,
            "datatype": "BYTES",
            "shape": [len(texts), 1],
            "parameters": {"binary_data_size": len(data)},
        }
        for name, data in packed.items()
    ]
    head = json.dumps({"inputs": tensors, "outputs": wanted, "parameters": parameters}).encode()
    names = {_JSON_LENGTH: str(len(head)), "Content-Type": "application/octet-stream"}
    return b"".join([head, *packed.values()]), names


def _outputs(body: bytes, headers: Mapping[str, str]) -> dict[str, Tensor]:
    try:
        at = int(headers.get(_JSON_LENGTH, ""))
        outputs = {}
        for output in json.loads(body[:at])["outputs"]:
            end = at + output["parameters"]["binary_data_size"]
            outputs[output["name"]] = Tensor(tuple(output["shape"]), body[at:end])
            at = end
    except (ValueError, KeyError, TypeError) as error:
        raise BadResponse(f"the answer is not Triton's binary one ({error!r}): is the server a Triton?") from error
    return outputs


def _versions(body: bytes, headers: Mapping[str, str]) -> list[str]:
    """Return what `read_versions` does, of an answer that `_outputs` has read."""
    head = json.loads(body[: int(headers.get(_JSON_LENGTH, ""))])
    return read_versions(str(head.get("model_version", "")), (head.get("parameters") or {}).get(VERSIONS))


def _names(statistics: bytes) -> tuple[str, ...]:
    try:
        return current(str(model["name"]) for model in json.loads(statistics)["model_stats"])
    except (ValueError, KeyError, TypeError) as error:
        raise BadResponse(f"the models' statistics cannot be read: {error!r}. Name the model: model=…") from error


def _model(name: str, raw: bytes, labels: tuple[str, ...]) -> ModelFacts:
    try:
        config = json.loads(raw)
        members = config.get("parameters", {}).get("members", {}).get("string_value", "")
        extra = OPTIONAL & {output["name"] for output in config["output"]}
        return ModelFacts(labels, read_members(members), max(int(config["max_batch_size"]), 1), extra, name)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadResponse(f"the model's configuration cannot be read: {error!r}") from error
