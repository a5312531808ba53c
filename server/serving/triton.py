"""The real tritonserver, of nvidia-pytriton or of NVIDIA's container: find it, start it, ask it, stop it.

PyTriton's own wrapper is not used: it keeps every line of the log in memory. The log goes to a file.
"""

import contextlib
import ctypes.util
import http.client
import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import sysconfig
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from newsdesk.server.machine import addresses, processes, traces
from newsdesk.server.machine.processes import Process
from newsdesk.server.runtime import engines, heartbeat, lifeline
from newsdesk.server.runtime.errors import ServerError
from newsdesk.server.serving import logs, privacy
from newsdesk.server.serving.settings import Settings
from newsdesk.server.serving.workspace import Workspace

STUB = "triton_python_backend_stub"
CONTAINER = Path("/opt/tritonserver")
"""The folder of tritonserver in NVIDIA's container, with one stub, for the Python of the container."""
SHM_BYTES = 4 * 2**20
"""Bytes of /dev/shm that a backend process takes at its start. They grow by what the largest batch needs, and stay."""
# Loading models, shared memory, logging to a file: each is a way to run code or read memory as the server's user, and
# is refused to everybody. Triton's restrictions ask for a header, which the command line shows to all; but neither HTTP
# nor gRPC has a header with a colon in its name.
_REFUSED_TO_ALL = "model-repository,shared-memory,trace,logging:nobody:can-send-this=never"
# Vertex AI's: Triton would listen on a further port of every address, which its restrictions do not cover.
_OPENS_A_PORT = "AIP_MODE"
_POLL_SECONDS = 1
_REINSTALL = "pip install --force-reinstall --no-deps nvidia-pytriton==0.7.0"
_EXIT_SECONDS = 8
_UNFINISHED_SECONDS = 2
_FLUSH_SECONDS = 0.3
_FAILED_LOAD = re.compile(r"failed to load '([^']+)' version (\d+): (?:\w[\w ]*: )?(.*?)\"?$", re.MULTILINE)
_FAILED_LOOK = re.compile(r"Poll failed for model directory '([^']+)': (.*?)\"?$", re.MULTILINE)


class TritonError(ServerError):
    """A tritonserver that is not there, does not start, or does not answer as it should."""


class TritonRefusal(TritonError):
    """Triton's own error answer."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class Installation:
    """The places of a tritonserver's parts, and how to get them again."""

    binary: Path
    backend: Path
    caches: Path
    stub: Path
    libraries: Path
    repair: str


@dataclass(frozen=True)
class ProbeAnswer:
    """The model's answer to one text, and the seconds that it took."""

    label: str
    probability: float
    answered_by: str
    seconds: float


def find_installation() -> Installation:
    """Return nvidia-pytriton's where it is installed, else the container's.

    Raises:
        TritonError: what is missing and what to install.
    """
    python, package = f"{sys.version_info.major}.{sys.version_info.minor}", _pytriton()
    if package is None and not CONTAINER.is_dir():
        raise TritonError("nvidia-pytriton, which brings tritonserver, is not installed: pip install 'newsdesk[serve]'")
    root = package / "tritonserver" if package else CONTAINER
    backend, stubs = root / "backends" / "python", root / "python_backend_stubs"
    here = Installation(
        binary=root / "bin" / "tritonserver",
        backend=backend,
        caches=root / "caches",
        stub=stubs / python / STUB if package else backend / STUB,
        libraries=package.parent / "nvidia_pytriton.libs" if package else root / "lib",
        repair=_REINSTALL if package else "Start from NVIDIA's own image (docker/Dockerfile names one that fits).",
    )
    known = [folder.name for folder in stubs.glob("3.*")] if package else _python_of(here.stub)
    if not here.stub.is_file() or python not in known:
        named = ", ".join(sorted(known, key=lambda name: int(name[2:]))) or "none"
        raise TritonError(
            f"Triton's Python backend has no stub for Python {python}, only for {named}. "
            "Make the environment with one of those (newsdesk supports 3.11 and 3.12)."
        )
    for part in here.binary, here.backend, here.caches, here.libraries:
        if not part.exists():
            raise TritonError(f"{part} is missing: {here.repair}")
    return here


