"""The peers: how each is started, asked and read. One thread a core in all of them, whichever way each spends them."""

import json
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import servers
from benchmarks.peers import environments
from benchmarks.peers.triton_tutorial import repository
from newsdesk.server.contract import LABEL, TEXT
from newsdesk.server.serving import triton, workspace

HERE = Path(__file__).parent
BATCH = 8
"""Texts a batch of a peer that batches holds: on a CPU a longer one only pads more."""
_FIRST = "Wall Street bears claw back into the black"


@dataclass(frozen=True)
class Peer:
    """A server to measure: how it is set up, where a POST goes, its JSON, and the label in its answer's JSON."""

    name: str
    setup: str
    start: Callable[[], AbstractContextManager[servers.Server]]
    path: str
    body: Callable[[str], Any]
    label: Callable[[Any], str]
    environment: str = ""
    """The requirements file of its environment; empty for newsdesk's own."""

    def request(self, text: str) -> bytes:
        return json.dumps(self.body(text)).encode()


@dataclass(frozen=True)
class Setting:
    """The means of all peers: the checkpoint, its ONNX files (fp32/, int8/), the environments' folder, the cores."""

    checkpoint: Path
    onnx: Path
    cache: Path
    cores: int

    def python(self, name: str) -> str:
        return str(environments.python(name, self.cache))


def all_peers(setting: Setting, repository_of_one: Path, shipped: bool) -> list[Peer]:
    """Return newsdesk and every peer; `repository_of_one` holds the same one member for newsdesk to serve, and
    `shipped` says whether it is measured with the shipped model, too.
    """
    cores = setting.cores
    newsdesks = [
        Peer(
            name,
            f"{cores} backend processes of 1 thread, {model}",
            lambda flags=flags: servers.newsdesk(*flags, "--instances", str(cores), "--threads", "1"),
            "/v2/models/ag_news/infer",
            _oip,
            _oip_label,
        )
        for name, model, flags in (
            ("newsdesk", "the same one member, int8", ("--model-repository", str(repository_of_one))),
            ("newsdesk, all members", "the shipped model", ()),
        )
    ][: 1 + shipped]
    pipelines = [
        Peer(
            f"FastAPI + pipeline, {workers}×{threads}",
            f"uvicorn, {workers} workers of {threads} threads, torch fp32",
            lambda workers=workers, threads=threads: servers.fastapi_pipeline(
                setting.checkpoint, workers, threads, setting.python("fastapi")
            ),
            "/classify",
            lambda text: {"text": text},
            lambda answer: answer["label"],
            "fastapi",
        )
        for workers, threads in ((cores, 1), (1, cores))
    ]
    mlservers = [
        Peer(
            name,
            f"{cores} parallel workers of 1 thread, adaptive batching of {BATCH}, {kind}",
            lambda folder=folder, optimum=optimum: _mlserver(setting, folder, optimum),
            "/v2/models/member/infer",
            lambda text: {"inputs": [{"name": "array_inputs", "shape": [1], "datatype": "BYTES", "data": [text]}]},
            lambda answer: json.loads(answer["outputs"][0]["data"][0])["label"],
            "mlserver",
        )
        for name, kind, folder, optimum in (
            ("MLServer, Hugging Face", "torch fp32", setting.checkpoint, False),
            ("MLServer, optimum", "ONNX Runtime dynamic int8", setting.onnx / "int8", True),
        )
    ]
    plain = {"body": lambda text: {"text": text}, "label": lambda answer: answer["label"]}
    return [
        *newsdesks,
        *pipelines,
        *mlservers,
        Peer(
            "infinity",
            f"optimum engine, ONNX Runtime dynamic int8, {cores} threads, batches of 32",
            lambda: _infinity(setting),
            "/classify",
            lambda text: {"model": "member", "input": [text]},
            lambda answer: max(answer["data"][0], key=lambda candidate: candidate["score"])["label"],
            "infinity",
        ),
        Peer(
            "LitServe",
            f"{cores} workers of 1 thread, batches of {BATCH}, torch fp32",
            lambda: _script(setting, "litserve", "litserve_api.py", "/predict"),
            "/predict",
            **plain,
            environment="litserve",
        ),
        Peer(
            "Ray Serve",
            f"{cores} replicas of 1 core, batches of {BATCH}, torch fp32",
            lambda: _script(setting, "ray", "ray_deployment.py", "/"),
            "/",
            **plain,
            environment="ray",
        ),
        Peer(
            "Triton's tutorial",
            f"ensemble scheduling, {cores} instances of each step, ONNX Runtime fp32 padded to 128",
            lambda: _triton(setting),
            "/v2/models/ensemble/infer",
            _oip,
            _oip_label,
            "triton",
        ),
    ]


