"""Several models of one repository: which are served, what they may be called, and what is asked of each."""

from dataclasses import replace
from pathlib import Path

import pytest

from newsdesk.server.machine import processes, servers, versions
from newsdesk.server.machine.servers import LOAD, UNLOAD, Served
from newsdesk.server.runtime import names, repository
from newsdesk.server.runtime.repository import RepositoryError, latest_version
from newsdesk.server.serving import preflight, workspace
from newsdesk.server.serving.settings import Settings
from newsdesk.server.serving.workspace import Workspace
from tests.launching import write_repository


@pytest.fixture
def two(tmp_path: Path) -> Path:
    for name in "topics", "ag_news":
        write_repository(tmp_path / "models", name=name)
    (tmp_path / "models" / "notes").mkdir()
    (tmp_path / "models" / ".topics.partial" / "1").mkdir(parents=True)
    return tmp_path / "models"


def test_all_are_served_or_those_that_are_named_in_their_order(two: Path) -> None:
    assert repository.choose(two) == ["ag_news", "topics"]
    assert repository.choose(two, ["topics", "topics", "ag_news"]) == ["topics", "ag_news"]
    assert repository.only(two, ["topics"]) == "topics"
    with pytest.raises(RepositoryError, match=r"no model 'topic', it holds ag_news, topics\. Name one of those with"):
        repository.choose(two, ["topic"])
    with pytest.raises(RepositoryError, match=r"several models are meant: ag_news, topics\. Name one"):
        repository.only(two)
    with pytest.raises(RepositoryError, match=r"no model folder in it"):
        repository.choose(two / "notes")


@pytest.mark.parametrize("name", ["a", "Topics-2", "_x", "7", "a" * 100])
def test_a_name_that_everything_can_carry_is_taken(name: str) -> None:
    assert names.refusal(name) == ""


@pytest.mark.parametrize("name", ["", "-a", "a b", "a.b", "a/b", "größe", "..", "a" * 101])
def test_another_is_refused_with_what_is_allowed(name: str) -> None:
    assert "expected letters of a to z, digits, _ and -" in names.refusal(name)


def test_one_that_cannot_be_served_is_named_with_how_to_serve_the_others(two: Path, tmp_path: Path) -> None:
    settings = Settings(model_repository=two, state=tmp_path / "state", target="openvino:int8")
    assert {check.level for check in preflight._models(settings) if check.name == "model"} == {"ok"}
    (two / "topics" / "1" / "manifest.json").unlink()
    problems = [check for check in preflight._models(settings) if check.level == "problem"]
    (problem,) = problems
    assert str(two / "topics" / "1" / "manifest.json") in problem.found
    assert problem.remedy == "Or serve without it: --model ag_news."
    assert all(check.level != "problem" for check in preflight._models(replace(settings, model=("ag_news",))))


def test_a_folder_of_another_name_is_refused_with_what_to_do(two: Path) -> None:
    (two / "topics").rename(two / "subjects")
    with pytest.raises(RepositoryError, match=r"name is 'topics', expected 'subjects', .* Rename the folder"):
        workspace.check_configurations(two / "subjects" / "1")
    (two / "subjects").rename(two / "the.subjects")
    with pytest.raises(RepositoryError, match=r"'the\.subjects', expected letters of a to z"):
        latest_version(two / "the.subjects")


def test_each_model_has_generations_of_its_own(two: Path, tmp_path: Path) -> None:
    space = Workspace(tmp_path / "state")
    for folder in space.root, space.watched, space.repository:
        folder.mkdir(parents=True, exist_ok=True)
    placed = {name: space.render(two / name, {}, 2) for name in ("ag_news", "topics")}
    for name, generation in placed.items():
        space.place(name, generation)
        space.prove(name, generation)
    newer = space.render(two / "topics", {}, 2)
    space.place("topics", newer)
    space.prove("topics", newer)
    assert space.restore("ag_news") == placed["ag_news"]
    assert (space.watched / "ag_news" / "config.pbtxt").is_file()
    assert (space.repository / "topics" / "1" / "manifest.json").is_file()
    space.empty("topics")
    assert [link.name for link in space.watched.iterdir()] == ["ag_news"]
    space.remove()


def test_what_is_asked_of_one_model_reaches_its_server_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    space = Workspace(tmp_path)
    (space.root / "wishes").mkdir(parents=True)
    for name in "ag_news", "topics":
        space.record(name, Served("1"))
    assert [(owner, served.keys()) for owner, _, served in servers.running(tmp_path)] == [
        (processes.myself(), {"ag_news", "topics"})
    ]
    servers.wish(space.root, "topics", UNLOAD)
    servers.wish(space.root, "topics", LOAD)
    servers.wish(space.root, "ag_news", UNLOAD)
    assert space.take_wishes() == {"topics": LOAD, "ag_news": UNLOAD}
    assert space.take_wishes() == {}

    def grant(_: float) -> None:
        assert space.take_wishes() == {"topics": LOAD}
        space.record("topics", Served("2", loads=1, refused="version 3: the graph is gone"))

    monkeypatch.setattr(versions, "time", type("Clock", (), {"sleep": staticmethod(grant), "monotonic": lambda: 0.0}))
    with pytest.raises(RepositoryError, match=r"not loaded, version 2 goes on: version 3: the graph is gone"):
        versions.reload(tmp_path, "topics")
    assert versions.reload(tmp_path, "unknown") == []
