"""Commands that other parts of newsdesk offer, imported when one of them is used and not before.

They are named by entry points of the group "newsdesk.commands". The list in `newsdesk --help` reads the first line of
a command's docstring from its source, because importing what it needs takes seconds, and may fail where that is not
installed.
"""

import ast
import functools
import importlib.util
from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import typer
import typer.core

from newsdesk.clients.environment import Command

GROUP = "newsdesk.commands"
# Which extra of the package a command's module needs, by the start of the module's name.
_EXTRAS = {"newsdesk.server": "serve", "newsdesk.build": "build"}

# Columns of help. These commands have many options: plain help is half as long as boxes.
_WIDEST = 100


class CommandGroup(typer.core.TyperGroup):
    """The application's own commands and the offered ones."""

    def list_commands(self, ctx: typer.Context) -> list[str]:  # type: ignore[override]
        """Return the names of both."""
        return [*super().list_commands(ctx), *sorted(entry_points(group=GROUP).names)]

    def get_command(self, ctx: typer.Context, cmd_name: str) -> Any:  # type: ignore[override]
        """Return a command, an offered one without its options."""
        offered = entry_points(group=GROUP, name=cmd_name)
        if super().get_command(ctx, cmd_name) or not offered:
            return super().get_command(ctx, cmd_name)
        (entry, *_) = offered
        return typer.core.TyperCommand(cmd_name, help=summary(entry))

    def resolve_command(self, ctx: typer.Context, args: list[str]) -> Any:  # type: ignore[override]
        """Return the command that is to run, imported where it is an offered one."""
        name, command, rest = super().resolve_command(ctx, args)
        offered = entry_points(group=GROUP, name=name or "")
        if super().get_command(ctx, name or "") is None and offered:
            (entry, *_) = offered
            command = load(entry)
        return name, command, rest


def load(entry: EntryPoint) -> Any:
    """Import a command, and have it say what to install and exit with 2 where something it needs is not installed."""
    single = typer.Typer(add_completion=False, rich_markup_mode=None)
    single.command(entry.name, cls=Command, context_settings={"max_content_width": 100})(
        _advised(entry, _advised(entry, entry.load)())
    )
    return shortened(typer.main.get_command(single))


def shortened(command: Any) -> Any:
    """Say once what the variables of the options are called, so that the help fits a screen."""
    named = [option for option in command.params if getattr(option, "show_envvar", False) and option.envvar]
    for option in named:
        option.show_envvar = False
    if named:
        example = named[0]
        command.epilog = f"{example.opts[0]} is also {example.envvar}, and so on."
    return command


def summary(entry: EntryPoint) -> str:
    """Return the first line of the command's docstring, without importing its module; "" where there is none."""
    try:
        spec = importlib.util.find_spec(entry.module)
    except ModuleNotFoundError:
        return ""
    if spec is None or spec.loader is None or not hasattr(spec.loader, "get_source"):
        return ""
    for node in ast.parse(spec.loader.get_source(entry.module) or "").body:
        if isinstance(node, ast.FunctionDef) and node.name == entry.attr:
            return (ast.get_docstring(node) or "").partition("\n")[0]
    return ""


def _advised(entry: EntryPoint, function: Callable[..., Any]) -> Callable[..., Any]:
    extra = next((extra for start, extra in _EXTRAS.items() if entry.module.startswith(start)), None)

    @functools.wraps(function)
    def advised(*args: Any, **options: Any) -> Any:
        try:
            return function(*args, **options)
        except ModuleNotFoundError as error:
            if extra is None or (error.name or "").startswith("newsdesk"):
                raise
            typer.echo(
                f"`newsdesk {entry.name}` needs {error.name}, which is not installed: pip install 'newsdesk[{extra}]'",
                err=True,
            )
            raise typer.Exit(2) from error

    return advised
