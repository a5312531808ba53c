"""Triton's HTTP protocol with the binary tensor extension, over urllib3 and aiohttp.

tritonclient's HTTP clients are not used: the blocking one is built on gevent, bound to the thread that made it, pins
geventhttpclient against Locust's, and has no deadline for a call; the protocol itself is the few lines below.
https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_binary_data.md
"""

import json
from collections.abc import Mapping, Sequence

import aiohttp
import urllib3

from newsdesk.clients.errors import BadResponse, error_of, late, unavailable
from newsdesk.clients.options import Options
from newsdesk.clients.tensors import (
    ALL_CLASSES,
    PROBABILITIES,
    PROBE_TEXT,
    Tensor,
    inputs,
    outputs,
    read_answers,
    read_labels,
    read_members,
)
from newsdesk.clients.transports import Address, Answer, Model

_JSON_LENGTH = "Inference-Header-Content-Length"
# Connections are made when needed, and this many kept.
_KEPT_CONNECTIONS = 128


class HttpTransport:
    """Blocking. urllib3's pool gives each thread's request a connection of its own and keeps it alive."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._pool = urllib3.connectionpool.connection_from_url(
            f"http://{address.netloc}", maxsize=_KEPT_CONNECTIONS, retries=False
        )

    def describe(self, timeout: float) -> Model:
        config, _ = self._call("GET", "config", None, {}, timeout)
        probe = self._call("POST", "infer", *_probe_request(), timeout)
        return _model(config, read_labels(_outputs(*probe)))

    def infer(self, texts: Sequence[bytes], model: Model, options: Options, timeout: float) -> list[Answer]:
        answer = self._call("POST", "infer", *_infer_request(texts, options), timeout)
        return read_answers(_outputs(*answer), len(texts), model, options)

    def close(self) -> None:
        self._pool.close()

    def _call(
        self, method: str, what: str, body: bytes | None, headers: Mapping[str, str], timeout: float
    ) -> tuple[bytes, str | None]:
        try:
            response = self._pool.urlopen(
                method, _path(self._address, what), body, headers, timeout=urllib3.Timeout(total=timeout)
            )
        except urllib3.exceptions.NewConnectionError as error:  # a ConnectTimeoutError to urllib3, so it comes first
            raise unavailable(self._address.url, error) from error
        except urllib3.exceptions.TimeoutError as error:
            raise late(self._address.url) from error
        except urllib3.exceptions.HTTPError as error:
            raise unavailable(self._address.url, error) from error
        if response.status != 200:
            raise error_of(response.status, _message(response.data), self._address.url)
        return response.data, response.headers.get(_JSON_LENGTH)


class AsyncHttpTransport:
    """For the event loop that it is made in: an aiohttp session belongs to one."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._connector = aiohttp.TCPConnector(limit=_KEPT_CONNECTIONS)
        self._session = aiohttp.ClientSession(f"http://{address.netloc}", connector=self._connector)

    async def describe(self, timeout: float) -> Model:
        config, _ = await self._call("GET", "config", None, {}, timeout)
        probe = await self._call("POST", "infer", *_probe_request(), timeout)
        return _model(config, read_labels(_outputs(*probe)))

    async def infer(self, texts: Sequence[bytes], model: Model, options: Options, timeout: float) -> list[Answer]:
        answer = await self._call("POST", "infer", *_infer_request(texts, options), timeout)
        return read_answers(_outputs(*answer), len(texts), model, options)

    async def close(self) -> None:
        await self._session.close()

    def abandon(self) -> None:
        """Close without the loop, which has ended: aiohttp logs an error for a session that is left open."""
        self._session.detach()
        list(self._connector.close().__await__())

    async def _call(
        self, method: str, what: str, body: bytes | None, headers: Mapping[str, str], timeout: float
    ) -> tuple[bytes, str | None]:
        try:
            async with self._session.request(
                method,
                _path(self._address, what),
                data=body,
                headers=headers,
                timeout=aiohttp.ClientTimeout(total=timeout),
            ) as response:
                data = await response.read()
        except TimeoutError as error:
            raise late(self._address.url) from error
        except aiohttp.ClientError as error:
            raise unavailable(self._address.url, error) from error
        if response.status != 200:
            raise error_of(response.status, _message(data), self._address.url)
        return data, response.headers.get(_JSON_LENGTH)


def _path(address: Address, what: str) -> str:
    return f"{address.path}/v2/models/{address.model}/{what}"


def _infer_request(texts: Sequence[bytes], options: Options) -> tuple[bytes, dict[str, str]]:
    wanted: list[dict[str, object]] = [{"name": name, "parameters": {"binary_data": True}} for name in outputs(options)]
    return _request(texts, options, wanted)


def _probe_request() -> tuple[bytes, dict[str, str]]:
    parameters = {"binary_data": True, "classification": ALL_CLASSES}
    return _request([PROBE_TEXT], Options(), [{"name": PROBABILITIES, "parameters": parameters}])


def _request(texts: Sequence[bytes], options: Options, wanted: list[dict[str, object]]) -> tuple[bytes, dict[str, str]]:
    given = inputs(texts, options)
    tensors = [
        {
            "name": name,
            "datatype": "BYTES",
            "shape": [len(texts), 1],
            "parameters": {"binary_data_size": len(data)},
        }
        for name, data in given.items()
    ]
    head = json.dumps({"inputs": tensors, "outputs": wanted}).encode()
    return b"".join([head, *given.values()]), {_JSON_LENGTH: str(len(head)), "Content-Type": "application/octet-stream"}


def _outputs(body: bytes, json_length: str | None) -> dict[str, Tensor]:
    try:
        at = int(json_length or "")
        found = {}
        for output in json.loads(body[:at])["outputs"]:
            end = at + output["parameters"]["binary_data_size"]
            found[output["name"]] = Tensor(tuple(output["shape"]), body[at:end])
            at = end
    except (ValueError, KeyError, TypeError) as error:
        raise BadResponse(f"the answer is not Triton's binary one ({error!r}): is the server a Triton?") from error
    return found


def _model(raw: bytes, labels: tuple[str, ...]) -> Model:
    try:
        config = json.loads(raw)
        members = config.get("parameters", {}).get("members", {}).get("string_value", "")
        return Model(labels, read_members(members), max(int(config["max_batch_size"]), 1))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadResponse(f"the model's configuration cannot be read: {error!r}") from error


def _message(body: bytes) -> str:
    """The server's own words: Triton's are JSON, a proxy's can be anything."""
    try:
        return str(json.loads(body)["error"])
    except (ValueError, KeyError, TypeError):
        return body[:500].decode(errors="replace") or "no details"