def _pytriton() -> Path | None:
    spec = importlib.util.find_spec("pytriton")
    return Path(spec.submodule_search_locations[0]) if spec and spec.submodule_search_locations else None


def _python_of(stub: Path) -> list[str]:
    """Return the Python that a stub embeds, as the name of the library that it wants says."""
    match = re.search(rb"libpython(3\.\d+)\.so", stub.read_bytes()) if stub.is_file() else None
    return [match[1].decode()] if match else []


def find_libpython() -> Path | None:
    """Return the shared libpython of the running Python, or None where only the loader's default may have one."""
    name = f"libpython{sys.version_info.major}.{sys.version_info.minor}.so.1.0"
    configured, multiarch = sysconfig.get_config_var("LIBDIR"), sysconfig.get_config_var("MULTIARCH")
    folders = [Path(sys.base_prefix) / "lib", Path(sys.base_exec_prefix) / "lib"]
    if configured:
        folders += [Path(configured), Path(configured) / (multiarch or "")]
    return next((folder / name for folder in folders if (folder / name).is_file()), None)


def loader_has_libpython() -> bool:
    """Return whether the system's loader finds a shared libpython of the running Python's version."""
    return ctypes.util.find_library(f"python{sys.version_info.major}.{sys.version_info.minor}") is not None


def environment(installation: Installation) -> dict[str, str]:
    """Return the variables that tritonserver and its stubs start with.

    A stub finds its Python as the first python3 on PATH: that of this environment, with its .pth files. It imports from
    its working directory whatever PYTHONSAFEPATH says, so that this must be one that holds no modules.
    """
    variables = processes.environment_apart()
    variables.pop(_OPENS_A_PORT, None)
    libpython = find_libpython()
    libraries = [str(libpython.parent)] if libpython else []
    libraries += [str(installation.libraries), *filter(None, [variables.get("LD_LIBRARY_PATH")])]
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    return {
        **variables,
        **threads,
        "TOKENIZERS_PARALLELISM": "false",
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), variables.get("PATH", os.defpath)]),
        "LD_LIBRARY_PATH": os.pathsep.join(libraries),
        **({"VIRTUAL_ENV": sys.prefix} if sys.prefix != sys.base_prefix else {}),
    }


