"""A server that a URL names, what is asked of it, and what it answers: the interface of every transport."""

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol
from urllib.parse import urlsplit

from newsdesk.clients.errors import RequestRefused, unavailable
from newsdesk.clients.options import Options
from newsdesk.server.contract import CANDIDATE

_PORTS = {"grpc": 8001, "grpcs": 8001, "http": 8000, "https": 443, "gateway+http": 8080, "gateway+https": 443}
_EXPECTED = "grpc://host:port, http://host:port or gateway+http://host:port, each also with s for TLS"


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """The model, as far as a client needs to know it.

    Attributes:
        labels: in the order of its probabilities
        members: in the order of their own probabilities
        max_batch: the most texts in one request
        outputs: of UNCERTAINTY and UNSURE, those that it has
        name: at the server
    """

    labels: tuple[str, ...]
    members: tuple[str, ...]
    max_batch: int
    outputs: frozenset[str] = frozenset()
    name: str = ""


@dataclass(frozen=True, slots=True)
class ServerAnswer:
    """The answer to one text, as the server gives it; `Prediction` says what each is.

    Rows are in the order of the model's labels, members in that of its members, with -1 for those not asked.
    """

    label: str
    probabilities: Sequence[float]
    answered_by: str
    windows: int
    members: Sequence[Sequence[float]] | None
    unsure: bool | None = None
    uncertainty: Sequence[float] | None = None
    version: str = ""


class Transport(Protocol):
    """One server, for any number of threads.

    Raises:
        NewsdeskError: by any call, where there is no answer within its `timeout` seconds.
    """

    def models(self, timeout: float) -> tuple[str, ...]:
        """Return the names of the models that are served."""

    def describe(self, name: str, timeout: float) -> ModelFacts:
        """Return what a model is; by the name "", the only one or the default."""

    def infer(
        self, texts: Sequence[bytes], model: ModelFacts, options: Options, timeout: float
    ) -> Sequence[ServerAnswer | str]:
        """Return an answer for each text, or why it is refused.

        Args:
            texts: UTF-8
            model: as `describe` returns it
            options: of the call
            timeout: seconds
        """

    def close(self) -> None:
        """Close the connections."""


class FeedbackTransport(Protocol):
    """A transport to a gateway, which takes corrections."""

    def feedback(self, corrections: bytes, path: str, timeout: float) -> int:
        """Send corrections, and return how many were kept."""


class AsyncKeeper(Protocol):
    """A transport to a gateway, which takes corrections, for asyncio."""

    async def feedback(self, corrections: bytes, path: str, timeout: float) -> int:
        """Send corrections, and return how many were kept."""


class AsyncTransport(Protocol):
    """One server, for one event loop: the calls of `Transport`."""

    async def models(self, timeout: float) -> tuple[str, ...]:
        """As `Transport.models`."""

    async def describe(self, name: str, timeout: float) -> ModelFacts:
        """As `Transport.describe`."""

    async def infer(
        self, texts: Sequence[bytes], model: ModelFacts, options: Options, timeout: float
    ) -> Sequence[ServerAnswer | str]:
        """As `Transport.infer`."""

    async def close(self) -> None:
        """Close the connections."""

    def abandon(self) -> None:
        """Close what can be closed when the loop has ended."""


def current(names: Iterable[str]) -> tuple[str, ...]:
    """Return the names of models, each once, without those of versions that are tried beside one."""
    return tuple(dict.fromkeys(name for name in names if CANDIDATE not in name))


def only(names: Sequence[str], url: str) -> str:
    """Return the name of the only model.

    Raises:
        ServerUnavailable: none is loaded.
        RequestRefused: several are.
    """
    if not names:
        raise unavailable(url, "no model is loaded")
    if len(names) > 1:
        raise RequestRefused(f"{url} serves several models: {', '.join(names)}. Name one: model=… (--model)")
    return names[0]


