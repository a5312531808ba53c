"""`newsdesk models` before a real gateway and a Triton whose models can be loaded."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from newsdesk.clients.cli.app import app
from newsdesk.clients.cli.models import _lines
from newsdesk.server.gateway.keys import Role
from tests.server.gateway import gateways


def models(url: str, *arguments: str, **environment: str) -> Any:
    return CliRunner(env=environment).invoke(app, ["models", *arguments, "--url", url])


def test_they_are_listed(gateway: str) -> None:
    result = models(gateway)
    assert result.stdout.splitlines()[:3] == [
        "ag_news  version 1  openvino:int8",
        "  labels   World, Sports, Business, Sci/Tech",
        "  members  stand-in, careful",
    ]
    (model,) = json.loads(models(gateway, "--json").stdout)
    assert (model["name"], model["versions"]) == ("ag_news", ["1"])
    assert model["labels"] == ["World", "Sports", "Business", "Sci/Tech"]


def test_figures_are_named_by_their_place() -> None:
    model = {"name": "m", "versions": [], "target": None, "labels": ["a"], "members": []}
    figures = {"accuracy": {"test": {"rows": 7600, "served": {"accuracy": 0.93724}}}, "targets": {"x": 1}}
    assert [line.split() for line in _lines({**model, "figures": figures})][3:] == [
        ["accuracy.test.rows", "7,600"],
        ["accuracy.test.served.accuracy", "0.9372"],
    ]


def test_operators_load_and_unload_and_readers_do_not(closed: tuple[str, Path]) -> None:
    url, folder = closed
    operator, reader = (gateways.key(folder, role) for role in (Role.operator, Role.reader))
    assert models(url, "load", NEWSDESK_API_KEY=operator).stdout == "ag_news: loaded\n"
    unload = models(url, "unload", "--json", "--api-key", operator)
    assert json.loads(unload.stdout) == {"action": "unload", "model": "ag_news"}
    assert models(url, "load", NEWSDESK_API_KEY=operator).exit_code == 0
    for key in (reader, ""):
        refused = models(url, "load", NEWSDESK_API_KEY=key)
        assert (refused.exit_code, refused.stdout) == (2, "")
        assert "refuses the caller" in refused.stderr
    unknown = models(url, "load", "no_such_model", NEWSDESK_API_KEY=operator)
    assert unknown.exit_code == 2
    assert "no_such_model" in unknown.stderr


def test_operators_go_back_a_version(closed: tuple[str, Path]) -> None:
    url, folder = closed
    operator = gateways.key(folder, Role.operator)
    shutil.copytree(folder / "ag_news" / "1", folder / "ag_news" / "2")
    rollback = models(url, "rollback", NEWSDESK_API_KEY=operator)
    assert rollback.stdout == "ag_news: version 2 is withdrawn, 1 serves\n"
    assert (folder / "ag_news" / "2.withdrawn").is_dir()
    refused = models(url, "rollback", NEWSDESK_API_KEY=operator)
    assert refused.exit_code == 2
    assert "refuses the request (409)" in refused.stderr


@pytest.mark.parametrize("url", ["grpc://127.0.0.1:1", "http://127.0.0.1:1", "gateway+http://127.0.0.1:1"])
def test_without_a_gateway_it_says_so(url: str) -> None:
    result = models(url, "--timeout", "2")
    assert result.exit_code == 2
    assert ("does not answer" if url.startswith("gateway") else "expected gateway+http") in result.stderr
