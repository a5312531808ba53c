"""Another user of the machine reads nothing of a server, and gets nothing from it with all that."""

import re
from pathlib import Path

import pytest

from newsdesk.server.serving import privacy
from newsdesk.server.serving.triton import environment, find_installation
from tests.launching import SHM, Server
from tests.strangers import as_nobody, needs_root, readable, send_grpc, send_http

_MANAGEMENT = {
    "POST /v2/repository/index": b"{}",
    "POST /v2/repository/models/ag_news/load": b'{"parameters":{"file:1/model.py":"cmFpc2U="}}',
    "POST /v2/repository/models/ag_news/unload": b"{}",
    "GET /v2/systemsharedmemory/status": b"",
    "POST /v2/systemsharedmemory/region/all/register": b'{"key":"/x","offset":0,"byte_size":8}',
    "POST /v2/systemsharedmemory/unregister": b"{}",
    "GET /v2/cudasharedmemory/region/all/status": b"",
    "POST /v2/cudasharedmemory/region/all/register": b'{"raw_handle":{"b64":""},"device_id":0,"byte_size":8}',
    "POST /v2/cudasharedmemory/region/all/unregister": b"{}",
    "POST /v2/repository/named/index": b"{}",
    "POST /v2/models/ag_news/trace/setting": b'{"trace_level":["TIMESTAMPS"]}',
    "GET /v2/trace/setting": b"",
    "POST /v2/trace/setting": b'{"trace_level":["TIMESTAMPS"]}',
    "GET /v2/logging": b"",
    "POST /v2/logging": b'{"log_verbose_level":1}',
}
_CALLS = (
    "RepositoryIndex", "RepositoryModelLoad", "RepositoryModelUnload", "SystemSharedMemoryStatus",
    "SystemSharedMemoryRegister", "SystemSharedMemoryUnregister", "CudaSharedMemoryStatus", "CudaSharedMemoryRegister",
    "CudaSharedMemoryUnregister", "TraceSetting", "LogSettings",
)  # fmt: skip


def test_nobody_manages_it_with_whatever_the_command_lines_say(server: Server) -> None:
    """The server refuses whatever the header; it would take one that could be sent (a name without a colon)."""
    http, grpc, _ = server.ports
    lines = [Path(f"/proc/{process.pid}/cmdline").read_bytes() for process in server.family()]
    ((name, value),) = set(re.findall(rb"restricted-\w+=[\w,-]+:([^=\0]+)=([^\0]+)", b"".join(lines)))
    assert len(lines) == 3
    for header in b"", name + b": " + value, name.replace(b":", b": ", 1), name.split(b":")[0] + b": " + value:
        for route, body in _MANAGEMENT.items():
            method, path = route.split()
            assert send_http(http, method, path, body, header) in (0, 403), (route, header)
    assert send_http(http, "GET", "/v2/health/ready") == 200
    for prefix in b"", b"triton-grpc-protocol-":
        for call in _CALLS:
            assert send_grpc(grpc, call) != "ok"
            assert send_grpc(grpc, call, (prefix + name, value)) != "ok", (call, prefix)
    assert send_grpc(grpc, "ServerReady", (b"triton-grpc-protocol-nobody", b"never")) == "ok"
    assert server.classify()[0] == 200


def test_no_spelling_of_a_refused_route_is_answered(server: Server) -> None:
    http = server.ports[0]
    for route, body in _MANAGEMENT.items():
        method, path = route.split()
        spellings = [f"{path}?x=1", f"http://x{path}"]  # which are the same, and so refused
        assert {send_http(http, method, spelling, body) for spelling in spellings} == {403}, route
        spellings = [f"{path}/", f"/{path}", f"/x/..{path}", f"{path};x", f"{path}#x", path.upper()]
        spellings += [path.replace("/v2", "/v2/"), path.replace("/v2", "/v2/."), path.replace("e", "%65")]
        for spelling in spellings:
            assert send_http(http, method, spelling, body) in (0, 400, 403, 404, 405), spelling
        for other in "GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS":
            assert send_http(http, other, path, body) in (0, 400, 403, 404, 405), (other, path)
    assert server.classify()[0] == 200


def test_no_variable_of_a_platform_opens_a_port_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Vertex AI's AIP_MODE does, on every address, and Triton's restrictions do not hold there."""
    monkeypatch.setenv("AIP_MODE", "PREDICTION")
    monkeypatch.setenv("AIP_HTTP_PORT", "8080")
    assert "AIP_MODE" not in environment(find_installation())


@needs_root
def test_another_user_reads_neither_texts_nor_logs_nor_the_environment(server: Server) -> None:
    assert server.classify("a text that is nobody's business")[0] == 200
    mine = [f"/proc/{process.pid}/{name}" for process in server.family() for name in ("environ", "mem", "fd", "cwd")]
    regions = [str(SHM / name) for name in server.shm()]
    state = [str(path) for path in (server.state, *server.state.rglob("*"))]
    assert len(regions) == 2
    assert any(path.endswith(".log") for path in state)
    assert as_nobody(lambda: readable("/proc/self/cmdline", *mine, *regions, *state)) == ["/proc/self/cmdline"]
    private = [*regions, server.state, server.state / "log", server.state / "run", *server.state.rglob("*.log")]
    modes = {str(path): Path(path).stat().st_mode & 0o077 for path in private}  # whatever the folders above allow
    assert set(modes.values()) == {0}, modes


@needs_root
def test_another_user_signals_nothing(server: Server) -> None:
    """Loads and unloads are signals to the server's process, which its own user alone can send."""

    def signal_all() -> list[int]:
        import os
        import signal

        sent = []
        for pid in server.process.pid, *(process.pid for process in server.family()):
            try:
                os.kill(pid, signal.SIGUSR2)
                sent.append(pid)
            except PermissionError:
                continue
        return sent

    assert as_nobody(signal_all) == []


def test_what_a_server_of_before_left_open_is_closed(tmp_path: Path) -> None:
    for folder in "log", "run":
        (tmp_path / folder).mkdir(mode=0o755)
    log = tmp_path / "log" / "tritonserver-8000.log"
    log.touch(0o644)
    tmp_path.chmod(0o755)
    privacy.close(tmp_path)
    assert [path.stat().st_mode & 0o777 for path in (tmp_path / "log", tmp_path / "run", log)] == [0o700, 0o700, 0o600]
    assert tmp_path.stat().st_mode & 0o777 == 0o755  # its owner's business


def test_a_log_without_room_swallows_what_is_written(tmp_path: Path) -> None:
    (tmp_path / "log").touch()  # no folder
    with privacy.open_log(tmp_path / "log" / "a.log") as log:
        assert isinstance(log, int)
    with privacy.open_log(tmp_path / "logs" / "a.log") as log:
        assert not isinstance(log, int)
        log.write(b"x")
    assert (tmp_path / "logs" / "a.log").read_bytes() == b"x"
