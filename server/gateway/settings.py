"""The gateway's configuration. `newsdesk serve` fills it from flags, NEWSDESK_… variables, then these defaults.

Nothing here needs the gateway's packages: the supervisor reads it, too.
"""

import ipaddress
import json
import math
import re
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

from newsdesk.server.runtime.errors import ServerError
from newsdesk.server.serving import addresses

_RATE = re.compile(r"0*[1-9]\d*\s*/\s*\d*\s*(second|minute|hour|day)s?")
_SECRET_BYTES = 32
_MOST_HEDGED = 0.1


class GatewaySettingsError(ServerError):
    """A setting of the gateway with a value that cannot be used."""


@dataclass(frozen=True, kw_only=True)
class GatewaySettings:
    """Raises GatewaySettingsError, naming the flag and the variable, for a value that cannot be used."""

    host: str = "127.0.0.1"
    """Address that the gateway listens on; "::" is every IPv6 one."""
    port: int = 8080
    grpc_port: int = 0
    """The Open Inference Protocol over gRPC; 0 = not served."""
    tls_cert: Path | None = None
    """Certificate with its chain, PEM. Both ports then speak TLS alone."""
    tls_key: Path | None = None
    """Its key, PEM, without a password."""
    tls_client_ca: Path | None = None
    """Authorities, PEM, one of which must have signed a certificate of the caller's own."""
    auth: bool = False
    """Ask everybody for a key or token. Always so beyond loopback, unless `insecure`."""
    insecure: bool = False
    """Let everybody classify without a key or token, on any address."""
    keys: Path
    """File of the API keys' hashes; `newsdesk keys` writes it."""
    jwt_secret_file: Path | None = None
    """File with the secret of HS256 tokens, at least 32 bytes; white space around it is not part of it."""
    jwks: str = ""
    """https URL, or file, of the public keys of RS, PS, ES and EdDSA tokens."""
    jwt_issuer: str = ""
    jwt_audience: str = ""
    """What tokens must say in iss and aud. Needed with `jwks`: an identity provider's keys sign tokens for every
    application there is. Empty, without: no matter what."""
    jwt_role_claim: str = "role"
    """The claim that holds the role; a token without it is a reader's."""
    jwt_admin: bool = False
    """Let tokens be an administrator's."""
    rate_limit: str = ""
    """Requests of one key, token or, without those, address: "600/minute"; empty = no limit."""
    rate_storage: str = field(default="", repr=False)
    """redis:// URL, which may hold a password, that several gateways count in together; empty = this one's memory."""
    rate_storage_password_file: Path | None = None
    """File with Redis' password, where the URL should hold none; white space around it is not part of it."""
    cors_origin: tuple[str, ...] = ()
    """Web origins whose pages may call: "https://desk.example"."""
    allowed_host: tuple[str, ...] = ()
    """Names under which the gateway may be called, beside localhost and any address. Without a list no name else is,
    unless it listens beyond loopback and asks for keys or tokens: then any is."""
    max_body_mib: int = 32
    """Largest body of a request, MiB."""
    max_file_mib: int = 2048
    """Largest file to classify, MiB; it is kept on disk meanwhile."""
    max_texts: int = 1024
    """Most texts of one request. A file may hold any number."""
    max_queue: int = 4096
    """Most texts on their way to the model at once; further requests are told to come later."""
    max_connections: int = 512
    """Most connections of one address at once; a further one ends the oldest that has no request under way."""
    request_timeout: float = 30.0
    """Seconds that a request may take."""
    hedge_share: float = 0.01
    """Share of the texts that may be asked for a second time, when their first answer is late; 0 = none."""
    log_texts: bool = False
    """Write texts to the log, masked for personal details. What the OIP passes on is never logged."""

    def __post_init__(self) -> None:
        if not 1 <= self.port <= 65535:
            raise _refused("port", self.port, "a port between 1 and 65535")
        if self.grpc_port and (not 1 <= self.grpc_port <= 65535 or self.grpc_port == self.port):
            raise _refused(
                "grpc_port", self.grpc_port, "a port between 1 and 65535 beside --gateway-port, or 0 for none"
            )
        if bool(self.tls_cert) != bool(self.tls_key) or (self.tls_client_ca and not self.tls_cert):
            given, missing = ("tls_cert", "tls_key") if not self.tls_key else ("tls_key", "tls_cert")
            given = given if getattr(self, given) else "tls_client_ca"
            raise _refused(given, getattr(self, given), f"--{missing.replace('_', '-')} beside it")
        for name in "max_body_mib", "max_file_mib", "max_texts", "max_queue", "max_connections", "request_timeout":
            if not 0 < getattr(self, name) < math.inf:
                raise _refused(name, getattr(self, name), "more than 0")
        if not 0 <= self.hedge_share <= _MOST_HEDGED:
            raise _refused("hedge_share", self.hedge_share, f"a share of 0 (none) to {_MOST_HEDGED}")
        if self.rate_limit and not _RATE.fullmatch(self.rate_limit):
            raise _refused("rate_limit", self.rate_limit, 'requests over time, as "600/minute"')
        if self.rate_storage and not _is_redis(self.rate_storage):
            raise _refused("rate_storage", self.rate_storage, "redis://host:port/number, or nothing for memory")
        if self.jwks and not re.match("https?://", self.jwks) and not Path(self.jwks).is_file():
            raise _refused("jwks", self.jwks, "an https URL, or a file")
        if self.jwks.startswith("http://") and not re.match(r"http://(127\.0\.0\.1|localhost)[:/]", self.jwks):
            raise _refused("jwks", self.jwks, "https, or a file: keys that come over http can be another's")
        if self.jwks and not (self.jwt_issuer and self.jwt_audience):
            raise GatewaySettingsError(
                "--jwks (NEWSDESK_JWKS) is given without both --jwt-issuer (NEWSDESK_JWT_ISSUER) and --jwt-audience "
                "(NEWSDESK_JWT_AUDIENCE); expected what the provider's tokens for newsdesk say in iss and aud: its "
                "keys sign the tokens of other applications, too."
            )
        if not self.jwt_role_claim:
            raise _refused("jwt_role_claim", self.jwt_role_claim, "the name of a claim")
        for origin in self.cors_origin:
            if not re.fullmatch(r"https?://[^/*\s]+", origin):
                raise _refused("cors_origin", origin, "an origin, as https://desk.example")
        for name in self.allowed_host:
            if not re.fullmatch(r"[\w.-]+", name):
                raise _refused("allowed_host", name, "a host's name without a port, as desk.example")

    @property
    def asks(self) -> bool:
        """Whether callers without a key or token are turned away."""
        return not self.insecure and (self.auth or not ipaddress.ip_address(self.host).is_loopback)

    @property
    def checks_hosts(self) -> bool:
        """Whether requests for another host's name are refused."""
        return bool(self.allowed_host) or not self.asks or ipaddress.ip_address(self.host).is_loopback

    @property
    def local_url(self) -> str:
        """The address under which this machine reaches its own gateway."""
        scheme = "https" if self.tls_cert else "http"
        return f"{scheme}://{addresses.bracketed(addresses.local(self.host))}:{self.port}"

    def rate_storage_password(self) -> str:
        """Return Redis' password, "" where there is no file of it. Raises GatewaySettingsError."""
        path = self.rate_storage_password_file
        try:
            return path.read_text(encoding="utf-8").strip() if path else ""
        except (OSError, UnicodeDecodeError) as error:
            raise _refused("rate_storage_password_file", path, f"a file to read ({error})") from error

    def secret(self) -> bytes:
        """Return the HS256 secret, empty where there is none. Raises GatewaySettingsError where it is too short."""
        if self.jwt_secret_file is None:
            return b""
        try:
            secret = self.jwt_secret_file.read_bytes().strip()
        except OSError as error:
            raise _refused("jwt_secret_file", self.jwt_secret_file, f"a file to read ({error.strerror})") from error
        if len(secret) < _SECRET_BYTES:
            given = f"{self.jwt_secret_file} ({len(secret)} bytes)"
            raise _refused("jwt_secret_file", given, f"at least {_SECRET_BYTES} random bytes (openssl rand -hex 32)")
        return secret

    def encoded(self) -> dict[str, Any]:
        """Return what `decoded` takes, of JSON's types."""
        named = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: str(value) if isinstance(value, Path) else value for name, value in named.items()}

    @classmethod
    def decoded(cls, given: dict[str, Any]) -> Self:
        files = "keys", "jwt_secret_file", "rate_storage_password_file", "tls_cert", "tls_key", "tls_client_ca"
        paths = {name: Path(given[name]) for name in files if given[name] is not None}
        return cls(
            **{
                **given,
                **paths,
                "cors_origin": tuple(given["cors_origin"]),
                "allowed_host": tuple(given["allowed_host"]),
            }
        )


