"""Programs and requests of README and docs run, against a real Triton with the stand-in model and a real gateway."""

import contextlib
import io
import json
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.clients.triton_process import Ports
from tests.holding import until
from tests.test_docs import PAGES, Block, blocks, commands

PROGRAMS = [block for page in PAGES for block in blocks(page) if block.language == "python"]
CALLS = [words for _, words in commands() if words[0] == "curl"]


@pytest.fixture
def here(triton: Ports, gateway: str) -> dict[str, str]:
    """The addresses that the pages name, and those of the session's servers."""
    return {
        "localhost:8080": gateway.removeprefix("gateway+http://"),
        "localhost:8000": f"127.0.0.1:{triton.http}",
        "localhost:8001": f"127.0.0.1:{triton.grpc}",
    }


def moved(text: str, here: dict[str, str]) -> str:
    for named, address in here.items():
        text = text.replace(named, address)
    return text


@pytest.mark.parametrize("block", PROGRAMS, ids=lambda block: f"{block.page.name} {block.text.splitlines()[0]}")
def test_programs_print_answers(block: Block, here: dict[str, str]) -> None:
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(moved(block.text, here), block.page.name, "exec"), {})
    assert any(label in printed.getvalue() for label in ("World", "Sports", "Business", "Sci/Tech"))


@pytest.mark.parametrize("words", CALLS, ids=shlex.join)
def test_requests_are_answered(words: list[str], here: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "articles.csv").write_text("text,title,description\nmatch,match,goals\n")

    def curl(command: list[str]) -> list[dict[str, Any]]:
        asked = [moved(word, here) for word in command]
        ran = subprocess.run([*asked, "--fail"], capture_output=True, text=True, timeout=60, check=True, cwd=tmp_path)
        return [json.loads(line) for line in ran.stdout.splitlines()]

    if any("/ID" in word for word in words):
        (job,) = curl(["curl", "-s", "localhost:8080/v1/jobs", "-F", "file=@articles.csv"])
        until(lambda: curl(["curl", "-s", f"localhost:8080/v1/jobs/{job['id']}"])[0]["state"] == "done")
        words = [word.replace("/ID", f"/{job['id']}") for word in words]
    answers = curl(words)
    assert answers
    assert all(answer.keys() & {"items", "outputs", "jobs", "id", "label"} for answer in answers), answers
