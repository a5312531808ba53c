"""`newsdesk models`: what a gateway serves, and, for operators, loading, unloading and going back a version."""

import json
from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from newsdesk.clients.cli.options import (
    GATEWAY_URL,
    ApiKey,
    AsJson,
    GatewayUrl,
    Timeout,
    TlsCa,
    TlsCert,
    TlsKey,
    certificates,
)
from newsdesk.clients.errors import BadResponse, NewsdeskError
from newsdesk.clients.transports import Address, only, parse

if TYPE_CHECKING:
    from newsdesk.clients.web import Web

_FIGURE_WIDTH = 40


class Action(StrEnum):
    """The things to do with models."""

    list = "list"
    load = "load"
    unload = "unload"
    rollback = "rollback"


def models(
    action: Annotated[Action, typer.Argument(help="load, unload and rollback need the role operator.")] = Action.list,
    model: Annotated[
        str, typer.Argument(metavar="[MODEL]", help="Which; without, the only one.", show_default=False)
    ] = "",
    url: GatewayUrl = GATEWAY_URL,
    api_key: ApiKey = None,
    tls_ca: TlsCa = None,
    tls_cert: TlsCert = None,
    tls_key: TlsKey = None,
    timeout: Timeout = 60.0,
    as_json: AsJson = False,
) -> None:
    """List the models that a gateway serves, with their versions and figures; load, unload or roll back one.

    Exit code: 0 done, 2 wrong usage, refused or no gateway.
    """
    try:
        if "," in url:
            raise ValueError(
                "the URL names several gateways, expected one: versions are each one's own, so ask each alone"
            )
        address = parse(url, model, api_key or None, **certificates(tls_ca, tls_cert, tls_key))
        typer.echo(_done(action, model, address, timeout, as_json))
    except (NewsdeskError, OSError, ValueError) as error:
        typer.echo(f"newsdesk: {error}", err=True)
        raise typer.Exit(2) from error


def _done(action: Action, model: str, address: Address, timeout: float, as_json: bool) -> str:
    url = address.url
    if not address.scheme.startswith("gateway"):
        raise ValueError(f"url is {url!r}, expected gateway+http://host:port: the gateway knows versions and figures")
    from newsdesk.clients.web import Web  # imports urllib3 and aiohttp, which no other command's --help needs

    web = Web(address)
    try:
        if action is Action.list:
            listed = json.loads(web.call("GET", "/v1/models", None, {}, timeout)[0])["models"]
            return json.dumps(listed) if as_json else "\n".join(line for entry in listed for line in _lines(entry))
        model = model or _only(web, url, timeout)
        path = f"/v2/repository/models/{model}/{action}"
        body = web.call("POST", path, b"{}", {"Content-Type": "application/json"}, timeout)[0]
        outcome = json.loads(body) if body else {}
        return (
            json.dumps({"action": action, "model": model, **outcome}) if as_json else _outcome(action, model, outcome)
        )
    except (ValueError, KeyError, TypeError) as error:
        raise BadResponse(f"{url} does not say what it serves ({error!r}): is it a gateway?") from error
    finally:
        web.close()


def _only(web: "Web", url: str, timeout: float) -> str:
    """Return the name of the only model, loaded or not. Raises RequestRefused where there are more."""
    index = web.call("POST", "/v2/repository/index", b"{}", {"Content-Type": "application/json"}, timeout)[0]
    return only([model["name"] for model in json.loads(index)], url)


def _outcome(action: Action, model: str, outcome: Mapping[str, Any]) -> str:
    if action is Action.rollback:
        return f"{model}: version {outcome['withdrawn']} is withdrawn, {outcome['serves']} serves"
    return f"{model}: {action}ed"


def _lines(model: Mapping[str, Any]) -> Iterator[str]:
    yield f"{model['name']}  version {', '.join(model['versions']) or 'none'}  {model['target'] or ''}".rstrip()
    yield f"  labels   {', '.join(model['labels'])}"
    yield f"  members  {', '.join(member['name'] for member in model['members'])}"
    for name, figure in _figures((model["figures"] or {}).get("accuracy", {}), "accuracy."):
        yield f"  {name:{_FIGURE_WIDTH}} {figure}"


def _figures(figures: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, str]]:
    """Name every number by its place: "test.served.accuracy"."""
    for name, value in figures.items():
        if isinstance(value, Mapping):
            yield from _figures(value, f"{above}{name}.")
        elif isinstance(value, int | float):
            yield f"{above}{name}", f"{value:.4f}" if isinstance(value, float) else f"{value:,}"
