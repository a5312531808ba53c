"""Corrections by the SDK and by the command line, for a gateway that keeps them, and for one that does not."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from newsdesk.clients import AsyncClient, Client, Correction, NewsdeskError, RequestRefused, TextRefused, feedback
from newsdesk.server.gateway.keys import Role
from tests.clients.cli.command import run
from tests.clients.triton_process import Ports
from tests.server.gateway import gateways


@pytest.fixture
def sent(closed: tuple[str, Path]) -> Any:
    """Return the gateway's URL, a key, and the lines of texts that begin with a word."""
    url, folder = closed

    def lines(word: str) -> list[tuple[Any, ...]]:
        file = folder / "feedback" / "ag_news.jsonl"
        every = gateways.logged(file) if file.exists() else []
        fields = "text", "label", "predicted", "note"
        return [tuple(line[field] for field in fields) for line in every if line["text"].startswith(word)]

    return url, gateways.key(folder, Role.reader), lines


def test_the_sdk_sends_one_or_several(sent: Any) -> None:
    url, key, lines = sent
    with Client(url, api_key=key, model="ag_news") as client:
        assert client.feedback(Correction("sdk 1", "World", "Sports", "a treaty")) == 1
        article = {"title": "sdk", "description": "of two"}
        assert client.feedback([Correction(article, "Sports"), Correction(b"sdk 3", "World")]) == 2
        with pytest.raises(RequestRefused, match="'Weather' is no label of the model"):
            client.feedback(Correction("sdk 4", "Weather"))
        with pytest.raises(TextRefused, match="not UTF-8"):
            client.feedback(Correction(b"\xff", "World"))
        with pytest.raises(RequestRefused, match="at most 3 are taken"):
            client.feedback([Correction(f"sdk {number}", "World") for number in range(9)])

    async def ask() -> int:
        async with AsyncClient(url, api_key=key) as client:
            return await client.feedback([Correction("sdk 5", "World")])

    assert asyncio.run(ask()) == 1
    assert lines("sdk") == [
        ("sdk 1", "World", "Sports", "a treaty"),
        ("sdk of two", "Sports", None, None),
        ("sdk 3", "World", None, None),
        ("sdk 5", "World", None, None),
    ]


def test_many_go_in_several_requests() -> None:
    corrections = [Correction(f"text {number}", "World") for number in range(150)]
    sizes = [len(json.loads(body)) for body in feedback.bodies(corrections)]
    assert (len(sizes), sum(sizes)) == (3, 150)
    with pytest.raises(TypeError, match="text 1 is of type int"):
        list(feedback.bodies([Correction("x", "World"), Correction(3, "World")]))  # type: ignore[arg-type]


def test_nobody_else_takes_any(triton: Ports, gateway: str) -> None:
    for url, says in ((triton.grpc_url, "give the gateway's address"), (gateway, "newsdesk serve --feedback FOLDER")):
        with Client(url) as client, pytest.raises(NewsdeskError, match=says):
            client.feedback(Correction("x", "World"))


def test_the_command_sends_a_text_or_a_file(sent: Any, tmp_path: Path) -> None:
    url, key, lines = sent
    environment = {"NEWSDESK_URL": url, "NEWSDESK_API_KEY": key}
    result = run("feedback", "cli 1", "--label", "World", "--predicted", "Sports", **environment)
    assert (result.exit_code, result.stdout) == (0, "1 correction is kept\n"), result.stderr
    file = tmp_path / "rows.csv"
    file.write_text("body,topic,predicted\ncli 2,Sports,World\ncli 3,,\ncli 4,Weather,\ncli 5,World,\n")
    options = ["--file", str(file), "--text-column", "body", "--label-column", "topic", "--json"]
    result = run("feedback", *options, **environment)
    assert (result.exit_code, json.loads(result.stdout)) == (1, {"kept": 2, "refused": 1})
    assert "line 4: 'Weather' is no label of the model: World, Sports" in result.stderr
    assert lines("cli") == [
        ("cli 1", "World", "Sports", None),
        ("cli 2", "Sports", "World", None),
        ("cli 5", "World", None, None),
    ]
    for wrong in (["cli 6"], ["cli 6", "--label", "World", "--file", str(file)], []):
        result = run("feedback", *wrong, **environment)
        assert (result.exit_code, "expected a text and its --label, or --file" in result.stderr) == (2, True)
