import errno
import importlib.metadata
import os
import resource
import shutil
import socket
import stat
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from newsdesk.server.runtime import processor
from newsdesk.server.runtime.repository import RepositoryError
from newsdesk.server.serving import preflight, triton, workspace
from newsdesk.server.serving.preflight import Check, check
from newsdesk.server.serving.settings import Settings
from tests.launching import Server, free_ports, write_repository


@pytest.fixture
def settings(repository: Path, tmp_path: Path) -> Settings:
    http, grpc, metrics = free_ports()
    return Settings(
        http_port=http, grpc_port=grpc, metrics_port=metrics, model_repository=repository, state=tmp_path, instances=2
    )


def check_named(settings: Settings, name: str) -> Check:
    return next(checked for checked in check(settings) if checked.name == name)


def test_this_machine_can_serve(settings: Settings) -> None:
    checks = check(settings)
    assert [check for check in checks if check.level == "problem"] == []
    assert {check.name for check in checks} == {
        "glibc", "numpy", "libpython", "tritonserver", "stub",
        "ports", "ipv6", "files", "instances", "shm", "state", "traces", "model", "cpu",
    }  # fmt: skip


def test_a_taken_port_is_named_with_what_to_do(settings: Settings) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", settings.grpc_port))
        other.listen()
        check = check_named(settings, "ports")
    assert check.level == "problem"
    assert f"grpc port {settings.grpc_port} on 127.0.0.1: Address already in use" in check.found
    assert "--grpc-port" in check.remedy


def test_serve_ends_with_2_where_a_port_is_taken(
    server: Server, launch: Callable[..., Server], repository: Path
) -> None:
    second = launch(repository, ports=server.ports)
    assert second.wait() == 2
    assert f"http port {server.ports[0]} on 127.0.0.1: Address already in use" in second.text()
    assert "ok " not in second.text()


@pytest.mark.parametrize(
    ("free", "instances", "level"), [(64, 16, "problem"), (64, 6, "warning"), (64, 2, "ok"), (7, 1, "problem")]
)
def test_shared_memory_must_hold_two_generations(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, free: int, instances: int, level: str
) -> None:
    """C 30."""
    monkeypatch.setattr(os, "statvfs", lambda _: SimpleNamespace(f_bavail=free * 256, f_frsize=4096, f_flag=0))
    check = check_named(replace(settings, instances=instances), "shm")
    assert check.level == level
    assert f"{free} MiB free in /dev/shm" in check.found
    if level != "ok":
        assert "--shm-size" in check.remedy


def test_a_single_process_is_warned_of(settings: Settings) -> None:
    check = check_named(replace(settings, instances=1), "instances")
    assert (check.level, check.remedy) == ("warning", "Start two: --instances 2.")
    assert check_named(settings, "instances").level == "ok"


def test_a_small_shared_memory_for_real(settings: Settings) -> None:
    """C 30, with a /dev/shm of the 64 MB that docker gives."""
    if shutil.which("unshare") is None or subprocess.run(["unshare", "-m", "true"], check=False).returncode:
        pytest.skip("to mount another /dev/shm takes root")
    doctor = (
        "mount -t tmpfs -o size=64m tmpfs /dev/shm && exec "
        f"{sys.executable} -c 'from newsdesk.server.serving.commands import doctor; import typer; typer.run(doctor)' "
        f"--model-repository {settings.model_repository} --state {settings.state} --instances 32"
    )
    ran = subprocess.run(["unshare", "-m", "sh", "-c", doctor], capture_output=True, text=True, check=False)
    assert ran.returncode == 2
    assert "64 MiB free in /dev/shm; 32 instances need 256 MiB to start and to heal" in ran.stdout


def test_a_changed_file_is_refused_with_the_repair(settings: Settings, tmp_path: Path) -> None:
    """E 48, 56."""
    repository = write_repository(tmp_path / "models")
    graph = repository / "ag_news" / "1" / "model.int8.onnx"
    graph.write_bytes(b"half of it")
    check = check_named(replace(settings, model_repository=repository), "model")
    assert check.level == "problem"
    assert f"{graph}: sha256 is" in check.found
    assert "git checkout model_repository" in check.found


def test_a_target_without_its_graph_is_refused(settings: Settings) -> None:
    check = check_named(replace(settings, target="openvino:fp32"), "model")
    assert check.level == "problem"
    assert "member stand-in has no fp32 graph, only int8" in check.found
    check = check_named(replace(settings, target="minilm=openvino:int8"), "model")
    assert check.level == "problem"
    assert "names minilm, but the members are stand-in" in check.found


def test_an_absent_model_says_where_to_get_it(settings: Settings, tmp_path: Path) -> None:
    check = check_named(replace(settings, model_repository=tmp_path / "nowhere"), "model")
    assert check.level == "problem"
    assert "newsdesk build --recipe compact" in check.found