class Triton:
    """One run of tritonserver with its models; after its end, make another."""

    def __init__(self, settings: Settings, workspace: Workspace, log: Path) -> None:
        self._settings, self._workspace, self.log = settings, workspace, log
        self._process: subprocess.Popen | None = None
        self._seen: set[Process] = set()
        self._stop_logged_from: int | None = None

    def start(self) -> None:
        """Start it from the main thread; it dies when that thread does. Returns before it is ready.

        Raises:
            TritonError: a part of it is missing.
        """
        installation = find_installation()
        with contextlib.suppress(OSError):
            self.log.replace(self.log.with_suffix(".previous.log"))
        held = os.open(self._workspace.lifeline, os.O_RDWR | os.O_CLOEXEC)
        try:
            with privacy.open_log(self.log) as log:
                self._process = subprocess.Popen(
                    [str(installation.binary), *self._arguments()],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env={
                        **environment(installation),
                        lifeline.VARIABLE: f"{held}:{self._workspace.lifeline}",
                        heartbeat.VARIABLE: str(self._workspace.heartbeats),
                        engines.COMPILED: str(self._workspace.compiled),
                        engines.REWRITTEN: str(self._workspace.renderings),
                    },
                    cwd=self._workspace.root,
                    pass_fds=[held],
                    start_new_session=True,  # Ctrl-C reaches newsdesk alone, which passes it on
                    preexec_fn=processes.die_with_parent(privacy.keep_memory_private()),
                )
        finally:
            os.close(held)

    def _arguments(self) -> list[str]:
        settings, workspace = self._settings, self._workspace
        level = settings.log_level
        options = {
            "model-repository": workspace.watched,
            "backend-directory": workspace.backends,
            "cache-directory": workspace.caches,
            "model-control-mode": "poll",
            "repository-poll-secs": _POLL_SECONDS,
            "exit-on-error": "true",
            "strict-readiness": "true",
            "exit-timeout-secs": _EXIT_SECONDS,
            "http-address": _http_address(settings.triton_host),
            "http-port": settings.http_port,
            "grpc-address": addresses.bracketed(settings.triton_host),
            "grpc-port": settings.grpc_port,
            "metrics-address": _http_address(settings.metrics_host),
            "metrics-port": settings.metrics_port,
            "http-restricted-api": _REFUSED_TO_ALL,
            "grpc-restricted-protocol": _REFUSED_TO_ALL,
            "pinned-memory-pool-byte-size": 0,
            "log-verbose": int(level == "verbose"),
            "log-info": str(level in ("info", "verbose")).lower(),
            "log-warning": str(level != "error").lower(),
        }
        if settings.cache_bytes:
            options["cache-config"] = f"local,size={settings.cache_bytes}"
        if not Path("/dev/nvidiactl").exists():
            options["allow-gpu-metrics"] = "false"
        return [
            "--disable-auto-complete-config",
            f"--backend-config=python,shm-default-byte-size={SHM_BYTES}",
            f"--backend-config=python,shm-region-prefix-name={workspace.shm_prefix}",
            *(f"--{name}={value}" for name, value in options.items()),
            *traces.arguments(traces.endpoint()),
        ]

    @property
    def pid(self) -> int:
        """The number of its process."""
        assert self._process is not None
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs."""
        return self._process.poll() if self._process else None

    @property
    def running(self) -> bool:
        """Whether its process lives."""
        return self._process is not None and self._process.poll() is None

    @property
    def stopped(self) -> bool:
        """Whether it was stopped by a signal: a debugger does no such thing."""
        return self.running and processes.find(self.pid).stopped

    def taken_port(self) -> int | None:
        """Return a port of its own on which somebody else listens."""
        settings = self._settings
        places = [(settings.triton_host, settings.http_port), (settings.triton_host, settings.grpc_port)]
        places.append((settings.metrics_host, settings.metrics_port))
        return next((port for host, port in places if addresses.refusal(host, port)), None)

    def stubs(self, model: str = "") -> set[Process]:
        """Return the living backend processes, of every generation; of a model, or of all."""
        living = processes.children(self.pid, STUB) if self.running else set()
        self._seen |= living
        place = f"{self._workspace.watched / model}/"
        return {stub for stub in living if any(part.startswith(place) for part in stub.arguments)} if model else living

    def log_size(self) -> int:
        """Return the bytes of its log, 0 where it has none."""
        try:
            return self.log.stat().st_size
        except OSError:
            return 0

    def failed_load(self, model: str, since: int) -> str:
        """Return why a load of a model failed, from byte `since` of the log on, or ""."""
        return explain_load(self._read_log(since), model)

    def _read_log(self, since: int = 0) -> str:
        try:
            with self.log.open("rb") as log:
                log.seek(since)
                return log.read().decode(errors="replace")
        except OSError:
            return ""

    def ask(self, path: str, body: dict[str, Any] | None, timeout: float) -> Any:
        """Ask over HTTP and return the answer's JSON.

        Args:
            path: of the route
            body: is sent as JSON by POST; None asks by GET
            timeout: seconds

        Raises:
            Refusal: Triton answered with an error.
            TritonError: it did not answer, or not in JSON.
        """
        connection = http.client.HTTPConnection(self._settings.local_host, self._settings.http_port, timeout=timeout)
        try:
            if body is None:
                connection.request("GET", path)
            else:
                connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
            response = connection.getresponse()
            raw = response.read()
        except (OSError, http.client.HTTPException) as error:
            raise TritonError(f"tritonserver does not answer: {error or type(error).__name__}") from error
        finally:
            connection.close()
        try:
            answer = json.loads(raw) if raw else {}
        except ValueError as error:
            raise TritonError(f"tritonserver answered {response.status} with no JSON: {raw[:200]!r}") from error
        if response.status != http.client.OK:
            raise TritonRefusal(response.status, str(answer.get("error", answer)))
        return answer

    def ask_to_stop(self) -> None:
        """Pass SIGTERM on: it takes no new request, finishes those it has, and ends."""
        if self.running and self._stop_logged_from is None:
            self._stop_logged_from = self.log_size()
            os.kill(self.pid, signal.SIGTERM)

    def kill(self) -> None:
        """End it at once, with SIGKILL."""
        if self.running:
            os.kill(self.pid, signal.SIGKILL)

    def wait(self) -> None:
        """Wait for its end, bounded, then for its stubs', and leave nothing of theirs in /dev/shm."""
        if self._process is None:
            return
        stubs = self.stubs() | self._seen
        unfinished = time.monotonic()
        deadline = unfinished + _EXIT_SECONDS + _UNFINISHED_SECONDS
        while self.running:
            now = time.monotonic()
            if any(stub.alive for stub in stubs):
                unfinished = now
            if self._drained():
                deadline = min(deadline, now + _FLUSH_SECONDS)
            # A generation in which a stub died under a request is never unloaded: Triton would wait for it in vain.
            if now > unfinished + _UNFINISHED_SECONDS or now > deadline:
                self.kill()
            time.sleep(0.05)
        while any(stub.alive for stub in stubs):  # left to itself, a stub ends about a second after its server
            for stub in stubs:
                stub.kill()
            time.sleep(0.02)
        self._workspace.clear_shm()

    def _drained(self) -> bool:
        """Whether all requests were answered since `ask_to_stop`. Triton then only ends its stubs, a second each."""
        if self._stop_logged_from is None:
            return False
        return "All models are stopped" in self._read_log(self._stop_logged_from)

    def trim_log(self) -> None:
        """Keep the log file bounded."""
        logs.rotate(self.log)

    def reason(self) -> str:
        """Return why the model failed to load, or the server to start, from the log."""
        return explain(self._read_log())


