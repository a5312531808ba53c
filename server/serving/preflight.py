"""Check what must hold before a server starts, and say what to do about it. `newsdesk doctor` prints all of it."""

import importlib.metadata
import math
import os
import re
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from newsdesk.server.machine import addresses, traces
from newsdesk.server.runtime import manifest, processor, repository, targets
from newsdesk.server.runtime.cores import FEWEST_INSTANCES
from newsdesk.server.runtime.errors import EngineError, ServerError
from newsdesk.server.runtime.repository import latest_version
from newsdesk.server.serving import limits, tuning, workspace
from newsdesk.server.serving.settings import Settings
from newsdesk.server.serving.triton import (
    SHM_BYTES,
    Installation,
    environment,
    find_installation,
    find_libpython,
    loader_has_libpython,
)

_GLIBC = (2, 35)
_GLIBCXX = "GLIBCXX_3.4.30"
_LOADER_SAYS = re.compile(r"error while loading shared libraries|version `[^']+' not found|symbol lookup error")
_STARTS_SECONDS = 60
_BATCH_BYTES = 20 * 2**20
"""The bytes that a batch of 64 texts of the largest size adds to a process's share of /dev/shm (measured: 17 MiB)."""

Level = Literal["ok", "warning", "problem"]


@dataclass(frozen=True)
class Check:
    """The finding of one check, and what to do about it."""

    name: str
    level: Level
    found: str
    remedy: str = ""


def check(settings: Settings) -> list[Check]:
    """Run every check that can be run, in the order in which they would stop a start."""
    checks = [_glibc(), _numpy()]
    try:
        installation = find_installation()
    except ServerError as error:
        checks.append(Check("triton", "problem", str(error)))
    else:
        checks += [_libpython(), *_binaries(installation)]
    counts = _instance_counts(settings)
    checks += [_ports(settings), _ipv6(), _files(), _instances(counts)]
    checks += [_shm(sum(counts), workspace.SHM), _state(settings.state), _traces()]
    return checks + _models(settings)


def _glibc() -> Check:
    try:
        name, version = (os.confstr("CS_GNU_LIBC_VERSION") or "").split()
        number = tuple(map(int, version.split(".")[:2]))
    except (ValueError, OSError):
        name, version, number = "another C library", "", (0, 0)
    if number < _GLIBC:
        need = ".".join(map(str, _GLIBC))
        return Check(
            "glibc",
            "problem",
            f"{name} {version}".strip() + f"; tritonserver needs glibc {need} or newer",
            "Use Debian 12, Ubuntu 22.04 or newer, or a container of one.",
        )
    return Check("glibc", "ok", version)


def _traces() -> Check:
    try:
        url = traces.endpoint()
    except ServerError as error:
        return Check("traces", "problem", str(error), "Unset it to serve without traces.")
    return Check(
        "traces",
        "ok",
        f"sent to {addresses.without_password(url)}" if url else "off: OTEL_EXPORTER_OTLP_ENDPOINT is not set",
    )


def _numpy() -> Check:
    try:
        version = importlib.metadata.version("numpy")
    except importlib.metadata.PackageNotFoundError:
        return Check("numpy", "problem", "not installed", "pip install 'newsdesk[serve]'")
    if int(version.split(".")[0]) >= 2:
        remedy = "pip install 'numpy>=1.26,<2'"
        return Check("numpy", "problem", f"{version}; Triton's Python backend here needs numpy 1", remedy)
    return Check("numpy", "ok", version)


def _libpython() -> Check:
    """Triton's stub embeds Python: it needs the shared library of the very Python whose packages it will import."""
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    library = find_libpython()
    remedy = (
        f"Debian and Ubuntu: apt install libpython{python}. pyenv: PYTHON_CONFIGURE_OPTS=--enable-shared "
        f"pyenv install --force {sys.version.split()[0]}. Or make the environment with a uv-managed or conda Python."
    )
    if library is None and not loader_has_libpython():
        return Check("libpython", "problem", f"no shared libpython{python}.so.1.0 for {sys.base_prefix}", remedy)
    version = _version_of(library or Path(f"libpython{python}.so.1.0"))
    where = str(library or "the loader's")
    own = sys.version.split()[0]
    if version != own:
        return Check("libpython", "warning", f"{where} is Python {version or 'unknown'}, this is {own}", remedy)
    return Check("libpython", "ok", f"{where} ({version})")


