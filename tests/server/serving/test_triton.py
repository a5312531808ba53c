import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc

import newsdesk.server.runtime
from newsdesk.server.machine import processes
from newsdesk.server.runtime.repository import RepositoryError, latest_version, versions
from newsdesk.server.serving import workspace
from newsdesk.server.serving.triton import SHM_BYTES, explain, find_installation
from newsdesk.server.serving.workspace import Workspace, remove_dead
from tests.launching import SHM, Server, write_repository


def test_a_stub_runs_in_this_very_environment(server: Server) -> None:
    """C 36: the venv's Python, its packages, and what an editable install adds to them."""
    status, answer = server.classify("about")
    about = json.loads(answer["ANSWERED_BY"][0])
    assert status == 200
    assert about["prefix"] == sys.prefix
    assert about["python"] == sys.version.split()[0]
    assert about["ensemble"] == newsdesk.server.runtime.__file__
    own = [sys.executable, "-c", "import json, sys; print(json.dumps(sys.path[1:]))"]  # pytest adds to its own path
    assert set(json.loads(subprocess.run(own, capture_output=True, check=True).stdout)) <= set(about["path"])
    assert (about["threads"], about["parallel"]) == ("1", "false")
    assert about["parameters"].items() >= {"target": "openvino:int8", "threads": "1"}.items()


def test_instances_and_their_shared_memory_are_as_told(server: Server) -> None:
    assert len(server.stubs()) == 2
    sizes = [(SHM / name).stat().st_size for name in server.shm()]
    assert sizes == [SHM_BYTES] * 2


def test_threads_stay_few(server: Server) -> None:
    """D 42: one thread works in a stub, and what waits for messages beside it is constant."""
    assert all(len(list(Path(f"/proc/{stub.pid}/task").iterdir())) <= 6 for stub in server.stubs())


def test_grpc_answers_with_labels_by_class_count(server: Server) -> None:
    """A 10."""
    client = tritonclient.grpc.InferenceServerClient(f"127.0.0.1:{server.ports[1]}")
    text = tritonclient.grpc.InferInput("TEXT", [2, 1], "BYTES")
    text.set_data_from_numpy(np.array([[b"one"], [b"two"]], np.object_))
    output = tritonclient.grpc.InferRequestedOutput("PROBABILITIES", class_count=1)
    classes = client.infer("ag_news", [text], outputs=[output]).as_numpy("PROBABILITIES")
    assert classes.tolist() == [[b"0.700000:2:Business"], [b"0.700000:2:Business"]]


@pytest.mark.parametrize(
    "path", ["", "/health/ready", "/models/ag_news", "/models/ag_news/config", "/models/ag_news/stats"]
)
def test_health_metadata_and_statistics_are_open(server: Server, path: str) -> None:
    assert server.ask(f"/v2{path}")[0] == 200


def test_neither_the_given_repository_nor_site_packages_is_written_to(server: Server) -> None:
    files = {file.relative_to(server.repository).as_posix() for file in server.repository.rglob("*") if file.is_file()}
    assert files == {
        "ag_news/config.pbtxt", "ag_news/labels.txt", "ag_news/1/manifest.json", "ag_news/1/model.py",
        "ag_news/1/model.int8.onnx", "ag_news/1/tokenizer.json",
    }  # fmt: skip
    installation = find_installation()
    assert sorted(file.name for file in installation.backend.iterdir() if file.is_file()) == [
        "libtriton_python.so",
        "triton_python_backend_utils.py",
    ]
    assert installation.stub.stat().st_mode & 0o777 == 0o755


def test_the_reason_is_read_from_the_log() -> None:
    log = (
        'I1125 03:20:13.4 1 model_lifecycle.cc:472] "loading: ag_news:1"\n'
        "E1125 03:20:13.8 1 model_lifecycle.cc:642] \"failed to load 'ag_news' version 1: Internal: ValueError: the"
        ' graph is \\"gone\\"\\n\\nAt:\\n  model.py(3): initialize\\n"\n+---+\n| x |\n'
    )
    reason = explain(log)
    assert reason.startswith('model ag_news version 1 failed to load: ValueError: the graph is "gone"\n')
    assert reason.endswith("model.py(3): initialize")
    assert explain("E1125 03:2 1 server.cc:1] failed to bind\n") == "failed to bind"
    assert explain("terminate called\n") == "terminate called"
    assert explain("") == "it wrote nothing to its log"


