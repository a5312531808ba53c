"""Settings from the command line: commands take them as flags, as NEWSDESK_… variables and from serve.toml."""

import dataclasses
import difflib
import functools
import inspect
import os
import tomllib
import types
import typing
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from newsdesk.server import options
from newsdesk.server.gateway.settings import GatewaySettings
from newsdesk.server.serving.settings import Settings, SettingsError

FILE = "serve.toml"
CONFIG = "config"
"""The option that names the file of the others."""
_SETTINGS = Settings, GatewaySettings


def taking(
    parameter: str, make: Callable[..., Any], only: Collection[str] = ()
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return a decorator for a command, which puts options in the place of one of its parameters.

    Args:
        parameter: the keyword-only parameter; the command is given what `make` returns
        make: take each option by its name, None where it is not set, and return what the command takes
        only: the names of the options that the command has; without any it has all
    """

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        own = inspect.signature(command, eval_str=True).parameters
        declared: list[inspect.Parameter] = []
        for name, its in own.items():
            declared += _parameters(only) if name == parameter else [its]

        @functools.wraps(command)
        def run(**values: Any) -> Any:
            mine = {name: values.pop(name) for name in own if name != parameter}
            return command(**mine, **{parameter: make(**values)})

        run.__signature__ = inspect.Signature(declared)  # type: ignore[attr-defined]
        run.__annotations__ = {its.name: its.annotation for its in declared}
        return run

    return decorate


def default_file() -> Path:
    """Return the file that is read where none is named."""
    base = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(base) / "newsdesk" / FILE


def read(file: Path) -> dict[str, Any]:
    """Return the options that a file sets.

    Raises:
        SettingsError: the file cannot be read, or the message names what in it cannot be used.
    """
    try:
        table = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise SettingsError(f"{options.named(CONFIG)} is {str(file)!r}; expected a TOML file ({reason}).") from error
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{file}: {error}; expected TOML, as http_port = 8000.") from error
    kinds = {name: _kind(settings, field, about) for settings, name, field, about in _declared()}
    if unknown := [name for name in table if name not in kinds]:
        raise SettingsError(" ".join(_unknown(file, name, kinds) for name in unknown))
    for name, value in table.items():
        try:
            msgspec.convert(value, kinds[name], dec_hook=lambda kind, text: kind(text))
        except (msgspec.ValidationError, TypeError) as error:
            raise SettingsError(f"{file}: {name} is {value!r}; {error}.") from error
    return table


def _unknown(file: Path, name: str, known: Collection[str]) -> str:
    near = difflib.get_close_matches(name.replace("-", "_"), known, 1)
    example = f"perhaps {near[0]}" if near else "as http_port for --http-port"
    return f"{file}: no setting is called {name!r}; expected a flag's name with _ for -, {example}."


def _take_file(context: typer.Context, file: Path | None) -> Path | None:
    """Have the parser look into the file for options that neither a flag nor a variable sets."""
    if file is None and default_file().is_file():
        file = default_file()
    if file is None or context.resilient_parsing:
        return None
    try:
        context.default_map = read(file.expanduser())
    except SettingsError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2) from error
    return file.expanduser().absolute()


def _parameters(only: Collection[str]) -> list[inspect.Parameter]:
    config = typer.Option(
        envvar=options.variable(CONFIG),
        help=f"{FILE}, as http_port = 8000.",
        show_default="in ~/.config/newsdesk",
        show_envvar=False,  # the next one is the example
        is_eager=True,
        callback=_take_file,
    )
    parameters = [_parameter(CONFIG, Path | None, config, None)]
    for settings, name, field, about in _declared():
        if only and name not in only:
            continue
        kind = _kind(settings, field, about)
        default = field.default
        if about.unset is not None or default in (dataclasses.MISSING, None):
            kind, default = kind | None, None
        option = typer.Option(
            *_flags(name, kind, default),
            envvar=options.variable(name),
            help=about.help,
            show_default=about.unset if about.unset is not None else default is not None,
            rich_help_panel=about.panel or getattr(settings, "PANEL", None),
        )
        parameters.append(_parameter(name, kind, option, list(default) if isinstance(default, tuple) else default))
    return parameters


def _declared() -> list[tuple[type, str, dataclasses.Field, options.Option]]:
    return [(settings, *entry) for settings in _SETTINGS for entry in options.options(settings)]


def _kind(settings: type, field: dataclasses.Field, about: options.Option) -> Any:
    """Return the type of an option's values, as Typer reads it."""
    kind = about.kind or typing.get_type_hints(settings)[field.name]
    if isinstance(kind, types.UnionType):  # None stands for an option that is not set
        (kind,) = set(typing.get_args(kind)) - {types.NoneType}
    return list[str] if typing.get_origin(kind) is tuple else kind


def _flags(name: str, kind: Any, default: Any) -> list[str]:
    """A switch that is off by default has one flag."""
    flag = f"--{name.replace('_', '-')}"
    return [flag] if (kind is not bool and kind != bool | None) or default is False else [f"{flag}/--no-{flag[2:]}"]


def _parameter(name: str, kind: Any, option: Any, default: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, option])