def _http_address(host: str) -> str:
    return f"ipv6:{host}" if ":" in host else host  # libevhtp's own notation


def explain(log: str) -> str:
    """Return Triton's reason with the model's Python exception, or the log's last lines."""
    if reason := explain_load(log):
        return reason
    errors = re.findall(r"^(?:E\d{4} [^\]]*\] |error: )(.*)$", log, re.MULTILINE)
    last = [line for line in log.splitlines() if line.strip() and line[0] not in "+|"]
    return "\n".join(errors[-3:] or last[-10:]) or "it wrote nothing to its log"


def explain_load(log: str, of: str = "") -> str:
    """Return why a model, or any, was not loaded, with its Python exception, or ""."""
    if failed := [load for load in _FAILED_LOAD.findall(log) if of in ("", load[0])]:
        model, version, reason = failed[-1]
        reason = reason.replace("\\n", "\n").replace('\\"', '"').strip()
        reason = "\n".join(line for line in reason.splitlines() if "<frozen importlib" not in line)
        complaints = [line for line in log.splitlines() if "error while loading shared libraries" in line]
        return "\n".join([f"model {model} version {version} failed to load: {reason}", *complaints[-1:]])
    looks = [reason for model, reason in _FAILED_LOOK.findall(log) if of in ("", model)]
    return looks[-1].replace('\\"', '"') if looks else ""
