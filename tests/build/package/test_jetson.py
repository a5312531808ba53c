"""The archive for Jetson: packed, unpacked into an empty folder, and run there with nothing but what it asks for."""

import hashlib
import http.client
import json
import os
import re
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import msgspec
import numpy as np
import pytest

from newsdesk.build.errors import BuildError
from newsdesk.build.package.jetson import archive, device
from newsdesk.build.package.jetson.commands import Target, export
from newsdesk.server.runtime import engines, golden, gpu, manifest
from newsdesk.server.runtime.classifier import Classifier
from newsdesk.server.serving import triton
from newsdesk.server.serving.triton import find_installation
from tests import tiny
from tests.launching import free_ports

SHIPPED = Path(__file__).parents[3] / "model_repository" / "ag_news"
HEADLINES = ["Keeper saves two penalties in the final", "Oil climbs above its record"]


def write_tiny(root: Path) -> Path:
    """Write a model of which the repository has int8 alone, and the build's artifacts fp16, too."""
    model = root / "models" / "ag_news"
    made = tiny.write(model / "1")
    for name in "config.pbtxt", "labels.txt":
        (model / name).write_bytes((SHIPPED / name).read_bytes().replace(b"minilm", b"tiny"))
    half = root / "artifacts" / "quantise" / "key" / "model.fp16.onnx"
    half.parent.mkdir(parents=True)
    half.write_bytes((model / "1" / "tiny" / "model.fp32.onnx").read_bytes())
    built = [
        {"stage": "recipe", "command": "newsdesk build --recipe own.toml"},
        {"stage": "quantise", "name": "tiny", "key": "key", "files": {half.name: manifest.digest(half)}},
    ]
    (member,) = made.members
    member = msgspec.structs.replace(member, graphs={"int8": member.graphs["int8"]})
    made = msgspec.structs.replace(made, members=[member], built=built, target="onnxruntime:int8")
    manifest.save(made, model / "1")
    return model


def unpack(packed: Path, folder: Path) -> Path:
    with tarfile.open(packed) as file:
        file.extractall(folder, filter="data")
    return folder / archive.NAME


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bare environment with the archive's requirements alone."""
    folder = tmp_path_factory.mktemp("bare")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "env"], check=True)
    (folder / "requirements.txt").write_text(archive.REQUIREMENTS)
    pip = [sys.executable, "-m", "pip", "--python", folder / "env/bin/python", "install", "--quiet", "--no-compile"]
    subprocess.run([*pip, "--requirement", folder / "requirements.txt"], check=True)
    return folder / "env/bin/python"


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped model's archive, unpacked."""
    folder = tmp_path_factory.mktemp("device")
    return unpack(archive.pack(SHIPPED, folder / "no artifacts", folder, print), folder / "empty")


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A tiny model's archive, unpacked."""
    model = write_tiny(tmp_path)
    return unpack(archive.pack(model, tmp_path / "artifacts", tmp_path / "out", print), tmp_path / "empty")