def _version_of(library: Path) -> str:
    """Return the version of a libpython, asked in a process of its own, or ""."""
    asked = subprocess.run(
        [sys.executable, "-P", "-c", _ASK_VERSION, str(library)], capture_output=True, text=True, check=False
    )
    return asked.stdout.split()[0] if asked.returncode == 0 else ""


def _binaries(installation: Installation) -> list[Check]:
    """Start tritonserver and the stub for real, in the environment they will have: the loader says what lacks."""
    variables = environment(installation)
    checks = []
    # Triton itself takes code 1, of a stub without arguments, for health; a loader that fails may give it, too.
    for name, command in ("tritonserver", [installation.binary, "--help"]), ("stub", [installation.stub]):
        try:
            ran = subprocess.run(
                list(map(str, command)),
                env=variables,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=_STARTS_SECONDS,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            checks.append(Check(name, "problem", f"{command[0]} does not start: {error}", installation.repair))
            continue
        complaints = [line for line in ran.stderr.splitlines() if _LOADER_SAYS.search(line)]
        if not complaints and ran.returncode in (0, 1):
            checks.append(Check(name, "ok", f"{command[0]} starts"))
            continue
        reason = complaints[0] if complaints else f"exit code {ran.returncode}"
        remedy = installation.repair
        if "GLIBCXX" in reason or "CXXABI" in reason:
            remedy = (
                f"The libstdc++ found first lacks {_GLIBCXX}: apt install libstdc++6 (of GCC 12 or newer), or start "
                "without LD_LIBRARY_PATH, which may lead to an older one."
            )
        checks.append(Check(name, "problem", f"{command[0]} does not start: {reason}", remedy))
    return checks


def _ports(settings: Settings) -> Check:
    host = settings.triton_host
    ports = {"http": settings.http_port, "grpc": settings.grpc_port, "metrics": settings.metrics_port}
    hosts = {"http": host, "grpc": host, "metrics": settings.metrics_host}
    taken = {name: error for name, port in ports.items() if (error := addresses.refusal(hosts[name], port))}
    if not taken:
        return Check("ports", "ok", f"{', '.join(map(str, ports.values()))} on {host} are free")
    occupied = "; ".join(
        f"{name} port {ports[name]} on {hosts[name]}: {taken[name].strerror or taken[name]}" for name in taken
    )
    first, flags = next(iter(taken)), " ".join(f"--{name}-port" for name in taken)
    return Check("ports", "problem", occupied, addresses.remedy(taken[first], ports[first], flags, "--host"))


def _ipv6() -> Check:
    if addresses.has_ipv6():
        return Check("ipv6", "ok", "there is a loopback: --host ::1, or :: for every IPv6 address")
    return Check("ipv6", "ok", "none on this machine: only IPv4 addresses can be listened on")


def _files() -> Check:
    soft, most = limits.open_files()
    number = f"{most} files and connections open at once{f' ({soft} until serve raises it)' if soft < most else ''}"
    if most < limits.FEWEST:
        remedy = (
            f"Raise the hard limit to {limits.FEWEST} or more: LimitNOFILE= for systemd, docker run --ulimit nofile=…, "
            "else /etc/security/limits.conf."
        )
        return Check("files", "warning", f"at most {number}", remedy)
    return Check("files", "ok", f"up to {number}")


def _instance_counts(settings: Settings) -> list[int]:
    """Return the backend processes of each model that is served, and of the versions that are tried."""
    try:
        served = repository.choose(settings.model_repository, settings.model)
    except ServerError:  # which `_models` tells
        return [settings.instance_count]
    counts = [tuning.applied(settings, model).instance_count for model in served]
    tried = settings.gateway.candidates if settings.gateway else []
    return counts + [max(FEWEST_INSTANCES, math.ceil(candidate.share * max(counts))) for candidate in tried]


def _instances(counts: list[int]) -> Check:
    if min(counts) < FEWEST_INSTANCES:
        return Check(
            "instances",
            "warning",
            f"{min(counts)} backend process: Triton's batcher can wait half a second until it sees it free again",
            f"Start two: --instances {FEWEST_INSTANCES}.",
        )
    return Check("instances", "ok", f"{' + '.join(map(str, counts))} backend processes")


def _shm(count: int, shm: Path) -> Check:
    """A generation of backend processes, the next one beside it while they are healed or reloaded, and a batch each."""
    try:
        room = os.statvfs(shm)
    except OSError as error:
        return Check(
            "shm", "problem", f"{shm}: {error.strerror}", "Mount a tmpfs there: Triton's processes meet in it."
        )
    free, mib = room.f_bavail * room.f_frsize, 2**20
    least, roomy = 2 * count * SHM_BYTES, 2 * count * SHM_BYTES + count * _BATCH_BYTES
    left = f"{free // mib} MiB free in {shm}"
    remedy = (
        f"Give it {roomy // mib} MiB: docker run --shm-size={roomy // mib}m, in Kubernetes an emptyDir of medium "
        f"Memory, else mount -o remount,size={roomy // mib}m {shm}. Or start fewer processes (--instances)."
    )
    if free < least:
        needs = f"{left}; {count} instances need {least // mib} MiB to start and to heal"
        return Check("shm", "problem", needs, remedy)
    if free < roomy:
        wants = f"{left}; {count} instances with a batch of the longest texts each want {roomy // mib} MiB"
        return Check("shm", "warning", f"{wants}: such a batch would be refused", remedy)
    return Check("shm", "ok", left)


def _state(state: Path) -> Check:
    try:
        state.mkdir(parents=True, exist_ok=True)
        probe = state / f".write-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        remedy = "Name a folder that can be written to: --state (NEWSDESK_STATE)."
        return Check("state", "problem", f"{state}: {error.strerror}", remedy)
    if os.statvfs(state).f_flag & os.ST_NOEXEC:  # a container's tmpfs, unless it says exec
        remedy = "Triton's backend processes start from there: name a folder of a file system without noexec, --state."
        return Check("state", "problem", f"{state}: its file system is mounted noexec", remedy)
    return Check("state", "ok", str(state))


def _models(settings: Settings) -> list[Check]:
    """Check every model that is to be served.

    One that cannot be keeps the server from starting: that is told, with how to serve the others.
    """
    try:
        served = repository.choose(settings.model_repository, settings.model)
    except ServerError as error:
        return [Check("model", "problem", str(error))]
    checks = {model: _model(settings, model) for model in served}
    sound = [model for model, own in checks.items() if all(check.level != "problem" for check in own)]
    if sound and len(sound) < len(served):
        named = " ".join(f"--model {model}" for model in sound)
        checks = {
            model: [replace(check, remedy=f"{check.remedy} Or serve without it: {named}.".strip()) for check in own]
            if model not in sound
            else own
            for model, own in checks.items()
        }
    return [check for own in checks.values() for check in own]


def _model(settings: Settings, model: str) -> list[Check]:
    try:
        folder = latest_version(settings.model_repository / model, settings.tried(model))
        loaded = manifest.load(folder)
        workspace.check_configurations(folder)
    except (ServerError, OSError) as error:
        return [Check("model", "problem", str(error))]
    try:
        targets.check(settings.target, loaded)
    except EngineError as error:
        remedy = "Choose another with --target, or leave it out: the fastest that can run is chosen."
        return [Check("model", "problem", str(error), remedy)]
    members = ", ".join(member.name for member in loaded.members)
    return [Check("model", "ok", f"{folder}: {members}; every file matches its sha256"), _cpu(loaded.cpu_features)]


def _cpu(wanted: list[str]) -> Check:
    missing = sorted(set(wanted) - processor.features())
    if missing:
        lacking = f"the figures were measured on a processor with {', '.join(missing)}, and this one lacks it"
        remedy = (
            "It serves, but int8 answers can differ slightly: without VNNI, ONNX Runtime is given coarser weights, and "
            "OpenVINO's products of 8-bit numbers may saturate. "
            "For the measured answers, use such a processor or --target openvino:fp32 where the model has that graph."
        )
        return Check("cpu", "warning", lacking, remedy)
    return Check("cpu", "ok", f"has {', '.join(wanted)}" if wanted else "nothing special needed")


_ASK_VERSION = (
    "import ctypes, sys; ask = ctypes.CDLL(sys.argv[1]).Py_GetVersion; "
    "ask.restype = ctypes.c_char_p; print(ask().decode())"
)
