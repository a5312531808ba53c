"""The keeper of a version that is tried, before a Triton of our own making: nothing of it may end the server."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from newsdesk.server.machine.servers import LOAD
from newsdesk.server.rollouts import PROMOTE, WITHDRAW, Candidate
from newsdesk.server.serving import candidates, promotions
from newsdesk.server.serving.candidates import CandidateKeeper
from newsdesk.server.serving.deployment import Deployment
from newsdesk.server.serving.keeper import Broken, Keeper
from newsdesk.server.serving.settings import Settings
from newsdesk.server.serving.workspace import Workspace
from tests.launching import write_repository

CANDIDATE = Candidate("2", 0.05, "ag_news")


class Gone:
    """Stands where Triton's endpoint stands: the candidate is unloaded at once."""

    def generation(self, _: float) -> str:
        return ""


class Trial:
    """A current version and a candidate, with what was said of both."""

    def __init__(self, folder: Path) -> None:
        repository = write_repository(folder / "models")
        self.model, self.state = repository / "ag_news", folder / "state"
        shutil.copytree(self.model / "1", self.model / "2")
        settings = Settings(model_repository=repository, state=self.state)
        space = Workspace(self.state)
        space.watched.mkdir(parents=True)
        self.notes: list[str] = []
        known: tuple[Any, ...] = settings, space, self.notes.append, lambda: False
        self.current = Keeper(Deployment(self.model, "openvino:int8", 4, without="2"), *known)
        self.current._content = "1", "digest"
        self.keeper = CandidateKeeper(
            Deployment(self.model, "openvino:fp32", 2, candidate=CANDIDATE), *known, current=self.current
        )
        self.keeper.endpoint = Gone()  # type: ignore[assignment]
        self.keeper.unloaded, self.keeper.wanted = False, ""

    def run(self) -> None:
        """Let the keeper do what it has begun or has to do next, to the end."""
        work = self.keeper._work or self.keeper._look()
        assert work is not None
        for _ in work:
            if self.current.wanted == LOAD:  # the current version's keeper does what it is asked for
                self.current.wanted, self.current._asked = "", 1
                self.load()

    def load(self) -> None:
        self.current._content = self.current.deployment.version().name, "digest"
        self.current._settle()

    @property
    def withdrawn(self) -> bool:
        return (self.model / "2.withdrawn").is_dir() and self.keeper.unloaded


@pytest.fixture
def trial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Trial:
    monkeypatch.setattr(candidates, "_NOTICE_SECONDS", 0.0)
    return Trial(tmp_path)


def test_it_begins_once_the_current_version_answers(trial: Trial, tmp_path: Path) -> None:
    begun = CandidateKeeper(trial.keeper.deployment, *_known(trial), current=trial.current)
    assert (begun.model, begun.unloaded, begun.wanted) == ("ag_news@2", True, LOAD)
    begun.place()
    assert [*begun._workspace.watched.iterdir()] == []


def _known(trial: Trial) -> tuple[Any, ...]:
    keeper = trial.keeper
    return keeper._settings, keeper._workspace, trial.notes.append, lambda: False


def test_a_version_whose_processes_end_again_and_again_is_withdrawn(trial: Trial) -> None:
    for what in "backend process 1 died", "backend process 2 died":
        trial.keeper._heal(what)  # what it returns is the healing, as of any model
        assert trial.keeper.outcome == ""
    trial.keeper._work = trial.keeper._heal("backend process 3 died")
    trial.run()
    assert trial.keeper.outcome == "withdrawn: backend process 3 died, 3 times"
    assert trial.withdrawn
    assert trial.current.deployment.without == ""  # whatever comes under its number is no more passed over


def test_a_server_that_ends_again_and_again_beside_it_is_rid_of_it(trial: Trial) -> None:
    for _ in range(3):
        trial.keeper.halt()
        trial.keeper.choose()
        assert trial.keeper.unloaded  # the next start is without it
        assert trial.keeper.wanted == LOAD
        trial.keeper.unloaded, trial.keeper.wanted = False, ""
    trial.run()
    assert trial.keeper.outcome == "withdrawn: its processes ended 3 times"


def test_what_ends_a_server_of_a_current_version_withdraws_it(trial: Trial, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: Keeper) -> None:
        raise Broken("real requests still fail: timed out")

    monkeypatch.setattr(Keeper, "step", broken)
    trial.keeper.step()
    trial.run()
    assert trial.keeper.outcome == "withdrawn: real requests still fail: timed out"
    assert trial.withdrawn


def test_it_is_withdrawn_on_demand_with_the_reason(trial: Trial) -> None:
    trial.keeper.wanted = f"{WITHDRAW}: 7.0% of its requests failed"
    trial.run()
    assert trial.keeper.outcome == "withdrawn: 7.0% of its requests failed"
    assert trial.keeper.loads == 1  # who asked for it waits for this


def test_a_rollback_meanwhile_withdraws_it(trial: Trial) -> None:
    shutil.rmtree(trial.model / "2")
    trial.run()
    assert trial.keeper.outcome == "withdrawn: its folder was taken away"


def test_it_is_promoted_by_the_target_that_was_measured_for_it(trial: Trial) -> None:
    trial.keeper.wanted = PROMOTE
    trial.run()
    assert trial.keeper.outcome == "promoted"
    deployed = trial.current.deployment
    assert (deployed.version().name, deployed.target, deployed.instances) == ("2", "openvino:fp32", 4)
    assert promotions.holds(trial.state, trial.model / "2")
    assert trial.keeper.unloaded


def test_where_it_cannot_be_loaded_in_the_others_place_both_go_on(trial: Trial) -> None:
    before = trial.current.deployment
    trial.load = lambda: trial.current._settle("no such graph")  # type: ignore[method-assign]
    trial.keeper.wanted = PROMOTE
    trial.run()
    assert trial.keeper.outcome == ""
    assert trial.current.deployment == before
    assert not trial.keeper.unloaded
    assert "not promoted" in trial.notes
    assert not promotions.holds(trial.state, trial.model / "2")
