"""A stand-in model with the served contract, and `newsdesk serve` around it, as a user starts it."""

import contextlib
import http.client
import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Self

import pytest

from newsdesk.server.machine import processes
from newsdesk.server.runtime import cascade, manifest
from newsdesk.server.serving.triton import STUB
from tests import threads
from tests.holding import until

SHM = Path("/dev/shm")
CONFIG = """
name: "ag_news"
backend: "python"
max_batch_size: 64
input { name: "TEXT" data_type: TYPE_STRING dims: 1 }
input { name: "QUALITY" data_type: TYPE_STRING dims: 1 optional: true }
output { name: "LABEL" data_type: TYPE_STRING dims: 1 }
output { name: "PROBABILITIES" data_type: TYPE_FP32 dims: 4 label_filename: "labels.txt" }
output { name: "ANSWERED_BY" data_type: TYPE_STRING dims: 1 }
output { name: "WINDOWS" data_type: TYPE_INT32 dims: 1 }
output { name: "MEMBER_PROBABILITIES" data_type: TYPE_FP32 dims: [ 1, 4 ] }
output { name: "UNCERTAINTY" data_type: TYPE_FP32 dims: 3 }
output { name: "UNSURE" data_type: TYPE_BOOL dims: 1 }
parameters { key: "members" value: { string_value: "stand-in" } }
dynamic_batching { }
"""
OPTIONS = ("--target", "openvino:int8", "--instances", "2", "--no-gateway")
SERVE = "from newsdesk.server.serving.commands import serve; import typer; typer.run(serve)"
LABELS = ["World", "Sports", "Business", "Sci/Tech"]
MODEL = """
import json, os, sys
import numpy as np
import triton_python_backend_utils as pb_utils

ANSWERED_BY = "stand-in"

class TritonPythonModel:
    def initialize(self, args):
        import newsdesk.server.runtime as ensemble
        from newsdesk.server.runtime import lifeline
        lifeline.hold()
        parameters = json.loads(args["model_config"])["parameters"]
        self.about = json.dumps({
            "pid": os.getpid(), "prefix": sys.prefix, "python": sys.version.split()[0], "path": sys.path,
            "ensemble": ensemble.__file__, "threads": os.environ["OMP_NUM_THREADS"],
            "parallel": os.environ["TOKENIZERS_PARALLELISM"],
            "parameters": {name: one["string_value"] for name, one in parameters.items()},
        })

    def execute(self, requests):
        responses = []
        for request in requests:
            texts = pb_utils.get_input_tensor_by_name(request, "TEXT").as_numpy()
            n = len(texts)
            rows = np.tile(np.float32([0.1, 0.1, 0.7, 0.1]), (n, 1))
            about = [self.about if text == b"about" else ANSWERED_BY for text in texts.ravel()]
            responses.append(pb_utils.InferenceResponse([
                pb_utils.Tensor("LABEL", np.full((n, 1), b"Business", np.object_)),
                pb_utils.Tensor("PROBABILITIES", rows),
                pb_utils.Tensor("ANSWERED_BY", np.array(about, np.object_).reshape(n, 1)),
                pb_utils.Tensor("WINDOWS", np.ones((n, 1), np.int32)),
                pb_utils.Tensor("MEMBER_PROBABILITIES", rows[:, None]),
                pb_utils.Tensor("UNCERTAINTY", np.tile(np.float32([0.75, 0.5, 0.25]), (n, 1))),
                pb_utils.Tensor("UNSURE", np.zeros((n, 1), np.bool_)),
            ]))
        return responses
"""


def write_repository(
    root: Path, model: str = MODEL, members: Sequence[str] = ("stand-in",), name: str = "ag_news"
) -> Path:
    """Write a model into a repository, with a manifest that holds, and a stand-in for the model."""
    version = root / name / "1"
    version.mkdir(parents=True)
    config = (
        CONFIG.replace('"ag_news"', f'"{name}"')
        .replace('"stand-in"', f'"{",".join(members)}"')
        .replace("[ 1, 4 ]", f"[ {len(members)}, 4 ]")
    )
    (root / name / "config.pbtxt").write_text(config)
    (root / name / "labels.txt").write_text("\n".join(LABELS) + "\n")
    (version / "model.py").write_text(model)
    files = {}
    for file in "tokenizer.json", "model.int8.onnx":
        (version / file).write_text(file)
        files[file] = manifest.File(path=file, sha256=manifest.digest(version / file))
    written = manifest.Manifest(
        schema=manifest.SCHEMA,
        name=name,
        labels=LABELS,
        members=[
            manifest.Member(
                name=member,
                kind="encoder",
                tokenizer=files["tokenizer.json"],
                graphs={"int8": files["model.int8.onnx"]},
                max_length=128,
                pad_id=0,
            )
            for member in members
        ],
        cascade=[cascade.alone(member, len(LABELS)) for member in members],
        target="openvino:int8",
    )
    manifest.save(written, version)
    return root


