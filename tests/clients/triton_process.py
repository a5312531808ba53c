"""A real tritonserver with a stand-in model of the served contract: answers come from keywords, refusals are real."""

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import sysconfig
import time
import urllib.request
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

LABELS = ("World", "Sports", "Business", "Sci/Tech")
MAX_BATCH = 64

CONFIG = f"""
backend: "python"
max_batch_size: {MAX_BATCH}
dynamic_batching {{ max_queue_delay_microseconds: 500 }}
input [
  {{ name: "TEXT" data_type: TYPE_STRING dims: [ 1 ] }},
  {{ name: "QUALITY" data_type: TYPE_STRING dims: [ 1 ] optional: true }}
]
output [
  {{ name: "LABEL" data_type: TYPE_STRING dims: [ 1 ] }},
  {{ name: "PROBABILITIES" data_type: TYPE_FP32 dims: [ {len(LABELS)} ] label_filename: "labels.txt" }},
  {{ name: "ANSWERED_BY" data_type: TYPE_STRING dims: [ 1 ] }},
  {{ name: "WINDOWS" data_type: TYPE_INT32 dims: [ 1 ] }},
  {{ name: "MEMBER_PROBABILITIES" data_type: TYPE_FP32 dims: [ 2, {len(LABELS)} ] }}
]
parameters {{ key: "members" value: {{ string_value: "standin,careful" }} }}
instance_group [ {{ kind: KIND_CPU count: 2 }} ]
"""


@dataclass(frozen=True)
class Ports:
    http: int
    grpc: int

    @property
    def http_url(self) -> str:
        return f"http://127.0.0.1:{self.http}"

    @property
    def grpc_url(self) -> str:
        return f"grpc://127.0.0.1:{self.grpc}"


def free_ports() -> Ports:
    """Two loopback ports that were free a moment ago."""
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(2)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        http, grpc = (one.getsockname()[1] for one in sockets)
    return Ports(http, grpc)


def write_repository(folder: Path) -> Path:
    """Write a model repository with the stand-in as `ag_news`."""
    version = folder / "ag_news" / "1"
    version.mkdir(parents=True)
    (folder / "ag_news" / "config.pbtxt").write_text(CONFIG)
    (folder / "ag_news" / "labels.txt").write_text("\n".join(LABELS) + "\n")
    shutil.copy(Path(__file__).with_name("standin_model.py"), version / "model.py")
    return folder


def write_backends(folder: Path) -> Path:
    """Link the wheel's Python backend together with the stub of the running Python, outside site-packages."""
    wheel = _wheel()
    python = folder / "python"
    python.mkdir(parents=True)
    for file in (wheel / "backends" / "python").iterdir():
        (python / file.name).symlink_to(file)
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    stub = wheel / "python_backend_stubs" / version / "triton_python_backend_stub"
    (python / stub.name).symlink_to(stub)
    return folder


class Triton:
    """A tritonserver over a repository in `folder`, on ports that stay the same when it is started again."""

    def __init__(self, folder: Path) -> None:
        self.ports = free_ports()
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        write_repository(folder / "models")
        write_backends(folder / "backends")

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start without waiting."""
        # The stub embeds Python without reading PYTHONPATH or PYTHONHOME: it takes the python3 that PATH names first
        # as its own, and with it that environment's packages.
        environment = os.environ | {
            "LD_LIBRARY_PATH": f"{sysconfig.get_config_var('LIBDIR')}:{os.environ.get('LD_LIBRARY_PATH', '')}",
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        }
        command = [
            str(_wheel() / "bin" / "tritonserver"),
            f"--model-repository={self._folder / 'models'}",
            f"--backend-directory={self._folder / 'backends'}",
            "--backend-config=python,shm-default-byte-size=4194304",
            f"--backend-config=python,shm-region-prefix-name=newsdesk-test-{self.ports.grpc}-",
            "--http-address=127.0.0.1",
            "--grpc-address=127.0.0.1",
            f"--http-port={self.ports.http}",
            f"--grpc-port={self.ports.grpc}",
            "--allow-metrics=false",
            "--exit-timeout-secs=1",
        ]
        with (self._folder / "log.txt").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)

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
        for left in Path("/dev/shm").glob(f"newsdesk-test-{self.ports.grpc}-*"):  # by processes that were made to stop
            left.unlink()


def _wheel() -> Path:
    spec = find_spec("pytriton")
    if spec is None or spec.origin is None:
        raise RuntimeError("these tests need tritonserver: pip install 'newsdesk[serve]'")
    return Path(spec.origin).parent / "tritonserver"
