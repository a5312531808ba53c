"""The gateway's configuration. `newsdesk serve` fills it from flags, variables, serve.toml, then these defaults.

Nothing here needs the gateway's packages: the supervisor reads it, too.
"""

import ipaddress
import math
import re
from dataclasses import MISSING, dataclass
from pathlib import Path
from typing import ClassVar, Self
from urllib.parse import urlsplit

from newsdesk.server import options, rollouts
from newsdesk.server.machine import addresses
from newsdesk.server.options import PORT, Expected, option
from newsdesk.server.rollouts import Candidate, Rule
from newsdesk.server.runtime.errors import ServerError

_SECRET_BYTES = 32
_MOST_HEDGED = 0.1


def _is_redis(url: str) -> bool:
    try:
        parts = urlsplit(url)
        place = parts.path if parts.scheme == "unix" else parts.hostname and parts.port != 0
    except ValueError:  # the port is no number
        return False
    return parts.scheme in ("redis", "rediss", "unix") and bool(place)


_POSITIVE = Expected("more than 0", lambda number: 0 < number < math.inf)
_RATE = Expected(
    'requests over time, as "600/minute"',
    lambda rate: not rate or re.fullmatch(r"0*[1-9]\d*\s*/\s*\d*\s*(second|minute|hour|day)s?", rate),
)
_REDIS = Expected("redis://host:port/number, or nothing for memory", lambda url: not url or _is_redis(url))
_PORT_OR_NONE = Expected("a port between 1 and 65535, or 0 for none", lambda port: 0 <= port <= 65535)
_CLAIM = Expected("the name of a claim", bool)
_ORIGIN = Expected("an origin, as https://desk.example", lambda origin: re.fullmatch(r"https?://[^/*\s]+", origin))
_HOST_NAME = Expected("a host's name without a port, as desk.example", lambda name: re.fullmatch(r"[\w.-]+", name))
_CANARY = Expected(rollouts.CANARY_WORDS, rollouts.parse_canary)
_SHADOW = Expected(rollouts.SHADOW_WORDS, rollouts.parse_shadow)
_RULE = Expected(rollouts.RULE_WORDS, Rule.parse)
_HEDGE_SHARE = Expected(f"a share of 0 (none) to {_MOST_HEDGED}", lambda share: 0 <= share <= _MOST_HEDGED)


class GatewaySettingsError(ServerError):
    """A setting of the gateway with a value that cannot be used."""


