"""The serving half's configuration: `newsdesk serve` fills it from flags, NEWSDESK_… variables, then these defaults."""

import os
import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from newsdesk.server.gateway.settings import GatewaySettings
from newsdesk.server.runtime import targets
from newsdesk.server.runtime.cores import granted_cores
from newsdesk.server.runtime.errors import EngineError, ServerError
from newsdesk.server.runtime.unsure import MOST
from newsdesk.server.serving import addresses

LOG_LEVELS = ("error", "warning", "info", "verbose")
_CACHE_LEAST = 10**6
_LONGEST_DELAY = 1_000_000
FEWEST_INSTANCES = 2
"""Backend processes. Triton's batcher looks for a free instance when a request comes, or after half a second. Where the
only instance is not yet free when the last one comes, as in a closed loop, everybody waits for that: the curve that
`newsdesk tune` prints shows it."""
# Triton starts its stubs through a shell command line that quotes nothing.
_PLAIN_PATH = re.compile(r"[\w./@%+=:,-]+")


class SettingsError(ServerError):
    """A setting with a value that cannot be used."""


def default_repository() -> Path:
    """Return the checkout's model repository (editable install), else the one in the working directory.

    Raises SettingsError where there is neither.
    """
    here = Path(__file__).resolve().parents[2] / "model_repository", Path("model_repository").resolve()
    for folder in here:
        if any(folder.glob("*/config.pbtxt")):
            return folder
    raise SettingsError(
        f"no model repository: looked for <model>/config.pbtxt in {' and '.join(map(str, dict.fromkeys(here)))}. "
        "Run in a checkout of newsdesk, or name one with --model-repository (NEWSDESK_MODEL_REPOSITORY)."
    )


def default_state() -> Path:
    """Return the folder for what newsdesk may delete and make again: run directories, measurements, logs."""
    base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(base) / "newsdesk"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Raises SettingsError, naming the flag and the variable, for a value that cannot be used."""

    host: str = "127.0.0.1"
    """Address, or a name that has one, that all three ports listen on; "::" is every IPv6 one."""
    metrics_host: str = ""
    """Address that the metrics port listens on, if another: they ask nobody, but are all that a monitor needs."""
    http_port: int = 8000
    grpc_port: int = 8001
    metrics_port: int = 8002
    model_repository: Path = field(default_factory=default_repository)
    instances: int = 0
    """Backend processes; 0 = as many as `tune` found best, else one for each core granted, and at least
    FEWEST_INSTANCES."""
    threads: int = 0
    """Threads of each process's engine; 0 = as many as `tune` found best, else 1."""
    queue_delay: int | None = None
    """Microseconds that a request may wait for others to share its batch; None = what `tune` found best, else 0."""
    target: str = ""
    """Compile target, "openvino:int8", or each member's own, "minilm=openvino:int8,student=onnxruntime:fp32"; empty =
    the fastest measured on this machine."""
    unsure_share: float | None = None
    """Share of in-domain texts that are marked as not sure; None = what the model says."""
    state: Path = field(default_factory=default_state)
    cache: str = ""
    """Size of Triton's response cache, "256MB"; empty = none."""
    log_level: str = "info"
    """Triton's own: error, warning, info or verbose."""
    gateway: GatewaySettings | None = None
    """The REST gateway beside Triton; None = without."""

    def __post_init__(self) -> None:
        ports = {"http_port": self.http_port, "grpc_port": self.grpc_port, "metrics_port": self.metrics_port}
        for name, port in ports.items():
            if not 1 <= port <= 65535:
                raise _refused(name, port, "a port between 1 and 65535")
            if same := [other for other in ports if other != name and ports[other] == port]:
                raise _refused(name, port, f"three different ports, and that is {_named(same[0])}, too")
        if self.instances < 0:
            raise _refused(
                "instances", self.instances, f"0 (one per core granted, at least {FEWEST_INSTANCES}) or more"
            )
        try:
            targets.parse(self.target)
        except EngineError as error:
            raise SettingsError(f"--target (NEWSDESK_TARGET): {error}, or nothing for the fastest measured") from error
        if self.threads < 0:
            raise _refused("threads", self.threads, "0 (what `newsdesk tune` found, else 1) or more")
        if self.queue_delay is not None and not 0 <= self.queue_delay <= _LONGEST_DELAY:
            raise _refused("queue_delay", self.queue_delay, f"microseconds, 0 to {_LONGEST_DELAY}")
        if self.unsure_share is not None and not 0 <= self.unsure_share <= MOST:
            raise _refused("unsure_share", self.unsure_share, f"a share of texts, 0 (none) to {MOST}")
        if self.cache and self.cache_bytes < _CACHE_LEAST:
            raise _refused("cache", self.cache, 'a size of at least 1MB, as "256MB" or "2GB", or nothing for no cache')
        if self.log_level not in LOG_LEVELS:
            raise _refused("log_level", self.log_level, f"one of {', '.join(LOG_LEVELS)}")
        for name in "model_repository", "state":
            object.__setattr__(self, name, Path(getattr(self, name)).expanduser().absolute())
        if not _PLAIN_PATH.fullmatch(str(self.state)):
            raise _refused("state", self.state, "a path of letters, digits and ./@%+=:,-_ (Triton hands it to a shell)")
        object.__setattr__(self, "host", _address(self.host))
        metrics = _address(self.metrics_host, "metrics_host") if self.metrics_host else self.host
        object.__setattr__(self, "metrics_host", metrics)

    @property
    def local_host(self) -> str:
        """The address under which this machine reaches its own server."""
        return addresses.local(self.host)

    def netloc(self, port: int) -> str:
        """Return what stands in a URL of this server that this machine itself asks."""
        return f"{addresses.bracketed(self.local_host)}:{port}"

    @property
    def cache_bytes(self) -> int:
        """0 where there is no cache, or no size in what was given."""
        found = re.fullmatch(r"(\d+) ?([KMG]?)B?", self.cache.strip().upper())
        return int(found[1]) * 1000 ** " KMG".index(found[2] or " ") if found else 0

    @property
    def instance_count(self) -> int:
        return self.instances or max(FEWEST_INSTANCES, granted_cores())


def with_gateway(
    settings: Settings,
    *,
    host: str = "",
    keys: Path | None = None,
    jwt_secret_file: Path | None = None,
    jwks: str = "",
    **given: Any,
) -> Settings:
    """Return settings with a gateway, by default on Triton's host and with its keys in the state folder."""
    address = _address(host, "gateway_host") if host else settings.host
    keys = (keys or settings.state / "keys.json").expanduser().absolute()
    if jwt_secret_file:  # the gateway runs in another directory than its caller
        jwt_secret_file = jwt_secret_file.expanduser().absolute()
    if jwks and "://" not in jwks:
        jwks = str(Path(jwks).expanduser().absolute())
    made = GatewaySettings(host=address, keys=keys, jwt_secret_file=jwt_secret_file, jwks=jwks, **given)
    return replace(settings, gateway=made)


def _address(host: str, name: str = "host") -> str:
    try:
        return addresses.resolve(host)
    except ValueError as error:
        raise _refused(name, host, str(error)) from error


def _refused(name: str, given: object, expected: str) -> SettingsError:
    return SettingsError(f"{_named(name)} is {str(given)!r}; expected {expected}.")


def _named(name: str) -> str:
    """Return a setting as its flag and its variable."""
    return f"--{name.replace('_', '-')} (NEWSDESK_{name.upper()})"