def test_a_processor_without_vnni_is_a_warning_that_says_why(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """G 78."""
    (tmp_path / "cpuinfo").write_text("flags\t\t: fpu avx2\n")
    monkeypatch.setattr(processor, "CPUINFO", tmp_path / "cpuinfo")
    check = preflight._cpu(["avx512_vnni"])
    assert check.level == "warning"
    assert "avx512_vnni" in check.found
    assert "int8 answers can differ" in check.remedy
    assert preflight._cpu(["avx2"]).level == "ok"


def test_no_shared_libpython_says_what_to_install(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """C 36."""
    monkeypatch.setattr(preflight, "find_libpython", lambda: None)
    monkeypatch.setattr(preflight, "loader_has_libpython", lambda: False)
    check = check_named(settings, "libpython")
    assert check.level == "problem"
    assert "apt install libpython3" in check.remedy


def test_a_python_without_a_stub_is_refused(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """C 36."""
    monkeypatch.setattr(triton, "sys", SimpleNamespace(version_info=SimpleNamespace(major=3, minor=99)))
    check = check_named(settings, "triton")
    assert check.level == "problem"
    assert "no stub for Python 3.99, only for 3.8, 3.9, 3.10, 3.11" in check.found


def test_an_old_libstdcxx_is_recognised(tmp_path: Path) -> None:
    """C 36: a loader that fails may end with 1, as a healthy stub does."""
    broken = tmp_path / "broken"
    complaint = "$0: /lib/libstdc++.so.6: version \\`GLIBCXX_3.4.30' not found (required by $0)"
    broken.write_text(f'#!/bin/sh\necho "{complaint}" >&2\nexit 1\n')
    broken.chmod(broken.stat().st_mode | stat.S_IXUSR)
    installation = replace(triton.find_installation(), stub=broken)
    server, stub = preflight._binaries(installation)
    assert server.level == "ok"
    assert stub.level == "problem"
    assert "GLIBCXX_3.4.30" in stub.found
    assert "apt install libstdc++6" in stub.remedy


def test_an_old_glibc_and_numpy_2_are_refused(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "confstr", lambda _: "glibc 2.31")
    monkeypatch.setattr(importlib.metadata, "version", lambda _: "2.1.0")
    checks = {checked.name: checked for checked in check(settings)}
    assert checks["glibc"].level == checks["numpy"].level == "problem"
    assert "glibc 2.31; tritonserver needs glibc 2.35" in checks["glibc"].found
    assert checks["numpy"].remedy == "pip install 'numpy>=1.26,<2'"


def test_an_address_of_another_machine_is_refused(settings: Settings) -> None:
    check = check_named(replace(settings, host="192.0.2.1", expose=("triton",)), "ports")
    assert check.level == "problem"
    assert "on 192.0.2.1: Cannot assign requested address" in check.found
    assert check.remedy.endswith("--host.")


def test_a_machine_without_ipv6_refuses_it_by_name(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    real = socket.socket

    def only_ipv4(family: int, *rest: int) -> socket.socket:
        if family == socket.AF_INET6:
            raise OSError(errno.EAFNOSUPPORT, os.strerror(errno.EAFNOSUPPORT))
        return real(family, *rest)

    monkeypatch.setattr(socket, "socket", only_ipv4)
    assert "only IPv4 addresses" in check_named(settings, "ipv6").found
    check = check_named(replace(settings, host="::1"), "ports")
    assert "on ::1: Address family not supported" in check.found
    assert "Name an address that this machine has" in check.remedy
    assert check_named(settings, "ports").level == "ok"


def test_no_password_of_the_collector_is_shown(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    for scheme, level in ("http", "ok"), ("ftp", "problem"):
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"{scheme}://user:sesame@collector:4318")
        check = check_named(settings, "traces")
        assert (check.level, "sesame" in check.found) == (level, False)
        assert f"{scheme}://…@collector:4318" in check.found


def test_few_open_files_are_a_warning(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1024, 1024))
    check = check_named(settings, "files")
    assert (check.level, check.found) == ("warning", "at most 1024 files and connections open at once")
    assert "LimitNOFILE=" in check.remedy
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1024, resource.RLIM_INFINITY))
    check = check_named(settings, "files")
    assert (check.level, check.found.split(" files")[0]) == ("ok", "up to 1048576")
    assert "1024 until serve raises it" in check.found


@pytest.mark.parametrize(
    ("policy", "shown"),
    [
        ("specific { versions: [ 1, 2 ] }", "specific { versions: 1 versions: 2 }"),
        ("all { }", "all { }"),
        ("latest { num_versions: 2 }", "latest { num_versions: 2 }"),
        ("latest { num_versions: 1 }", ""),
    ],
)
def test_a_version_policy_of_another_kind_is_refused_by_name(
    settings: Settings, tmp_path: Path, policy: str, shown: str
) -> None:
    repository = write_repository(tmp_path / "models")
    with (repository / "ag_news" / "config.pbtxt").open("a") as config:
        config.write(f"version_policy {{ {policy} }}\n")
    (check, *_) = preflight._model(replace(settings, model_repository=repository), "ag_news")
    assert check.level == ("problem" if shown else "ok")
    if shown:
        assert f"config.pbtxt: version_policy is {{ {shown} }}, expected none" in check.found
        with pytest.raises(RepositoryError, match="version_policy"):
            workspace.Workspace(tmp_path / "state").render(repository / "ag_news", {}, 1)