def test_only_what_dead_servers_left_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shm, run = tmp_path / "shm", tmp_path / "run"
    shm.mkdir()
    run.mkdir()
    monkeypatch.setattr(workspace, "SHM", shm)
    living = Workspace(tmp_path)
    namespace = processes.pid_namespace()
    dead = f"newsdesk-{namespace:x}-{2**22 + 1}-7-0a0b"
    reused = f"newsdesk-{namespace:x}-{processes.myself().pid}-1-0a0b"
    container = f"newsdesk-{namespace + 1:x}-{2**22 + 1}-7-0a0b"
    for name in living.name, dead, reused, container:
        (run / name).mkdir()
        (shm / f"{name}-region").touch()
    (shm / "newsdesk-of-somebody").touch()
    assert remove_dead(tmp_path) == sorted([dead, reused])
    assert {file.name for file in run.iterdir()} == {living.name, container}
    assert {file.name for file in shm.iterdir()} == {
        f"{living.name}-region", f"{container}-region", "newsdesk-of-somebody",
    }  # fmt: skip


def test_the_latest_version_is_rendered_whole_and_can_be_taken_back(tmp_path: Path) -> None:
    """E 51."""
    source = write_repository(tmp_path / "models") / "ag_news"
    space = Workspace(tmp_path / "state")
    installation = find_installation()
    space.lay_out(installation.backend, installation.caches, installation.stub)
    first = space.render(source, {"target": "openvino:int8"}, 3)
    space.place("ag_news", first)
    space.prove("ag_news", first)
    rendered = space.repository / "ag_news"
    config = (rendered / "config.pbtxt").read_text()
    assert "count: 3" in config
    assert 'string_value: "openvino:int8"' in config
    (source / "1").rename(source / "2")
    (source / "1").mkdir()
    space.place("ag_news", space.render(source, {"target": "openvino:int8"}, 3))
    assert [folder.name for folder in rendered.iterdir() if folder.is_dir()] == ["2"]
    space.restore("ag_news")
    assert [folder.name for folder in rendered.iterdir() if folder.is_dir()] == ["1"]
    assert [file.name for file in space.repository.iterdir()] == ["ag_news"]
    watched = space.watched / "ag_news" / "config.pbtxt"
    before = watched.read_text()
    space.place("ag_news", space.renew("ag_news"))
    assert watched.read_text() != before
    assert [folder.name for folder in rendered.iterdir() if folder.is_dir()] == ["1"]
    space.empty("ag_news")
    assert list(space.watched.iterdir()) == []
    space.remove()
    assert not space.root.exists()
    assert (source / "2" / "model.int8.onnx").read_text() == "model.int8.onnx"


def test_versions_are_numbers_from_one_on_in_their_order(tmp_path: Path) -> None:
    model = write_repository(tmp_path / "models") / "ag_news"
    for name in "10", "9", "0", "11.withdrawn", "12.partial", "new":
        (model / name).mkdir()
    (model / "13").touch()
    assert [folder.name for folder in versions(model)] == ["1", "9", "10"]
    assert latest_version(model).name == "10"
    assert versions(tmp_path / "elsewhere") == []


def test_a_repository_that_cannot_be_served_is_refused(tmp_path: Path) -> None:
    source = write_repository(tmp_path / "models") / "ag_news"
    (source / "config.pbtxt").write_text('name: "ag_news" input { ')
    space = Workspace(tmp_path / "state")
    with pytest.raises(RepositoryError, match=r"config\.pbtxt: not a model configuration"):
        space.render(source, {}, 1)
    (source / "config.pbtxt").write_text('name: "other"')
    with pytest.raises(RepositoryError, match="the model's name is 'other', expected 'ag_news'"):
        space.render(source, {}, 1)
    with pytest.raises(RepositoryError, match=r"no config\.pbtxt"):
        latest_version(tmp_path)
