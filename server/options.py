"""Options of commands, each declared once: a field of a frozen dataclass is a flag, a variable and a key of serve.toml.

A value comes from the flag, else the variable, else the file, else the field's default. The field also holds the help
and which values can be used, so that a refusal names all that a reader needs.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from newsdesk.server.runtime.errors import ServerError

_KEY = "option"
_T = TypeVar("_T")


@dataclass(frozen=True)
class Expected:
    """The values of an option that can be used, in words and as a test of each."""

    words: str
    holds: Callable[[Any], object]


PORT = Expected("a port between 1 and 65535", lambda port: 1 <= port <= 65535)


@dataclass(frozen=True)
class Option:
    """A field as an option.

    Args:
        help: the line of `--help`
        unset: how help writes the default where the settings, not the field, decide it; None shows the field's
        expected: the values that can be used; None leaves it to the settings
        name: the option's name with _ for -, where it is not the field's
        kind: the type of its values, where it is not the field's
        shown: write a value as a message may show it
        panel: the heading above it in help, where it is not the PANEL of its settings
    """

    help: str
    unset: str | None = None
    expected: Expected | None = None
    name: str = ""
    kind: Any = None
    shown: Callable[[str], str] = str
    panel: str | None = None


def option(default: Any, about: str, *, factory: Callable[[], Any] | None = None, **more: Any) -> Any:
    """Return a dataclass field that is an option.

    Args:
        default: of the field; one without (`dataclasses.MISSING`) is left out on the command line, and filled by the
            settings
        about: the line of `--help`
        factory: makes the default, instead
        more: arguments of Option, and of `dataclasses.field` its repr
    """
    own: dict[str, Any] = {"repr": more.pop("repr", True), "metadata": {_KEY: Option(about, **more)}}
    if factory is not None:
        return dataclasses.field(default_factory=factory, **own)
    return dataclasses.field(default=default, **own)


def options(settings: type) -> Iterator[tuple[str, dataclasses.Field, Option]]:
    """Yield each option of a dataclass: its name, its field and what else is declared."""
    for field in dataclasses.fields(settings):
        if declared := field.metadata.get(_KEY):
            yield declared.name or field.name, field, declared


def fill(settings: type, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a dataclass from values of options by their names, without those that are None."""
    names = {name: field.name for name, field, _ in options(settings)}
    chosen = {names[name]: value for name, value in values.items() if name in names and value is not None}
    return {name: tuple(value) if isinstance(value, list) else value for name, value in chosen.items()}


def named(name: str) -> str:
    """Return an option as its flag and its variable."""
    return f"--{name.replace('_', '-')} ({variable(name)})"


def variable(name: str) -> str:
    """Return the environment's variable of an option."""
    return f"NEWSDESK_{name.upper()}"


def refusal(settings: type, field: str, value: object, expected: str) -> str:
    """Return the message for a value of a field: its flag and variable, the value, and what was expected."""
    name, _, declared = next(entry for entry in options(settings) if entry[1].name == field)
    return f"{named(name)} is {declared.shown(str(value))!r}; expected {expected}."


def normalise(settings: Any, error: type[ServerError]) -> None:
    """Make the paths of a settings object absolute, and check its values.

    Call it in `__post_init__`: whoever reads the settings may run in another directory.

    Args:
        settings: is changed
        error: is raised for the first value that cannot be used
    """
    for _, field, declared in options(type(settings)):
        value = getattr(settings, field.name)
        if isinstance(value, Path):
            value = value.expanduser().absolute()
            object.__setattr__(settings, field.name, value)
        if declared.expected is None or value is None:
            continue
        for item in value if isinstance(value, tuple) else (value,):
            if not declared.expected.holds(item):
                raise error(refusal(type(settings), field.name, item, declared.expected.words))


def encode(settings: Any) -> bytes:
    """Return a dataclass of options as JSON, for another process; `decode` reads it."""
    return msgspec.json.encode(settings, enc_hook=str)


def decode(raw: bytes, settings: type[_T]) -> _T:
    """Return the dataclass that `encode` wrote."""
    return msgspec.json.decode(raw, type=settings, dec_hook=lambda kind, value: kind(value))