def free_ports(count: int = 3) -> list[int]:
    """Return different ports that were free a moment ago."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for bound in sockets:
            bound.bind(("127.0.0.1", 0))
        return [bound.getsockname()[1] for bound in sockets]


def ours() -> set[str]:
    """Return newsdesk's files in /dev/shm, whoever's."""
    return {file.name for file in SHM.glob("newsdesk-*")}


@dataclass
class Server:
    """A `newsdesk serve` of its own process, as a user starts it."""

    repository: Path
    state: Path
    options: list[str] = field(default_factory=lambda: list(OPTIONS))
    ports: list[int] = field(default_factory=free_ports)
    program: list[str] = field(default_factory=lambda: [sys.executable, "-c", SERVE])
    folder: Path | None = None
    """The folder that it is started in; None = here."""

    def start(self) -> "Server":
        self.output = self.state.parent / f"{self.state.name}.txt"
        flags = zip(("--http-port", "--grpc-port", "--metrics-port"), map(str, self.ports), strict=True)
        command = self.program + [part for pair in flags for part in pair]
        command += ["--model-repository", str(self.repository), "--state", str(self.state), *self.options]
        with self.output.open("wb") as file:
            self.process = subprocess.Popen(command, stdout=file, stderr=file, cwd=self.folder, env=threads.unbound())
        return self

    def until(self, line: str, seconds: float = 60, count: int = 1) -> str:
        """Wait until the server has said something `count` times."""
        deadline = time.monotonic() + seconds
        while self.text().count(line) < count:
            if self.process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"{line!r} was not said (exit code {self.process.poll()}):\n{self.text()}")
            time.sleep(0.05)
        return self.text()

    def text(self) -> str:
        return self.output.read_text()

    def wait(self, seconds: float = 60) -> int:
        return self.process.wait(seconds)

    def tritonserver(self) -> processes.Process:
        (triton,) = processes.children(self.process.pid, "tritonserver")
        return triton

    def stubs(self) -> list[processes.Process]:
        return sorted(processes.children(self.tritonserver().pid, STUB), key=lambda process: process.pid)

    def family(self) -> list[processes.Process]:
        return [self.tritonserver(), *self.stubs()]

    def shm(self) -> list[str]:
        return [file.name for file in SHM.glob(f"newsdesk-*-{self.process.pid}-*")]

    def ask(self, path: str, body: Any = None, headers: dict[str, str] | None = None) -> tuple[int, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self.ports[0], timeout=30)
        try:
            method = "GET" if body is None else "POST"
            connection.request(method, path, None if body is None else json.dumps(body), headers or {})
            response = connection.getresponse()
            raw = response.read()
        finally:
            connection.close()
        return response.status, json.loads(raw) if raw else {}

    def classify(self, text: str = "x") -> tuple[int, dict[str, Any]]:
        inputs = [{"name": "TEXT", "shape": [1, 1], "datatype": "BYTES", "data": [text]}]
        status, answer = self.ask("/v2/models/ag_news/infer", {"inputs": inputs})
        return status, {output["name"]: output["data"] for output in answer.get("outputs", ())} or answer

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def dismiss(self) -> None:
        """Ask it to stop. It is waited for when all tests are over: Triton takes a second and more to end."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            _dismissed.append(self)


_dismissed: list[Server] = []


def end_dismissed() -> None:
    """End the servers that stop yet, at once: to be asked twice hurries them."""
    for server in _dismissed:
        server.stop()


class Callers:
    """Threads that ask until they are told that it is over."""

    def __init__(self, *asks: Callable[[], None]) -> None:
        self._over = threading.Event()
        self._threads = [threading.Thread(target=ask) for ask in asks]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()


class Load(Callers):
    """Four clients that ask without a pause until told to stop, and what came of it."""

    def __init__(self, server: Server) -> None:
        super().__init__(*[partial(self._ask, client) for client in range(4)])
        self._server, self.outcomes, self._asked = server, Counter[str](), Counter[int]()

    def go_on(self, outcomes: int) -> None:
        """Wait for so many more outcomes of each client: whatever was in flight before has come to an end then."""
        wanted = {client: self._asked[client] + outcomes for client in range(4)}
        until(lambda: all(self._asked[client] >= least for client, least in wanted.items()))

    def _ask(self, client: int) -> None:
        while not self._over.is_set():
            try:
                status, answer = self._server.classify()
                self.outcomes["ok" if status == 200 else str(answer)] += 1
            except OSError as error:
                self.outcomes[repr(error)] += 1
            self._asked[client] += 1
            time.sleep(0.005)


def gone(family: list[processes.Process], seconds: float) -> bool:
    """Wait until none of the processes lives."""
    deadline = time.monotonic() + seconds
    while any(process.alive for process in family):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True
