"""A base that is not there is one message, at once."""

import socket
from pathlib import Path

import pytest

from newsdesk.build.errors import RecipeError
from newsdesk.build.members import bases, encoders, vocabulary
from tests.build.encoders import save_base


def test_a_folder_is_looked_at_alone(tmp_path: Path):
    bases.check(str(save_base(tmp_path / "base")))
    with pytest.raises(RecipeError, match=r"the folder has no config.json.*members\.minilm\.base=FOLDER"):
        bases.check(str(tmp_path), "minilm")
    with pytest.raises(RecipeError, match=r"there is no such folder.*\"ngrams\" needs none"):
        bases.check("/no/such/folder", "minilm")


@pytest.mark.parametrize(
    "ask",
    [
        lambda: encoders.create("some/base", "own", ["a", "b"], "minilm"),
        lambda: encoders.bare("some/base", "minilm"),
        lambda: vocabulary.prune("some/base", ["a"], 1, Path("/nowhere")),
    ],
)
def test_a_hub_that_does_not_answer_is_asked_once(ask, monkeypatch: pytest.MonkeyPatch):
    asked = []

    def refuse(*arguments: object, **options: object):
        asked.append(arguments)
        raise socket.gaierror("no such host")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    for variable in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(variable, raising=False)
    with pytest.raises(RecipeError, match=r"'some/base', which is not here: the hub .*Name a local folder") as refused:
        ask()
    assert "\n" not in str(refused.value)
    assert len(asked) <= 2
