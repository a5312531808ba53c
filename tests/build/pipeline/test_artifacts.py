"""An artifact is made once, resumes where it was cut off, lands whole and is refused when it was touched."""

import hashlib
import itertools
import json
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from newsdesk.build.errors import BuildError
from newsdesk.build.pipeline import artifacts
from newsdesk.build.pipeline.artifacts import ENTRY, ArtifactStore
from newsdesk.build.pipeline.digests import of_file


class FileWriter:
    """Writes a file a call, and counts the calls."""

    def __init__(self, text: str = "result") -> None:
        self.text, self.calls = text, 0

    def __call__(self, folder: Path) -> dict:
        self.calls += 1
        (folder / "result.txt").write_text(self.text)
        return {"calls": self.calls}


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    lines: list[str] = []
    return ArtifactStore(tmp_path / "artifacts", lines.append)


def test_an_unchanged_stage_is_not_run_again(store: ArtifactStore):
    work = FileWriter()
    first = store.make("fit", {"settings": {"epochs": 1}}, work)
    again = ArtifactStore(store.root, store.say).make("fit", {"settings": {"epochs": 1}}, work)
    assert work.calls == 1
    assert again == first
    assert store.say.__self__[-1].startswith("fit: unchanged")


def test_whatever_is_known_makes_the_key_and_what_is_recorded_does_not(store: ArtifactStore):
    work = FileWriter()
    known = [{}, {"settings": 1}, {"settings": 2}, {"settings": 1, "inputs": {"rows": "a"}}]
    assert len({store.make("fit", each, work).path for each in known}) == work.calls == 4
    store.make("fit", {"settings": 1}, work, name="other", record={"code": {"trainer": "abc"}})
    assert work.calls == 4


def test_a_stage_that_was_cut_off_resumes_and_lands_whole(store: ArtifactStore):
    def cut_off(folder: Path) -> dict:
        (folder / "scratch").mkdir()
        (folder / "scratch" / "step-1").write_text("done")
        raise KeyboardInterrupt

    def resumed(folder: Path) -> dict:
        assert (folder / "scratch" / "step-1").read_text() == "done"
        return FileWriter()(folder)

    with pytest.raises(KeyboardInterrupt):
        store.make("fit", {}, cut_off)
    assert not [*store.root.glob(f"fit/*/{ENTRY}")]
    assert [folder.suffix for folder in store.root.glob("fit/*")] == [".partial"]
    artifact = store.make("fit", {}, resumed)
    assert store.say.__self__[-2] == "fit: resuming"
    assert sorted(path.name for path in artifact.path.iterdir()) == [ENTRY, "result.txt"]
    assert [*store.root.glob("fit/*")] == [artifact.path]


def test_a_touched_artifact_is_refused(store: ArtifactStore):
    artifact = store.make("fit", {}, FileWriter())
    (artifact / "result.txt").write_text("tampered")
    with pytest.raises(
        BuildError, match=r"^fit: .*result.txt is not what was built \(sha256\)\. Delete .* and rebuild\.$"
    ):
        store.make("fit", {}, FileWriter())


def test_the_entry_says_what_made_it_from_what_and_what_came_out(store: ArtifactStore):
    known = {"settings": {"epochs": 1}, "inputs": {"rows": "abc"}, "code": {}, "files": {"rows.csv": "def"}}
    artifact = store.make("fit", known, FileWriter(), name="tiny", record={"code": {"trainer": "123"}})
    entry = json.loads((artifact / ENTRY).read_text())
    assert (entry["stage"], entry["name"]) == ("fit", "tiny")
    assert (entry["inputs"], entry["code"], entry["read"]) == ({"rows": "abc"}, {"trainer": "123"}, {"rows.csv": "def"})
    assert entry["files"] == {"result.txt": of_file(artifact / "result.txt")}
    assert entry["figures"] == {"calls": 1}
    assert {"python", "numpy", "torch", "nncf"} <= set(entry["packages"])
    assert entry["machine"]


def test_the_whole_entry_and_what_is_said_by_hand(store: ArtifactStore, monkeypatch: pytest.MonkeyPatch):
    """2.34 seconds of work in the first second of 1970, whose figures have numbers for names."""
    monkeypatch.setattr(artifacts.environment, "packages", lambda: {"python": "3"})
    monkeypatch.setattr(artifacts.environment, "machine", lambda: {"cores": 2})
    clock = itertools.count(10.0, 2.34)
    ours = SimpleNamespace(monotonic=lambda: next(clock), strftime=time.strftime, gmtime=lambda: time.gmtime(0))
    monkeypatch.setattr(artifacts, "time", ours)

    def work(folder: Path) -> dict:
        (folder / "graphs").mkdir()
        (folder / "graphs" / "fp32.onnx").write_text("graph")
        return {1: "naïve"}

    key = hashlib.sha256(b'{"settings": 1, "stage": "fit"}').hexdigest()[:16]
    final = store.root / "fit" / key
    artifact = store.make("fit", {"settings": 1}, work, name="tiny")
    assert artifact.path == final
    assert artifact.entry == {
        "stage": "fit",
        "settings": 1,
        "key": key,
        "name": "tiny",
        "files": {"graphs/fp32.onnx": hashlib.sha256(b"graph").hexdigest()},
        "read": {},
        "figures": {"1": "naïve"},
        "packages": {"python": "3"},
        "machine": {"cores": 2},
        "seconds": 2.3,
        "made": "1970-01-01T00:00:00Z",
    }
    text = (final / ENTRY).read_text("utf-8")
    assert text == json.dumps(artifact.entry, indent=1, ensure_ascii=False)  # for whoever reads it: "naïve" as it is
    assert store.make("fit", {"settings": 1}, work, name="tiny") == artifact
    assert store.say.__self__ == [
        "fit tiny: running",
        f"fit tiny: done in 2.3 s ({final})",
        f"fit tiny: unchanged ({final})",
    ]
    assert artifact.metrics(dict[str, str]) == {"1": "naïve"}


def test_a_path_that_is_not_utf8_is_read_again_as_it_was_written(store: ArtifactStore):
    known = {"files": {"caf\udce9.csv": "abc"}}
    assert store.make("fit", known, FileWriter()) == store.make("fit", known, FileWriter())
