"""The gateway as a process beside Triton: started, watched, restarted, drained. Nothing here needs its packages."""

import contextlib
import http.client
import importlib.util
import ipaddress
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from newsdesk.server.gateway.keys import KeyFile, KeysError
from newsdesk.server.gateway.settings import GatewaySettings, Launch
from newsdesk.server.machine import addresses, processes
from newsdesk.server.runtime.errors import ServerError
from newsdesk.server.serving import advisories, health, logs, privacy
from newsdesk.server.serving.deployment import Deployment
from newsdesk.server.serving.pauses import Pauses
from newsdesk.server.serving.preflight import Check
from newsdesk.server.serving.pulse import Pulse
from newsdesk.server.serving.settings import Settings
from newsdesk.server.serving.workspace import Workspace

PACKAGES = (
    "fastapi",
    "grpc",
    "httptools",
    "jwt",
    "limits",
    "multipart",
    "opentelemetry.exporter.otlp.proto.http",
    "opentelemetry.sdk",
    "prometheus_client",
    "strawberry",
    "uvicorn",
    "uvloop",
    "websockets",
)
_START_SECONDS = 60.0
_DRAIN_SECONDS = 10.0
_NO_GATEWAY = "Or serve without it: --no-gateway."


class GatewayError(ServerError):
    """A gateway that does not start."""


