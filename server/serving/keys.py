"""`newsdesk keys`: the gateway's API keys."""

import json
import time
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from newsdesk.server.serving.command_line import taking
from newsdesk.server.serving.commands import AsJson
from newsdesk.server.serving.settings import default_state

if TYPE_CHECKING:
    from newsdesk.server.gateway.keys import Key


class KeyAction(StrEnum):
    """The things to do with keys."""

    create = "create"
    list = "list"
    revoke = "revoke"


class RoleName(StrEnum):
    """The roles that a key can have, by their names."""

    reader = "reader"
    operator = "operator"
    admin = "admin"


def _file(*, state: Path | None = None, keys: Path | None = None, **_: Any) -> Path:
    return keys or (state or default_state()) / "keys.json"


@taking("file", _file, ("keys", "state"))
def keys(
    *,
    action: Annotated[KeyAction, typer.Argument(help="create NAME, list, or revoke ID.")],
    which: Annotated[str, typer.Argument(metavar="[NAME|ID]", help="Whose the new key is, or the key's id.")] = "",
    role: Annotated[RoleName, typer.Option(help="reader classifies, operator loads models too.")] = RoleName.reader,
    days: Annotated[float | None, typer.Option(help="Days until it expires.", show_default="never")] = None,
    file: Path,
    as_json: AsJson = False,
) -> None:
    """Create, list and revoke the API keys of the gateway. A key is shown once; only its hash is kept."""
    from newsdesk.server.gateway.keys import KeyFile, KeysError, Role

    store = KeyFile(file)
    try:
        if (action is KeyAction.list) == bool(which):
            raise KeysError("expected `create NAME`, `list` or `revoke ID`")
        if action is KeyAction.create:
            key, text = store.create(which, Role[role], days)
            typer.echo(json.dumps({"key": text, **key.shown(time.time())}) if as_json else text)
            if not as_json:
                typer.echo(f"{key.role} {key.name!r}, id {key.id}. This key is not shown again.", err=True)
        elif action is KeyAction.revoke:
            key = store.revoke(which)
            typer.echo(json.dumps(key.shown(time.time())) if as_json else f"{key.id} {key.name!r} is revoked")
        else:
            for key in store.keys().values():
                typer.echo(json.dumps(key.shown(time.time())) if as_json else _line(key))
    except (KeysError, OSError) as error:
        typer.echo(f"newsdesk: {error}", err=True)
        raise typer.Exit(2) from error


def _line(key: "Key") -> str:
    until = time.strftime("until %Y-%m-%d %H:%M", time.localtime(key.expires)) if key.expires else "for good"
    return f"{key.id}  {key.role:8}  {key.state(time.time()):7}  {until:22}  {key.name}"