@dataclass(frozen=True, kw_only=True)
class GatewaySettings:
    """The gateway's options.

    Raises:
        GatewaySettingsError: a value cannot be used; the message names the flag and the variable.
    """

    PANEL: ClassVar = "Gateway"
    """The heading above these options in help."""

    host: str = option("127.0.0.1", "Its address, if another.", name="gateway_host", unset="--host")
    """Address that the gateway listens on; "::" is every IPv6 one."""
    port: int = option(8080, "REST, files, WebSocket, Open Inference.", name="gateway_port", expected=PORT)
    grpc_port: int = option(8081, "The same over gRPC; 0: none.", name="gateway_grpc_port", expected=_PORT_OR_NONE)
    tls_cert: Path | None = option(None, "Certificate with its chain, PEM: TLS on both ports.")
    tls_key: Path | None = option(None, "Its key, PEM, without a password.")
    tls_client_ca: Path | None = option(None, "Authorities, PEM, that must have signed callers' certificates.")
    auth: bool = option(False, "Ask for keys or tokens on loopback, too.")
    """Ask everybody for a key or token. Always so beyond loopback, unless `insecure`."""
    insecure: bool = option(False, "Let everybody classify, beyond loopback, too.")
    """Let everybody classify without a key or token, on any address."""
    keys: Path = option(MISSING, "File of `newsdesk keys`.", unset="<state>/keys.json")
    """File of the API keys' hashes; `newsdesk keys` writes it."""
    jwt_secret_file: Path | None = option(None, "Secret of HS256 tokens.")
    """File with at least 32 bytes; white space around them is not part of the secret."""
    jwks: str = option("", "https URL, or file, of the public keys of tokens.")
    """The keys of RS, PS, ES and EdDSA tokens."""
    jwt_issuer: str = option("", "What tokens must say in iss; needed with --jwks.")
    jwt_audience: str = option("", "What tokens must say in aud; needed with --jwks.")
    """An identity provider's keys sign tokens for every application there is. Empty, without `jwks`: no matter what."""
    jwt_role_claim: str = option("role", "Claim of tokens that holds the role.", expected=_CLAIM)
    """A token without it is a reader's."""
    jwt_admin: bool = option(False, "Let tokens be an administrator's.")
    rate_limit: str = option("", 'Requests of one caller, as "600/minute".', unset="none", expected=_RATE)
    """A caller is a key, a token or, without those, an address."""
    rate_storage: str = option(
        "", "redis:// URL to count in.", unset="memory", expected=_REDIS, shown=addresses.without_password, repr=False
    )
    """The URL may hold a password. Several gateways count in it together; empty = this one's memory."""
    rate_storage_password_file: Path | None = option(None, "File of Redis' password.")
    """For a URL without one; white space around it is not part of the password."""
    cors_origin: tuple[str, ...] = option((), "Web origin whose pages may call; may be repeated.", expected=_ORIGIN)
    allowed_host: tuple[str, ...] = option(
        (), "Name to be called by; may be repeated.", unset="localhost", expected=_HOST_NAME
    )
    """Names beside localhost and any address. Without a list no name else is one, unless the gateway listens beyond
    loopback and asks for keys or tokens: then any is."""
    max_body_mib: int = option(32, "Largest body of a request.", expected=_POSITIVE)
    max_file_mib: int = option(2048, "Largest file to classify.", expected=_POSITIVE)
    """It is kept on disk meanwhile."""
    max_jobs: int = option(8, "Most jobs of one caller.", expected=_POSITIVE)
    """Files that are answered behind everybody else, and kept until they are fetched."""
    max_jobs_mib: int = option(8192, "Most that the files of all jobs may take.", expected=_POSITIVE)
    job_hours: float = option(24.0, "Hours that a job is kept behind its end.", expected=_POSITIVE)
    max_texts: int = option(1024, "Most texts of one request.", expected=_POSITIVE)
    """A file may hold any number."""
    max_queue: int = option(4096, "Most texts on their way to the model.", expected=_POSITIVE)
    """Further requests are told to come later."""
    max_connections: int = option(512, "Most connections of one address.", expected=_POSITIVE)
    """A further one ends the oldest that has no request under way."""
    request_timeout: float = option(30.0, "Seconds that a request may take.", expected=_POSITIVE)
    hedge_share: float = option(0.01, "Share of texts to ask for again when late.", expected=_HEDGE_SHARE)
    """Share of the texts that may be asked for a second time; 0 = none."""
    canary: tuple[str, ...] = option((), 'Version to try on texts: "2:5%"; repeatable.', unset="none", expected=_CANARY)
    """It answers the texts that a hash chooses, until it is promoted or withdrawn. One of each model."""
    shadow: tuple[str, ...] = option((), "Version to compare, unanswered; repeatable.", unset="none", expected=_SHADOW)
    rollout_rule: str = option("", 'Their rule, as "errors=1%,promote=5000".', unset="see docs", expected=_RULE)
    """The rule by which either is promoted or withdrawn without a command, as `rollouts.Rule` reads it."""
    feedback: Path | None = option(None, "Folder to keep callers' corrections in; none are taken without.")
    """`newsdesk build --data` reads its files."""
    log_texts: bool = option(False, "Log texts, masked for personal details.")
    """Texts that the OIP passes on are never logged."""

    def __post_init__(self) -> None:
        if self.jwks and "://" not in self.jwks:
            object.__setattr__(self, "jwks", str(Path(self.jwks).expanduser().absolute()))
        options.normalise(self, GatewaySettingsError)
        if self.grpc_port == self.port:
            raise _refused("grpc_port", self.grpc_port, f"another port than --gateway-port, or {_PORT_OR_NONE.words}")
        if bool(self.tls_cert) != bool(self.tls_key) or (self.tls_client_ca and not self.tls_cert):
            alone = next(name for name in ("tls_cert", "tls_key", "tls_client_ca") if getattr(self, name))
            missing = "tls_key" if alone == "tls_cert" else "tls_cert"
            raise _refused(alone, getattr(self, alone), f"{options.named(missing)} beside it")
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

    @property
    def asks(self) -> bool:
        """Whether callers without a key or token are turned away."""
        return not self.insecure and (self.auth or not ipaddress.ip_address(self.host).is_loopback)

    @property
    def checks_hosts(self) -> bool:
        """Whether requests for another host's name are refused."""
        return bool(self.allowed_host) or not self.asks or ipaddress.ip_address(self.host).is_loopback

    @property
    def candidates(self) -> list[Candidate]:
        """The versions that run beside the current ones."""
        parsed = *map(rollouts.parse_canary, self.canary), *map(rollouts.parse_shadow, self.shadow)
        return [candidate for candidate in parsed if candidate]

    @property
    def rule(self) -> Rule:
        """The rule by which a candidate is promoted or withdrawn without a command."""
        return Rule.parse(self.rollout_rule) or Rule()

    @property
    def encrypted(self) -> bool:
        """Whether both ports speak TLS alone."""
        return self.tls_cert is not None

    @property
    def local_url(self) -> str:
        """The address under which this machine reaches its own gateway."""
        return f"http{'s' * self.encrypted}://{addresses.bracketed(addresses.local(self.host))}:{self.port}"

    @property
    def local_grpc_url(self) -> str | None:
        """The same of its gRPC, None where there is none."""
        place = f"{addresses.bracketed(addresses.local(self.host))}:{self.grpc_port}"
        return f"grpc{'s' * self.encrypted}://{place}" if self.grpc_port else None

    def rate_storage_password(self) -> str:
        """Return Redis' password, "" where there is no file of it.

        Raises:
            GatewaySettingsError: the file cannot be read.
        """
        path = self.rate_storage_password_file
        try:
            return path.read_text(encoding="utf-8").strip() if path else ""
        except (OSError, UnicodeDecodeError) as error:
            raise _refused("rate_storage_password_file", path, f"a file to read ({error})") from error

    def secret(self) -> bytes:
        """Return the HS256 secret, empty where there is none.

        Raises:
            GatewaySettingsError: its file cannot be read, or holds fewer than 32 bytes.
        """
        if self.jwt_secret_file is None:
            return b""
        try:
            secret = self.jwt_secret_file.read_bytes().strip()
        except OSError as error:
            raise _refused("jwt_secret_file", self.jwt_secret_file, f"a file to read ({error.strerror})") from error
        if len(secret) < _SECRET_BYTES:
            short = f"{self.jwt_secret_file} ({len(secret)} bytes)"
            raise _refused("jwt_secret_file", short, f"at least {_SECRET_BYTES} random bytes (openssl rand -hex 32)")
        return secret


@dataclass(frozen=True, kw_only=True)
class Launch:
    """The start of a gateway process: its settings, and where the server behind it is."""

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
    models: dict[str, int]
    """The models that are served, and the backend processes of each."""
    default: str = ""
    """The model that answers where a caller names none; "" where each has to name one."""
    candidates: tuple[Candidate, ...] = ()
    """The versions that run beside the current ones, each with its model's name."""

    def encode(self) -> bytes:
        """Return it as JSON."""
        return options.encode(self)

    @classmethod
    def decode(cls, raw: bytes) -> Self:
        """Return the Launch that `encode` wrote."""
        return options.decode(raw, cls)


def _refused(name: str, value: object, expected: str) -> GatewaySettingsError:
    return GatewaySettingsError(options.refusal(GatewaySettings, name, value, expected))
