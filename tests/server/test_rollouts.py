"""Roll-outs as the options say them, and which versions of a repository are tried."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from newsdesk.server.machine import versions
from newsdesk.server.rollouts import Candidate, Rule, parse_canary, parse_shadow
from newsdesk.server.runtime import manifest
from newsdesk.server.runtime.repository import RepositoryError
from newsdesk.server.serving import deployment, promotions
from newsdesk.server.serving.settings import Settings, with_gateway
from tests.launching import write_repository


@pytest.mark.parametrize(
    ("line", "share", "model"),
    [("2:5%", 0.05, ""), ("2:0.05", 0.05, ""), ("2:100%", 1.0, ""), ("topics=2:5%", 0.05, "topics")],
)
def test_a_canary_is_a_version_and_its_share(line: str, share: float, model: str) -> None:
    assert parse_canary(line) == Candidate("2", share, model)


@pytest.mark.parametrize("line", ["", "2", "0:5%", "2:0%", "2:101%", "2:5", "x:5%", "2:5%:5%", "a/b=2:5%"])
def test_another_line_is_no_canary(line: str) -> None:
    assert parse_canary(line) is None


def test_a_shadow_is_a_version_alone() -> None:
    assert parse_shadow("2") == Candidate("2")
    assert parse_shadow("topics=12") == Candidate("12", 0.0, "topics")
    assert parse_shadow("2:5%") is None


def test_a_rule_changes_what_it_names() -> None:
    assert Rule.parse("") == Rule()
    assert Rule.parse("errors=2%, promote=5000") == Rule(errors=0.02, promote=5000)
    for wrong in "errors", "errors=x", "least=0", "least=1.5", "else=1", "errors=200%":
        assert Rule.parse(wrong) is None, wrong


def arranged(repository: Path, state: Path, **gateway: tuple[str, ...]) -> tuple[list[str], list[str], list[str]]:
    """Return the versions that are served and those that are tried, and what is said."""
    notes: list[str] = []
    settings = with_gateway(
        Settings(model_repository=repository, state=state, target="openvino:int8", instances=4), **gateway
    )
    current, beside = deployment.arrange(settings, notes.append)
    return [str(each.version().name) for each in current], [each.model for each in beside], notes


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    for name in "ag_news", "topics":
        folder = write_repository(tmp_path / "models", name=name) / name
        shutil.copytree(folder / "1", folder / "2")
    return tmp_path / "models"


def test_the_version_that_is_tried_is_not_the_current_one(repository: Path, tmp_path: Path) -> None:
    assert arranged(repository, tmp_path, canary=("topics=2:30%",)) == (["2", "1"], ["topics@2"], [])
    both = arranged(repository, tmp_path, canary=("topics=2:30%",), shadow=("ag_news=2",))
    assert both == (["1", "1"], ["ag_news@2", "topics@2"], [])


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"canary": ("2:30%",)}, "of several models: ag_news, topics. Name one of them: --canary ag_news=2:5%"),
        ({"shadow": ("other=2",)}, "names the model 'other', served are ag_news, topics"),
        ({"canary": ("topics=2:30%",), "shadow": ("topics=2",)}, "two versions of topics: one is tried at a time"),
        ({"shadow": ("topics=1",)}, "which holds 1, 2: expected the highest of several"),
        ({"shadow": ("topics=3",)}, "which holds 1, 2: expected the highest of several"),
    ],
)
def test_what_cannot_be_tried_is_refused_with_what_can(
    repository: Path, tmp_path: Path, options: dict[str, tuple[str, ...]], reason: str
) -> None:
    with pytest.raises(RepositoryError) as error:
        arranged(repository, tmp_path, **options)
    assert reason in str(error.value)


def test_a_start_with_the_flags_of_a_trial_that_is_over_goes_on_as_it_ended(repository: Path, tmp_path: Path) -> None:
    """Else a restart would take what was promoted back to a share, or not come up for want of what was withdrawn."""
    options = {"canary": ("ag_news=2:30%", "topics=2:30%")}
    promotions.note(tmp_path, repository / "ag_news" / "2")
    versions.set_aside(repository / "topics" / "2")
    current, beside, notes = arranged(repository, tmp_path, **options)
    assert (current, beside) == (["2", "1"], [])
    assert notes == [
        "version 2 of ag_news was promoted: --canary is passed over",
        "version 2 of topics was withdrawn: --canary is passed over",
    ]
    change(repository / "ag_news" / "2", figures={"accuracy": 0.5})  # another one under the same number
    assert arranged(repository, tmp_path, **options)[1] == ["ag_news@2"]


def change(version: Path, **values: Any) -> None:
    path = version / manifest.FILE
    path.write_text(json.dumps(json.loads(path.read_bytes()) | values))


def test_a_canary_has_the_labels_that_callers_know(repository: Path, tmp_path: Path) -> None:
    labels = ["World", "Sports", "Business", "Weather"]
    change(repository / "topics" / "2", labels=labels)
    with pytest.raises(RepositoryError, match=r"Weather'\]; expected those of version 1"):
        arranged(repository, tmp_path, canary=("topics=2:30%",))
    assert arranged(repository, tmp_path, shadow=("topics=2",))[1] == ["topics@2"]


def test_a_version_that_cannot_be_tried_keeps_nothing_from_starting(repository: Path, tmp_path: Path) -> None:
    (repository / "topics" / "2" / "tokenizer.json").write_text("cut off")
    current, beside, notes = arranged(repository, tmp_path, canary=("topics=2:30%",))
    assert (current, beside) == (["2", "1"], [])
    assert "version 2 of topics is not tried" in notes[0]
    assert "sha256" in notes[0]
