"""A tritonserver laid out as in NVIDIA's container, made of pytriton's parts."""

import os
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from newsdesk.server.serving import preflight, triton
from newsdesk.server.serving.triton import STUB, TritonError, find_installation
from tests.launching import Server


@pytest.fixture(scope="module")
def container(tmp_path_factory: pytest.TempPathFactory) -> Path:
    here, root = find_installation(), tmp_path_factory.mktemp("opt") / "tritonserver"
    python = root / "backends" / "python"
    python.mkdir(parents=True)
    for part in here.backend.iterdir():
        (python / part.name).symlink_to(part)
    (python / STUB).symlink_to(here.stub)
    for name, part in {"bin": here.binary.parent, "lib": here.libraries, "caches": here.caches}.items():
        (root / name).symlink_to(part)
    return root


def test_it_serves(container: Path, repository: Path, tmp_path: Path) -> None:
    code = (
        "from pathlib import Path; from newsdesk.server.serving import triton; triton._pytriton = lambda: None; "
        f"triton.CONTAINER = Path({str(container)!r}); "
        "from newsdesk.server.serving.commands import serve; import typer; typer.run(serve)"
    )
    server = Server(repository, tmp_path / "state", program=[sys.executable, "-c", code]).start()
    try:
        server.until("Ctrl-C stops it")
        assert Path(f"/proc/{server.tritonserver().pid}/cmdline").read_bytes().startswith(str(container).encode())
        assert server.classify()[0] == 200
    finally:
        server.stop()


def test_a_stub_of_another_python_is_refused(container: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """C 36."""
    monkeypatch.setattr(triton, "_pytriton", lambda: None)
    monkeypatch.setattr(triton, "CONTAINER", container)
    assert find_installation().binary == container / "bin" / "tritonserver"
    other = tmp_path / "backends" / "python" / STUB
    other.parent.mkdir(parents=True)
    other.write_bytes(b"\x7fELF libpython3.10.so.1.0")
    monkeypatch.setattr(triton, "CONTAINER", tmp_path)
    with pytest.raises(TritonError, match=r"only for 3\.10\. Make the environment"):
        find_installation()


def test_a_state_folder_from_which_nothing_can_be_started_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A container's tmpfs is mounted so, unless told otherwise."""
    assert preflight._state(tmp_path).level == "ok"
    monkeypatch.setattr(os, "statvfs", lambda _: SimpleNamespace(f_flag=os.ST_NOEXEC))
    check = preflight._state(tmp_path)
    assert (check.level, check.found) == ("problem", f"{tmp_path}: its file system is mounted noexec")