@dataclass(frozen=True, slots=True)
class Address:
    """A URL taken apart: `scheme`, `host:port`, and the path before the protocol's own; and what to present there.

    Attributes:
        model: the name of the model that is asked where a call names none; "" for the only one
        key: API key or bearer token, "" for none
        ca_file: certificates to trust instead of the system's, "" for the system's
        cert_file: the caller's own certificate, "" for none
        key_file: its key, "" for none
        shared_memory: whether texts go by system shared memory
    """

    scheme: str
    netloc: str
    path: str
    model: str
    key: str = field(default="", repr=False)
    ca_file: str = ""
    cert_file: str = ""
    key_file: str = ""
    shared_memory: bool = False

    @property
    def url(self) -> str:
        """The URL, without what is presented."""
        return f"{self.scheme}://{self.netloc}{self.path}"


def parse_all(
    url: str | Sequence[str],
    model: str,
    key: str | None = None,
    ca_file: str = "",
    cert_file: str = "",
    key_file: str = "",
) -> tuple[Address, ...]:
    """Take apart one URL or several, in a list or with commas between them, each once.

    After a comma a host alone is of the scheme before it. The other arguments are those of `parse`.

    Raises:
        ValueError: `parse` refuses one, there is none, or they are of several schemes.
    """
    urls: list[str] = []
    for part in [part for line in ([url] if isinstance(url, str) else url) for part in line.split(",")]:
        host_alone = urls and part.strip() and "://" not in part
        urls.append(f"{urls[-1].partition('://')[0]}://{part.strip()}" if host_alone else part.strip())
    addresses = dict.fromkeys(parse(part, model, key, ca_file, cert_file, key_file) for part in urls)
    if len({address.scheme for address in addresses}) > 1:
        raise ValueError(f"urls are {', '.join(map(_shown, urls))}, expected one scheme: they are asked as one server")
    if not addresses:
        raise ValueError(f"url is an empty list, expected {_EXPECTED}")
    return tuple(addresses)


def parse(
    url: str, model: str, key: str | None = None, ca_file: str = "", cert_file: str = "", key_file: str = ""
) -> Address:
    """Take a URL apart.

    Args:
        url: of one of the schemes of _PORTS
        model: that is asked where a call names none
        key: that is presented; None: NEWSDESK_API_KEY
        ca_file: certificates to trust
        cert_file: the caller's own certificate
        key_file: its key

    Raises:
        ValueError: the URL is another, has no use for certificates, or a certificate comes without its key.
    """
    expected = f"url is {_shown(url)!r}, expected {_EXPECTED}"
    try:
        parts = urlsplit(url)
    except ValueError:
        raise ValueError(expected) from None
    if parts.scheme not in _PORTS or not parts.hostname or parts.query or parts.fragment or "@" in parts.netloc:
        raise ValueError(expected)
    try:
        netloc = parts.netloc if parts.port else f"{parts.netloc.rstrip(':')}:{_PORTS[parts.scheme]}"
    except ValueError:
        raise ValueError(f"{expected}: the port is no number up to 65535") from None
    path = parts.path.rstrip("/")
    if path and parts.scheme.startswith("grpc"):
        raise ValueError(f"{expected}: gRPC knows no path")
    for name, file in ("ca", ca_file), ("cert", cert_file), ("key", key_file):
        if file and not parts.scheme.endswith("s"):
            option = f"{name}_file (--tls-{name}) is given with {url!r}"
            raise ValueError(f"{option}, which is not encrypted, expected {parts.scheme}s://")
    if bool(cert_file) != bool(key_file):
        raise ValueError(
            "cert_file (--tls-cert) and key_file (--tls-key) are the caller's own certificate and its key: "
            "expected both, or none"
        )
    if key is None:
        key = os.environ.get("NEWSDESK_API_KEY")
    _check_key(key or "")
    return Address(parts.scheme, netloc, path, model, key or "", ca_file, cert_file, key_file)


def _shown(url: str) -> str:
    """Return a URL without what may be secret in it."""
    return re.sub(r"[?#].*", "?…", re.sub(r"//.*@", "//…@", url, flags=re.DOTALL), flags=re.DOTALL)


def _check_key(key: str) -> None:
    """Raise ValueError, which does not show the key, where no header can carry it."""
    if wrong := re.search(r"[^\x21-\x7e]", key):
        raise ValueError(
            f"the API key (api_key or NEWSDESK_API_KEY) holds the character U+{ord(wrong[0]):04X} at place "
            f"{wrong.start() + 1} of {len(key)}, expected ASCII without spaces and line ends: was it read with its "
            "file's line end? The key itself is not shown"
        )
