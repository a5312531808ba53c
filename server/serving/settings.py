"""The serving half's configuration: `newsdesk serve` fills it from flags, variables, a file, then these defaults."""

import os
import re
from dataclasses import MISSING, dataclass, replace
from pathlib import Path
from typing import Any

from newsdesk.server import options
from newsdesk.server.gateway.settings import GatewaySettings
from newsdesk.server.machine import addresses
from newsdesk.server.options import PORT, Expected, option
from newsdesk.server.runtime import targets
from newsdesk.server.runtime.cores import FEWEST_INSTANCES, granted_cores
from newsdesk.server.runtime.errors import EngineError, ServerError
from newsdesk.server.runtime.reference import LEAST
from newsdesk.server.runtime.unsure import MOST

TRITON = "triton"
LOG_LEVELS = ("error", "warning", "info", "verbose")
_CACHE_LEAST = 10**6
_LONGEST_DELAY = 1_000_000


class SettingsError(ServerError):
    """A setting with a value that cannot be used."""


def default_repository() -> Path:
    """Return the checkout's model repository (editable install), else the one in the working directory.

    Raises:
        SettingsError: there is neither.
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


def size(line: str) -> int:
    """Return the bytes that "256MB" or "2G" stands for, 0 where it is no size."""
    parts = re.fullmatch(r"(\d+) ?([KMG]?)B?", line.strip().upper())
    return int(parts[1]) * 1000 ** " KMG".index(parts[2] or " ") if parts else 0


_INSTANCES = Expected(f"0 (one per core granted, at least {FEWEST_INSTANCES}) or more", lambda count: count >= 0)
_THREADS = Expected("0 (what `newsdesk tune` found, else 1) or more", lambda count: count >= 0)
_UNSURE_SHARE = Expected(f"a share of texts, 0 (none) to {MOST}", lambda share: 0 <= share <= MOST)
_DRIFT_WINDOW = Expected(f"a number of answers, {LEAST} or more", lambda answers: answers >= LEAST)
_CACHE = Expected(
    'a size of at least 1MB, as "256MB" or "2GB", or nothing for no cache',
    lambda line: not line or size(line) >= _CACHE_LEAST,
)
_LOG_LEVEL = Expected(f"one of {', '.join(LOG_LEVELS)}", LOG_LEVELS.__contains__)
_PLAIN_PATH = Expected(
    # Triton starts its stubs through a shell command line that quotes nothing.
    "a path of letters, digits and ./@%+=:,-_ (Triton hands it to a shell)",
    lambda path: re.fullmatch(r"[\w./@%+=:,-]+", str(path)),
)
_EXPOSE = Expected("triton", lambda name: name == TRITON)
_DELAY = Expected(f"microseconds, 0 to {_LONGEST_DELAY}", lambda delay: 0 <= delay <= _LONGEST_DELAY)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The options of `newsdesk serve`.

    Raises:
        SettingsError: a value cannot be used; the message names the flag and the variable.
    """

    config: Path | None = None
    """The file that settings came from, too."""
    host: str = option("127.0.0.1", "Address to listen on; 0.0.0.0 or :: for any.")
    """Address, or a name that has one. Triton's own ports, which ask nobody, leave loopback only where `expose` says
    so: with another address the gateway alone is there."""
    expose: tuple[str, ...] = option((), "triton: its own ports, too, on --host.", unset="none", expected=_EXPOSE)
    http_port: int = option(8000, "Open Inference Protocol over HTTP.", expected=PORT)
    grpc_port: int = option(8001, "Open Inference Protocol over gRPC.", expected=PORT)
    metrics_port: int = option(8002, "Prometheus metrics.", expected=PORT)
    metrics_host: str = option("", "Its address, if another.", unset="Triton's")
    """Metrics ask nobody, but are all that a monitor needs."""
    model_repository: Path = option(
        MISSING, "Folder of models.", factory=default_repository, unset="the checkout's, else ./"
    )
    model: tuple[str, ...] = option((), "Model of it; may be repeated.", unset="all")
    """Models of the repository that are served; the first answers where a caller names none."""
    instances: int = option(0, "Processes of each model; 0: tuned, else one a core.", expected=_INSTANCES)
    """Backend processes; 0 = as many as `tune` found best, else one for each core granted, and at least
    FEWEST_INSTANCES."""
    threads: int = option(0, "Threads of each process; 0: tuned, else 1.", expected=_THREADS)
    """Threads of each process's engine; 0 = as many as `tune` found best, else 1."""
    queue_delay: int | None = option(None, "Microseconds a request waits for others.", unset="tuned", expected=_DELAY)
    """None = what `tune` found best, else 0."""
    target: str = option(
        "",
        '"openvino:int8", or "minilm=openvino:int8,…".',
        unset="fastest",
    )
    """Compile target, or each member's own; empty = the fastest measured on this machine."""
    unsure_share: float | None = option(
        None, "Share marked as not sure, 0 to 0.2.", unset="the model's", expected=_UNSURE_SHARE
    )
    """Share of in-domain texts that are marked as not sure."""
    drift_window: int | None = option(
        None, "Answers a process holds against the model's reference.", unset="4000", expected=_DRIFT_WINDOW
    )
    """The last answers of each backend process that are held against the manifest's reference, if there is one."""
    state: Path = option(
        MISSING,
        "Runs, measurements, logs.",
        factory=default_state,
        unset="~/.local/state/newsdesk",
        expected=_PLAIN_PATH,
    )
    cache: str = option("", 'Keep answers for repeated texts: "256MB".', unset="none", expected=_CACHE)
    """Size of Triton's response cache; empty = none."""
    log_level: str = option("info", "Triton's: error, warning, info or verbose.", expected=_LOG_LEVEL)
    gateway: GatewaySettings | None = option(
        None, "Start the REST gateway beside Triton.", kind=bool, unset="gateway", panel=GatewaySettings.PANEL
    )
    """The REST gateway beside Triton; None = without."""

    def __post_init__(self) -> None:
        options.normalise(self, SettingsError)
        ports = {"http_port": self.http_port, "grpc_port": self.grpc_port, "metrics_port": self.metrics_port}
        for name, port in ports.items():
            if same := [other for other in ports if other != name and ports[other] == port]:
                raise _refused(name, port, f"three different ports, and that is {options.named(same[0])}, too")
        try:
            targets.parse(self.target)
        except EngineError as error:
            raise SettingsError(f"{options.named('target')}: {error}, or nothing for the fastest measured") from error
        object.__setattr__(self, "host", _address(self.host))
        metrics = _address(self.metrics_host, "metrics_host") if self.metrics_host else self.triton_host
        object.__setattr__(self, "metrics_host", metrics)

    @property
    def triton_host(self) -> str:
        """The address that Triton's own ports listen on: the loopback one of its kind, unless they are exposed."""
        return self.host if TRITON in self.expose else addresses.loopback(self.host)

    @property
    def local_host(self) -> str:
        """The address under which this machine reaches its own server."""
        return addresses.local(self.triton_host)

    def netloc(self, port: int) -> str:
        """Return what stands in a URL of this server that this machine itself asks."""
        return f"{addresses.bracketed(self.local_host)}:{port}"

    def tried(self, model: str) -> str:
        """Return the version of a model that is tried beside the current one, "" where none is."""
        candidates = self.gateway.candidates if self.gateway else []
        return next((candidate.version for candidate in candidates if candidate.model in ("", model)), "")

    @property
    def cache_bytes(self) -> int:
        """The cache's size in bytes, 0 where there is none."""
        return size(self.cache)

    @property
    def instance_count(self) -> int:
        """Backend processes of each model."""
        return self.instances or max(FEWEST_INSTANCES, granted_cores())


def with_gateway(settings: Settings, *, host: str = "", keys: Path | None = None, **values: Any) -> Settings:
    """Return settings with a gateway.

    Args:
        settings: without one
        host: its address; empty: that of the settings
        keys: its file of keys; None: the one in the state folder
        values: its further options

    Raises:
        SettingsError: a value cannot be used.
    """
    try:
        address = addresses.resolve(host) if host else settings.host
    except ValueError as error:
        raise SettingsError(options.refusal(GatewaySettings, "host", host, str(error))) from error
    return replace(settings, gateway=GatewaySettings(host=address, keys=keys or settings.state / "keys.json", **values))


def _address(host: str, name: str = "host") -> str:
    try:
        return addresses.resolve(host)
    except ValueError as error:
        raise _refused(name, host, str(error)) from error


def _refused(name: str, value: object, expected: str) -> SettingsError:
    return SettingsError(options.refusal(Settings, name, value, expected))
