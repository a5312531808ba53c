"""A real tritonserver with a stand-in model of the served contract: answers come from keywords, refusals are real."""

import contextlib
import subprocess
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import psutil

from newsdesk.server.serving.triton import Installation, environment, find_installation
from tests import launching

MEMBERS = ("stand-in", "careful")


@dataclass(frozen=True)
class Ports:
    http: int
    grpc: int

    @property
    def both(self) -> list[int]:
        return [self.http, self.grpc]

    @property
    def http_url(self) -> str:
        return f"http://127.0.0.1:{self.http}"

    @property
    def grpc_url(self) -> str:
        return f"grpc://127.0.0.1:{self.grpc}"


STANDIN = Path(__file__).with_name("standin_model.py")


def write_repository(folder: Path, model: str = "", processes: int = 2) -> Path:
    """Write a model repository with the stand-in, or another model's text, as `ag_news`, in so many processes."""
    written = launching.write_repository(folder, model or STANDIN.read_text(), MEMBERS)
    with (written / "ag_news" / "config.pbtxt").open("a") as config:
        config.write(f"instance_group {{ kind: KIND_CPU count: {processes} }}\n")
    return written


def write_backends(folder: Path, installation: Installation) -> Path:
    """Link the wheel's Python backend together with the stub of the running Python, outside site-packages."""
    python = folder / "python"
    python.mkdir(parents=True)
    for file in (*installation.backend.iterdir(), installation.stub):
        if not (python / file.name).exists():
            (python / file.name).symlink_to(file)
    return folder


class Triton:
    """A tritonserver over a repository in `folder`, on ports that stay the same when it is started again."""

    def __init__(self, folder: Path, model: str = "", processes: int = 2) -> None:
        self.ports = Ports(*launching.free_ports()[:2])
        self._installation = find_installation()
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        write_repository(folder / "models", model, processes)
        write_backends(folder / "backends", self._installation)

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start without waiting."""
        command = [
            str(self._installation.binary),
            f"--model-repository={self._folder / 'models'}",
            f"--backend-directory={self._folder / 'backends'}",
            "--backend-config=python,shm-default-byte-size=4194304",
            f"--backend-config=python,shm-region-prefix-name=newsdesk-test-{self.ports.grpc}-",
            "--http-address=127.0.0.1",
            "--grpc-address=127.0.0.1",
            f"--http-port={self.ports.http}",
            f"--grpc-port={self.ports.grpc}",
            "--model-control-mode=explicit",
            "--load-model=ag_news",
            "--allow-metrics=false",
            "--exit-timeout-secs=1",
        ]
        with (self._folder / "log.txt").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, env=environment(self._installation))

    def wait(self, seconds: float = 60) -> None:
        """Wait until the model is ready. Raises RuntimeError with the end of the log when it does not become so."""
        assert self._process is not None
        end = time.monotonic() + seconds
        while time.monotonic() < end and self._process.poll() is None:
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"{self.ports.http_url}/v2/models/ag_news/ready", timeout=2).close()
                return
            time.sleep(0.1)
        log = (self._folder / "log.txt").read_text(errors="replace")
        raise RuntimeError(f"tritonserver is not ready: {log[-4000:]}")

    def kill(self) -> None:
        """End the server as a machine that loses its power, with no time for anything."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(5)

    def stop(self) -> None:
        """Ask the server to stop, and make it when it does not."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(15)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(5)
        self._process = None
        self._end_stubs()
        for left in Path("/dev/shm").glob(f"newsdesk-test-{self.ports.grpc}-*"):  # by processes that were made to stop
            left.unlink()

    def _end_stubs(self) -> None:
        """End backend processes that outlived a server that was killed: nothing watches over this one."""
        for process in psutil.process_iter(["exe", "cmdline"]):
            if str(self._folder) in "".join(process.info["cmdline"] or ()) and process.name().startswith(
                "triton_python"
            ):
                process.kill()
