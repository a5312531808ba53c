"""Versions come and go under load: a new one without a failed request, a broken one not at all, and one command."""

import hashlib
import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from newsdesk.server.machine import versions
from newsdesk.server.runtime import manifest
from newsdesk.server.runtime.repository import RepositoryError
from tests.launching import MODEL, Load, Server, write_repository

NEWSDESK = Path(sys.executable).with_name("newsdesk")


def add(repository: Path, number: int, source: str = MODEL) -> Path:
    """Put a version beside the others, whole at once, as a build or a copy does."""
    model = repository / "ag_news"
    partial = model / f"{number}.partial"
    shutil.copytree(model / "1", partial)
    (partial / "model.py").write_text(source)
    return partial.rename(model / str(number))


def rollback(server: Server) -> subprocess.CompletedProcess[str]:
    command = [NEWSDESK, "rollback", "--model-repository", server.repository, "--state", server.state]
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=120, check=False)


def test_versions_roll_out_and_back_under_load(launch: Callable[..., Server], tmp_path: Path) -> None:
    """E 48, 50, 52, 53."""
    repository = write_repository(tmp_path / "models")
    server = launch(repository)
    server.until("Ctrl-C stops it")

    def serves() -> tuple[str, str]:
        status, answer = server.ask("/v2/models/ag_news")
        assert status == 200
        return answer["versions"][-1], server.classify()[1]["ANSWERED_BY"][0]

    def reload(line: str) -> None:
        at = len(server.text())
        server.process.send_signal(signal.SIGUSR1)
        while line not in server.text()[at:]:
            time.sleep(0.05)
            assert server.process.poll() is None

    with Load(server) as load:
        began = time.monotonic()
        add(repository, 2, MODEL.replace("stand-in", "second"))
        reload(" loaded\n")
        print(f"a new version served after {time.monotonic() - began:.1f} s")
        assert serves() == ("2", "second")

        for broken, reason in BROKEN.items():
            version = add(repository, 3, CHECKED)
            broken(version)
            reload(reason)
            assert serves() == ("2", "second"), broken.__name__
            shutil.rmtree(version)

        began = time.monotonic()
        ran = rollback(server)
        print(f"rolled back after {time.monotonic() - began:.1f} s")
        assert ran.returncode == 0, ran.stderr
        assert "the running server serves version 1" in ran.stdout
        assert serves() == ("1", "stand-in")
        load.go_on(10)
    assert set(load.outcomes) == {"ok"}, load.outcomes
    assert (repository / "ag_news" / "2.withdrawn" / "model.py").exists()
    refused = rollback(server)
    assert refused.returncode == 1
    assert "version 1 is the only one" in refused.stderr


CHECKED = MODEL.replace(
    "def initialize(self, args):",
    """def initialize(self, args):
        from pathlib import Path
        from newsdesk.server.runtime import engines, manifest
        from newsdesk.server.runtime.errors import EngineError
        folder = Path(args["model_repository"]) / args["model_version"]
        loaded = manifest.load(folder)
        target = json.loads(args["model_config"])["parameters"]["target"]["string_value"]
        if engines.TARGETS[target] not in loaded.members[0].graphs:
            raise EngineError(f"target {target!r}: no such graph")""",
)
"""The stand-in with the shipped backend's first steps: it reads the manifest, and takes no other target's graph."""


def corrupt_file(version: Path) -> None:
    (version / "model.int8.onnx").write_bytes(b"\0" * 10)


def wrong_sha256(version: Path) -> None:
    _edit(version, lambda made: made["members"][0]["reader"].update(sha256=hashlib.sha256(b"").hexdigest()))


def wrong_schema(version: Path) -> None:
    _edit(version, lambda made: made.update(schema=99))


def no_manifest(version: Path) -> None:
    (version / manifest.FILE).unlink()


def other_hardware(version: Path) -> None:
    """Only an engine of a GPU."""
    _edit(version, lambda made: made["members"][0].update(graphs={"sm90": made["members"][0]["graphs"]["int8"]}))


BROKEN: dict[Callable[[Path], None], str] = {
    corrupt_file: "model.int8.onnx: sha256 is",
    wrong_sha256: "tokenizer.json: sha256 is",
    wrong_schema: "schema 99",
    no_manifest: "manifest.json",
    other_hardware: "no such graph",
}


def _edit(version: Path, change: Callable[[dict], None]) -> None:
    path = version / manifest.FILE
    made = json.loads(path.read_bytes())
    change(made)
    path.write_text(json.dumps(made))


def test_the_highest_version_is_withdrawn_by_one_rename(tmp_path: Path) -> None:
    model = write_repository(tmp_path) / "ag_news"
    for number in 2, 10:
        add(tmp_path, number)
    assert versions.withdraw(model) == ("10", "2")
    assert versions.withdraw(model) == ("2", "1")
    with pytest.raises(RepositoryError, match="version 1 is the only one, there is none to go back to"):
        versions.withdraw(model)
    assert sorted(folder.name for folder in model.iterdir() if folder.is_dir()) == [
        "1",
        "10.withdrawn",
        "2.withdrawn",
    ]
