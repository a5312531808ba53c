"""The commands, how other parts offer them, and their help."""

import os
import subprocess
import sys
from importlib.metadata import EntryPoint, EntryPoints, entry_points
from pathlib import Path
from typing import Any

import pytest
import typer

from newsdesk.clients.cli import commands
from newsdesk.clients.cli.app import app
from tests.clients.cli.command import NEWSDESK, run

OFFERED = '''
import typer
from typing import Annotated

def greet(name: str, loud: Annotated[bool, typer.Option(help="Shout.")] = False) -> None:
    """Greet somebody.

    More about it.
    """
    typer.echo(name.upper() if loud else name)

def needy() -> None:
    """Need what is not there."""
    import no_such_package.inside
'''


@pytest.fixture
def offered(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Two commands from other parts, one whose module cannot be imported, and one whose module is not there."""
    (tmp_path / "offered_commands.py").write_text(OFFERED)
    (tmp_path / "broken_commands.py").write_text('import no_such_package\ndef broken():\n    """Break."""\n')
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(commands._EXTRAS, "offered_commands", "serve")
    monkeypatch.setitem(commands._EXTRAS, "broken_commands", "build")
    names = {"greet": "offered_commands", "needy": "offered_commands", "broken": "broken_commands", "gone": "gone"}
    entries = EntryPoints(EntryPoint(name, f"{module}:{name}", commands.GROUP) for name, module in names.items())
    monkeypatch.setattr(commands, "entry_points", lambda **selection: entries.select(**selection))


@pytest.mark.usefixtures("offered")
def test_offered_commands_are_listed_unimported_and_run() -> None:
    listed = run("--help")
    for words in ("classify", "greet", "Greet somebody.", "needy", "Need what is not there.", "broken", "Break."):
        assert words in listed.stdout
    assert "offered_commands" not in sys.modules
    assert run("greet", "you", "--loud").stdout == "YOU\n"
    assert "Shout." in run("greet", "--help").stdout
    assert run("greet").exit_code == 2
    assert run("unknown").exit_code == 2


@pytest.mark.usefixtures("offered")
@pytest.mark.parametrize(("name", "extra"), [("needy", "serve"), ("broken", "build")])
def test_a_missing_extra_is_named(name: str, extra: str) -> None:
    result = run(name)
    assert result.exit_code == 2
    assert result.stderr == (
        f"`newsdesk {name}` needs no_such_package, which is not installed: pip install 'newsdesk[{extra}]'\n"
    )


@pytest.mark.parametrize("name", ["", "classify", "models", *sorted(entry_points(group=commands.GROUP).names)])
def test_help_fits_a_screen(name: str) -> None:
    command = [NEWSDESK, *filter(None, [name]), "--help"]  # the test runner's own width is fixed
    environment = os.environ | {"COLUMNS": "100", "TERM": "dumb"}
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment)
    lines = result.stdout.splitlines()
    assert result.returncode == 0
    assert "Usage" in result.stdout
    assert (
        len(lines) <= 68
    )  # of a tall one: serve has a line for each of its settings, feedback and roll-outs among them
    assert max(map(len, lines)) <= 100


def test_a_variable_of_the_options_is_named_once() -> None:
    shown = run("doctor", "--help").output
    assert shown.count("NEWSDESK_") == 1
    assert "--host is also NEWSDESK_HOST, and so on." in shown


@pytest.mark.parametrize(
    ("words", "expected"),
    [("newsdesk cl", "classify"), ("newsdesk classify --qu", "--quality"), ("newsdesk serve --http", "--http-port")],
)
def test_the_shell_completes(words: str, expected: str) -> None:
    completion = {"_NEWSDESK_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
    result = subprocess.run([NEWSDESK], capture_output=True, text=True, timeout=60, env=os.environ | completion)
    assert expected in result.stdout.split()
    assert "--install-completion" in run("--help").output


def test_every_command_writes_json() -> None:
    group: Any = typer.main.get_command(app)
    context = typer.Context(group)
    names = group.list_commands(context)
    assert {"classify", "models", "serve", "build"} <= {*names}
    commands = {name: group.resolve_command(context, [name])[1] for name in names}
    options = {
        name: {flag for parameter in command.params for flag in parameter.opts} for name, command in commands.items()
    }
    assert [name for name in names if "--json" not in options[name]] == []