@dataclass(frozen=True, kw_only=True)
class Launch:
    """What a gateway process is started with: its settings, and where the server behind it is."""

    settings: GatewaySettings
    grpc_url: str
    http_url: str
    repository: Path
    """The model repository as it is served."""
    source: Path
    """The model repository that it was made from, and is made from anew."""
    state: Path
    """The server's state folder: whoever has it can have the server load its repository."""
    run: Path
    """The server's run directory, where it says why it is not ready."""
    audit_log: Path
    instances: int
    """The server's backend processes."""

    def encode(self) -> bytes:
        given = {field.name: str(getattr(self, field.name)) for field in fields(self)}
        return json.dumps({**given, "settings": self.settings.encoded()}).encode()

    @classmethod
    def decode(cls, raw: bytes) -> Self:
        given = json.loads(raw)
        paths = {name: Path(given[name]) for name in ("repository", "source", "state", "run", "audit_log")}
        return cls(
            **{
                **given,
                **paths,
                "instances": int(given["instances"]),
                "settings": GatewaySettings.decoded(given["settings"]),
            }
        )


def _is_redis(url: str) -> bool:
    try:
        parts = urlsplit(url)
        place = parts.path if parts.scheme == "unix" else parts.hostname and parts.port != 0
    except ValueError:  # the port is no number
        return False
    return parts.scheme in ("redis", "rediss", "unix") and bool(place)


def _refused(name: str, given: object, expected: str) -> GatewaySettingsError:
    name = f"gateway_{name}" if name in ("host", "port", "grpc_port") else name
    flag = "--" + name.replace("_", "-")
    shown = addresses.without_password(str(given))
    return GatewaySettingsError(f"{flag} (NEWSDESK_{name.upper()}) is {shown!r}; expected {expected}.")