class Gateway:
    """One gateway process at a time. Use it from the main thread: the process dies when that thread does."""

    def __init__(self, launch: Launch, log: Path) -> None:
        self._launch, self.log = launch, log
        self._process: subprocess.Popen | None = None
        self._pulse: Pulse | None = None
        self._pauses, self._began, self._next, self._log_from = Pauses(), 0.0, 0.0, 0

    def start(self) -> None:
        """Start it. Returns before it listens."""
        with privacy.open_log(self.log) as log:
            self._log_from = self.log.stat().st_size if self.log.exists() else 0
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "newsdesk.server.gateway"],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=processes.environment_apart(),
                cwd=self._launch.state,
                start_new_session=True,  # Ctrl-C reaches newsdesk alone, which passes it on
                preexec_fn=processes.die_with_parent(),
            )
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError), self._process.stdin as pipe:
            pipe.write(self._launch.encode())
        self._began = time.monotonic()
        settings = self._launch.settings
        self._pulse = Pulse(addresses.local(settings.host), settings.port, "/health/live", settings.encrypted)

    @property
    def url(self) -> str:
        """The address under which this machine reaches it."""
        return self._launch.settings.local_url

    @property
    def exit_code(self) -> int | None:
        """None while it runs."""
        return self._process.poll() if self._process else None

    @property
    def running(self) -> bool:
        """Whether its process lives."""
        return self._process is not None and self._process.poll() is None

    def live(self) -> bool:
        """Return whether it listens.

        Raises:
            GatewayError: it has ended, or takes too long.
        """
        if not self.running:
            raise GatewayError(f"the gateway ended with code {self.exit_code}: {self._reason()}\nIts log: {self.log}")
        settings = self._launch.settings
        status = health.ask(addresses.local(settings.host), settings.port, "/health/live", 1, settings.encrypted)
        if status in (http.client.OK, health.UNSHOWN):
            return True
        if time.monotonic() > self._began + _START_SECONDS:
            raise GatewayError(f"the gateway does not listen after {_START_SECONDS:.0f} s. Its log: {self.log}")
        return False

    def watch(self) -> str:
        """Start it again where it died or hangs, after a pause that grows. Returns what happened, or ""."""
        logs.rotate(self.log)
        if self.running:
            if not (fault := self._fault()):
                if self._pulse and self._pulse.answered:
                    self._pauses.works()
                return ""
            self.kill()
            self.wait()
        else:
            fault = f"died (code {self.exit_code})"
        now = time.monotonic()
        if not self._next:
            self._end_pulse()
            self._next = now + self._pauses.next()
            return f"the gateway {fault}; restarting it"
        if now >= self._next:
            self._next = 0.0
            try:
                self.start()
            except OSError as error:  # no memory or process to be had now
                self._next = now + self._pauses.next()
                return f"the gateway does not start: {error}; trying again"
        return ""

    def _fault(self) -> str:
        """Return what is wrong with it while it runs, or ""."""
        assert self._process is not None
        assert self._pulse is not None
        if processes.find(self._process.pid).stopped:
            return "was stopped by a signal"
        if self._pulse.lost:
            return "answers nothing any more"
        late = not self._pulse.answered and time.monotonic() > self._began + _START_SECONDS
        return f"does not listen after {_START_SECONDS:.0f} s" if late else ""

    def _end_pulse(self) -> None:
        if self._pulse:
            self._pulse.stop()
        self._pulse = None

    def ask_to_stop(self) -> None:
        """Pass SIGTERM on: it takes no new connection, finishes the requests it has, and ends."""
        if self._process is not None and self.running:
            self._process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it at once, with SIGKILL."""
        if self._process is not None and self.running:
            self._process.kill()

    def wait(self) -> None:
        """Wait for its end, _DRAIN_SECONDS at most; then it is killed."""
        if self._process is None:
            return
        self._end_pulse()
        deadline = time.monotonic() + _DRAIN_SECONDS
        while self.running:
            if time.monotonic() > deadline:
                self.kill()
            time.sleep(0.02)

    def _reason(self) -> str:
        """Return the last that it said: a plain line, or the error among its JSON ones."""
        with contextlib.suppress(OSError, ValueError, KeyError), self.log.open("rb") as log:
            log.seek(self._log_from)
            lines = [line for line in log.read().decode(errors="replace").splitlines() if line.strip()]
            errors = [line for line in lines if not line.startswith("{") or '"level":"error"' in line]
            if last := (errors or lines)[-1:]:
                return str(json.loads(last[0])["event"]) if last[0].startswith("{") else last[0]
        return "it wrote nothing to its log"


def beside(
    settings: Settings, deployments: Sequence[Deployment], candidates: Sequence[Deployment], workspace: Workspace
) -> Gateway:
    """Return the gateway before a server with these settings and models, which is not yet started.

    The only model, or the first that is named, answers where a caller names none.
    """
    assert settings.gateway is not None
    launch = Launch(
        settings=settings.gateway,
        grpc_url=f"grpc://{settings.netloc(settings.grpc_port)}",
        http_url=f"http://{settings.netloc(settings.http_port)}",
        repository=workspace.repository,
        source=settings.model_repository,
        state=settings.state,
        run=workspace.root,
        audit_log=settings.state / "log" / "audit.jsonl",
        models={deployment.model: deployment.instances for deployment in deployments},
        default=deployments[0].model if settings.model or len(deployments) == 1 else "",
        candidates=tuple(deployment.candidate for deployment in candidates if deployment.candidate),
    )
    return Gateway(launch, settings.state / "log" / f"gateway-{settings.gateway.port}.log")


def check(settings: Settings) -> list[Check]:
    """Return what must hold before the gateway starts, each with what to do about it."""
    if settings.gateway is None:
        return _exposed(settings)
    missing = [name for name in PACKAGES if not _installed(name)]
    if missing:
        problem = f"the gateway needs {', '.join(missing)}, which {'is' if len(missing) == 1 else 'are'} not installed"
        return [Check("gateway", "problem", problem, f"pip install 'newsdesk[gateway]'. {_NO_GATEWAY}")]
    if settings.gateway.log_texts and not _installed("datafog"):
        problem = "--log-texts needs datafog, which masks personal details, and is not installed"
        return [Check("gateway", "problem", problem, "pip install 'newsdesk[log-texts]', or log no texts.")]
    triton = settings.http_port, settings.grpc_port, settings.metrics_port
    gateway = settings.gateway
    ports = [_port(gateway, gateway.port, "--gateway-port", triton)]
    if gateway.grpc_port:
        ports.append(_port(gateway, gateway.grpc_port, "--gateway-grpc-port", triton))
    return [*ports, *_certificates(gateway), *_feedback(gateway), _access(gateway), *_exposed(settings)]


def _installed(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:  # not even what it is a part of
        return False


def _port(settings: GatewaySettings, port: int, flag: str, triton_ports: tuple[int, ...]) -> Check:
    if port in triton_ports:
        return Check("gateway", "problem", f"port {port} is one of Triton's, too", f"Choose another: {flag}.")
    if error := addresses.refusal(settings.host, port):
        refused = f"port {port} on {settings.host}: {error.strerror or error}"
        remedy = addresses.remedy(error, port, flag, "--gateway-host")
        return Check("gateway", "problem", refused, f"{remedy} {_NO_GATEWAY}")
    return Check("gateway", "ok", f"port {port} on {settings.host} is free")


def _certificates(settings: GatewaySettings) -> list[Check]:
    if not settings.encrypted:
        return []
    from newsdesk.server.gateway.certificates import Certificates

    try:
        Certificates(settings)
    except ServerError as error:
        return [Check("tls", "problem", str(error), "newsdesk reads them as the user who starts it.")]
    who = f", to callers with a certificate of {settings.tls_client_ca}" if settings.tls_client_ca else ""
    return [Check("tls", "ok", f"on both of the gateway's ports, with {settings.tls_cert}{who}")]


def _feedback(settings: GatewaySettings) -> list[Check]:
    if settings.feedback is None:
        return []
    try:
        privacy.make_folder(settings.feedback)
    except OSError as error:
        refused = f"corrections cannot be kept in {settings.feedback}: {error.strerror}"
        return [
            Check(
                "feedback",
                "problem",
                refused,
                "Name another folder with --feedback (NEWSDESK_FEEDBACK), or leave it out.",
            )
        ]
    if not os.access(settings.feedback, os.W_OK | os.X_OK):
        refused = f"corrections cannot be kept in {settings.feedback}: this user may not write there"
        return [
            Check(
                "feedback",
                "problem",
                refused,
                "Name another folder with --feedback (NEWSDESK_FEEDBACK), or leave it out.",
            )
        ]
    return [Check("feedback", "ok", f"corrections are kept in {settings.feedback}")]


def _exposed(settings: Settings) -> list[Check]:
    """Warn of an open wall beside the door, and of an address that nobody is at."""
    if not ipaddress.ip_address(settings.triton_host).is_loopback:
        version, names = advisories.unfixed()
        open_here = f"; Triton {version} has {len(names)} open advisories" if names else ""
        warning = f"Triton's own ports on {settings.triton_host} ask nobody for a key (--expose triton){open_here}"
        remedy = "Leave --expose out: the gateway speaks the same protocols, HTTP and gRPC, with keys. See SECURITY.md."
        return [Check("access", "warning", warning, remedy)]
    if settings.gateway is None and not ipaddress.ip_address(settings.host).is_loopback:
        warning = f"nobody is at {settings.host}: Triton's own ports stay on {settings.triton_host}"
        return [
            Check("access", "warning", warning, "Serve with the gateway, or, asking nobody for a key, --expose triton.")
        ]
    return []


def _access(settings: GatewaySettings) -> Check:
    try:
        settings.rate_storage_password()
        secret, keys = settings.secret(), KeyFile(settings.keys).keys()
    except KeysError as error:
        return Check("access", "problem", str(error), "Or name another file: --keys (NEWSDESK_KEYS).")
    except ServerError as error:
        return Check("access", "problem", str(error))
    valid = sum(key.state(time.time()) == "valid" for key in keys.values())
    ways = (
        [f"{valid} keys"] * bool(valid) + ["HS256 tokens"] * bool(secret) + ["public-key tokens"] * bool(settings.jwks)
    )
    if settings.asks and not ways:
        where = "" if ipaddress.ip_address(settings.host).is_loopback else f", and {settings.host} is not loopback"
        remedy = (
            "Make a key (newsdesk keys create NAME), or give --jwt-secret-file or --jwks. To let everybody classify, "
            f"--insecure. {_NO_GATEWAY}"
        )
        return Check("access", "problem", f"the gateway asks for keys or tokens, but knows none{where}", remedy)
    if settings.asks:
        return Check("access", "ok", f"asked for: {', '.join(ways)}")
    if not ipaddress.ip_address(settings.host).is_loopback:
        return Check(
            "access", "warning", f"everybody who reaches {settings.host}:{settings.port} may classify (--insecure)"
        )
    return Check("access", "ok", "open, to this machine alone")