def _oip(text: str) -> Any:
    return {"inputs": [{"name": TEXT, "shape": [1, 1], "datatype": "BYTES", "data": [text]}]}


def _oip_label(answer: Any) -> str:
    return {each["name"]: each["data"] for each in answer["outputs"]}[LABEL][0]


def _threads(count: int) -> dict[str, str]:
    names = "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"
    return dict.fromkeys(names, str(count)) | {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}


@contextmanager
def _script(setting: Setting, name: str, script: str, path: str) -> Iterator[servers.Server]:
    (port,) = servers.free_ports(1)
    environment = _threads(1) | {
        "CHECKPOINT": str(setting.checkpoint),
        "WORKERS": str(setting.cores),
        "PORT": str(port),
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    command = [setting.python(name), str(HERE / script)]
    first = json.dumps({"text": _FIRST}).encode()
    with servers.running(command, port, path, first, environment=environment) as server:
        yield server


@contextmanager
def _mlserver(setting: Setting, folder: Path, optimum: bool) -> Iterator[servers.Server]:
    http, grpc, metrics = servers.free_ports(3)
    with tempfile.TemporaryDirectory() as home:
        own = {"host": "127.0.0.1", "http_port": http, "grpc_port": grpc, "metrics_port": metrics}
        own |= {"parallel_workers": setting.cores, "debug": False, "metrics_dir": home}
        (Path(home) / "settings.json").write_text(json.dumps(own))
        extra = {"task": "text-classification", "pretrained_model": str(folder), "optimum_model": optimum}
        model = {
            "name": "member",
            "implementation": "mlserver_huggingface.HuggingFaceRuntime",
            "max_batch_size": BATCH,
            "max_batch_time": 0.005,
            "parameters": {"extra": extra | {"framework": "pt"}},
        }
        (Path(home) / "model-settings.json").write_text(json.dumps(model))
        command = [setting.python("mlserver"), str(HERE / "mlserver_start.py"), "start", home]
        path = "/v2/models/member/ready"
        with servers.running(command, http, path, environment=_threads(1), grpc_port=grpc) as server:
            yield server


@contextmanager
def _infinity(setting: Setting) -> Iterator[servers.Server]:
    (port,) = servers.free_ports(1)
    command = [str(Path(setting.python("infinity")).with_name("infinity_emb")), "v2", "--engine", "optimum"]
    # Of a folder named by its path it would pass the graph's own path on, which optimum refuses.
    command += ["--model-id", ".", "--served-model-name", "member", "--device", "cpu"]
    command += ["--host", "127.0.0.1", "--port", str(port), "--no-model-warmup"]
    quiet = {"INFINITY_ANONYMOUS_USAGE_STATS": "0", "DO_NOT_TRACK": "1"}
    first = json.dumps({"model": "member", "input": [_FIRST]}).encode()
    environment = _threads(setting.cores) | quiet
    with servers.running(
        command, port, "/classify", first, environment=environment, folder=setting.onnx / "int8"
    ) as server:
        yield server


@contextmanager
def _triton(setting: Setting) -> Iterator[servers.Server]:
    """Run the tritonserver that newsdesk runs, with the peer's own Python in its backend processes."""
    http, grpc, metrics = servers.free_ports(3)
    installation = triton.find_installation()
    interpreter = Path(setting.python("triton"))
    with tempfile.TemporaryDirectory() as home:
        place = workspace.Workspace(Path(home))
        place.lay_out(installation.backend, installation.caches, installation.stub)
        repository.write(place.repository, setting.checkpoint, setting.onnx / "fp32" / "model.onnx", setting.cores)
        environment = triton.environment(installation) | _threads(1)
        environment |= {"VIRTUAL_ENV": str(interpreter.parent.parent)}
        environment["PATH"] = os.pathsep.join([str(interpreter.parent), environment["PATH"]])
        command = [str(installation.binary), f"--model-repository={place.repository}"]
        command += [f"--backend-directory={place.backends}", "--allow-gpu-metrics=false"]
        command += [f"--{kind}-address=127.0.0.1" for kind in ("http", "grpc", "metrics")]
        command += [f"--http-port={http}", f"--grpc-port={grpc}", f"--metrics-port={metrics}", "--log-info=false"]
        command += [f"--backend-config=python,shm-region-prefix-name={place.shm_prefix}"]
        with servers.running(
            command, http, "/v2/models/ensemble/ready", environment=environment, grpc_port=grpc, metrics_port=metrics
        ) as server:
            yield server
        place.clear_shm()