def jetson(root: Path, python: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": "/usr/bin:/bin", "PYTHON": str(python)}
    return subprocess.run(
        [root / "jetson", *arguments], cwd="/", env=environment, capture_output=True, text=True, check=False
    )


def infer(port: int, texts: list[str], seconds: float = 150) -> dict[str, list]:
    tensor = {"name": "TEXT", "shape": [len(texts), 1], "datatype": "BYTES", "data": texts}
    deadline = time.monotonic() + seconds
    while True:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        try:
            connection.request("POST", "/v2/models/ag_news/infer", json.dumps({"inputs": [tensor]}))
            response = connection.getresponse()
            answer = json.loads(response.read())
            assert response.status == 200, answer
            return {output["name"]: output["data"] for output in answer["outputs"]}
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        finally:
            connection.close()


def test_the_archive_holds_what_a_device_needs_and_nobody_s_name(small: Path, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "out" / "newsdesk-jetson-ag_news.tar.gz") as file:
        entries = file.getmembers()
    assert {(entry.uid, entry.uname) for entry in entries} == {(0, "root")}
    assert {entry.name.split("/")[0] for entry in entries} == {archive.NAME}
    assert os.access(small / "jetson", os.X_OK)
    version = small / "model_repository" / "ag_news" / "1"
    (member,) = manifest.load(version).members
    assert sorted(member.graphs) == ["fp16", "int8"]
    with np.load(small / "golden" / golden.ARRAYS) as arrays:
        assert {"answers", "tiny/ids", "tiny/mask", "tiny/fp16", "tiny/int8"} == set(arrays)
    assert "| tiny | fp16 |" in (small / "README.md").read_text()
    subprocess.run(["sh", "-n", small / "jetson"], check=True)


def test_the_shipped_model_answers_from_an_empty_folder(shipped: Path, python: Path) -> None:
    checked = jetson(shipped, python, "check")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    for member in manifest.load(SHIPPED / "1").members:
        assert re.search(rf"^{member.name} onnxruntime:int8 .* 100\.0% ", checked.stdout, re.M)
    assert re.search(r"^ensemble .* 100\.0% ", checked.stdout, re.M)
    (port, *_) = free_ports()
    process = subprocess.Popen(
        [shipped / "jetson", "serve", "--port", str(port), "--threads", "1"],
        env={"PATH": "/usr/bin:/bin", "PYTHON": str(python)}, cwd="/",
    )  # fmt: skip
    try:
        outputs = infer(port, HEADLINES)
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    version = SHIPPED / "1"
    here = Classifier(manifest.load(version), version, "onnxruntime:int8").classify(HEADLINES)
    assert outputs["LABEL"] == ["Sports", "Business"]
    assert np.allclose(np.reshape(outputs["PROBABILITIES"], (2, -1)), here.probabilities, atol=1e-5)


def test_the_real_triton_serves_the_archive_as_it_is(small: Path, python: Path, tmp_path: Path) -> None:
    """As `./jetson triton` starts it in the container: the code is the archive's own, the packages the bare ones."""
    here, ports = find_installation(), free_ports()
    root = here.binary.parent.parent
    backends = tmp_path / "backends" / "python"
    backends.mkdir(parents=True)
    for part in (*here.backend.glob("*.*"), here.stub):
        (backends / part.name).symlink_to(part)
    variables = triton.environment(here) | {"VIRTUAL_ENV": str(python.parent.parent)}
    variables["PATH"] = f"{python.parent}:{variables['PATH']}"
    flags = dict(zip(("http-port", "grpc-port", "metrics-port"), ports, strict=True))
    command = [root / "bin/tritonserver", f"--model-repository={small / 'model_repository'}"]
    command += [f"--backend-directory={backends.parent}", "--disable-auto-complete-config", "--allow-gpu-metrics=false"]
    with (tmp_path / "log").open("wb") as log:
        flagged = [f"--{name}={port}" for name, port in flags.items()]
        process = subprocess.Popen([*command, *flagged], env=variables, stdout=log, stderr=log)
    try:
        assert infer(ports[0], ["a goal"])["LABEL"] == ["Sports"], (tmp_path / "log").read_text()
    finally:
        process.terminate()
        process.wait(30)


def test_a_device_that_answers_otherwise_does_not_pass(small: Path, python: Path) -> None:
    path = small / "golden" / golden.ARRAYS
    with np.load(path) as file:
        arrays = dict(file)
    arrays["tiny/int8"] = arrays["tiny/int8"][:, ::-1]
    np.savez(path, **arrays)
    checked = jetson(small, python, "check")
    assert checked.returncode == 1
    assert "NOT PASSED" in checked.stdout
    arrays["tiny/ids"][0, 1] += 1
    np.savez(path, **arrays)
    refused = jetson(small, python, "check")
    assert refused.returncode == 2
    assert "member tiny: the tokenizer gives other ids here" in refused.stderr


def test_an_engine_is_built_and_without_a_gpu_it_does_not_serve(small: Path) -> None:
    """TensorRT-RTX builds for real on a machine without a GPU; the comparison is what the device is needed for."""
    version = small / "model_repository" / "ag_news" / "1"
    before = (version / "manifest.json").read_bytes()
    built = jetson(small, Path(sys.executable), "build", "--runtime", "tensorrt_rtx", "--workspace", "256")
    assert "tiny tensorrt_rtx:fp16: building" in built.stdout, built.stderr
    assert (version / "tiny" / "model.fp16.tensorrt_rtx.plan").stat().st_size > 1000
    if gpu.find():
        assert built.returncode == 0, built.stdout
    else:
        assert built.returncode == 1
        assert (version / "manifest.json").read_bytes() == before
    checked = jetson(small, Path(sys.executable), "check")
    assert checked.returncode == 0, checked.stderr


def test_an_engine_that_agrees_serves(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The plan is real; what runs it here, in the place of a GPU, is ONNX Runtime on the graph that it was built of."""
    version = small / "model_repository" / "ag_news" / "1"
    load = engines.load

    def on_the_processor(target: str, graph: Path, threads: int = 1) -> engines.Engine:
        built = graph.suffix == ".plan"
        return load(golden.REFERENCE, graph.with_name("model.fp16.onnx")) if built else load(target, graph, threads)

    monkeypatch.setattr(engines, "load", on_the_processor)
    notes: list[str] = []
    bench = device.Bench("tensorrt_rtx", 256, golden.Golden.load(small / "golden"), notes.append)
    assert device.build(version, bench)
    made = manifest.load(version)
    assert made.target == "tensorrt_rtx:fp16"
    plan = made.members[0].plans["tensorrt_rtx:fp16"]
    assert (plan.batches, plan.lengths[-1]) == ([1, 8, 32], tiny.MAX_LENGTH)
    assert "texts/s, largest difference 0.0000" in notes[-1]


def test_the_command_says_what_it_wrote(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = write_tiny(tmp_path)
    export(Target.jetson, model.parent, tmp_path / "artifacts", tmp_path / "out", as_json=True)
    report = json.loads(capsys.readouterr().out)
    assert Path(report["archive"]).stat().st_size == report["bytes"] > 0


def test_what_is_missing_is_said_with_the_command_that_makes_it(tmp_path: Path) -> None:
    model = write_tiny(tmp_path)
    notes: list[str] = []
    packed = archive.pack(model, tmp_path / "nowhere", tmp_path / "out", notes.append)
    assert "no fp16 graph in the repository" in notes[0]
    assert "newsdesk build --recipe own.toml --stage quantise" in notes[0]
    assert "no int8-fp16 graph, and its build made none" in notes[1]
    version = unpack(packed, tmp_path / "empty") / "model_repository" / "ag_news" / "1"
    assert list(manifest.load(version).members[0].graphs) == ["int8"]
    half = tmp_path / "artifacts" / "quantise" / "key" / "model.fp16.onnx"
    half.write_bytes(half.read_bytes() + b" ")
    archive.pack(model, tmp_path / "artifacts", tmp_path / "out", notes.append)
    assert any("is another than what its build made" in line for line in notes)
    loaded = manifest.load(model / "1")
    (member,) = loaded.members
    bare = msgspec.structs.replace(member, graphs={"int8-dynamic": member.graphs["int8"]})
    manifest.save(msgspec.structs.replace(loaded, members=[bare], built=[]), model / "1")
    with pytest.raises(BuildError, match="has int8-dynamic, expected int8 or fp32"):
        archive.pack(model, None, tmp_path / "out", notes.append)


@pytest.mark.parametrize(("python_version", "cuda"), [("3.10", "cuda-bindings<13"), ("3.12", "cuda-bindings>=13")])
def test_every_wheel_is_there_for_the_device(python_version: str, cuda: str, tmp_path: Path) -> None:
    """JetPack 6 has Python 3.10 and glibc 2.35, JetPack 7 has 3.12 and glibc 2.39."""
    other = '< "3.11"' if python_version == "3.12" else '>= "3.11"'  # pip reads markers for the Python that runs it
    wanted = [line.split(";")[0] for line in archive.REQUIREMENTS.splitlines() if other not in line]
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--quiet", "--ignore-installed", "--report", "-"]
    command += ["--only-binary=:all:", "--platform", "manylinux_2_28_aarch64", "--platform", "manylinux2014_aarch64"]
    command += ["--python-version", python_version, "--target", str(tmp_path), cuda, *wanted]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    wheels = [item["download_info"]["url"] for item in json.loads(ran.stdout)["install"]]
    assert sum("aarch64" in wheel for wheel in wheels) >= 4
    assert all("aarch64" in wheel or wheel.endswith("-any.whl") for wheel in wheels)


def test_its_code_runs_on_the_python_of_jetpack_6(small: Path) -> None:
    run = "import vermin; vermin.main()"
    command = [sys.executable, "-c", run, "--target=3.10-", "--violations", "--no-tips", str(small / "newsdesk")]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout


def test_its_digests_are_those_of_hashlib(small: Path) -> None:
    script = small / "jetson"
    assert manifest.digest(script) == hashlib.sha256(script.read_bytes()).hexdigest()
