"""NEWSDESK_… variables as options of commands: errors name them, and those that Kubernetes set are passed over."""

import os
import re
from typing import Any

import typer
import typer.core

_OURS = "NEWSDESK_"
# https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables
_SERVICE_LINK = re.compile(r"(tcp|udp|sctp)://\S+:\d+")
_ADVICE = "Kubernetes sets them for a Service of that name; `enableServiceLinks: false` in the Pod leaves them out."


class Command(typer.core.TyperCommand):
    """A command whose options may come from variables, and stand in help under the headings of their panels."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the help of the options, by their panels."""
        panels: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            ours = "Arguments" if parameter.param_type_name == "argument" else "Options"
            if record := parameter.get_help_record(ctx):
                panels.setdefault(getattr(parameter, "rich_help_panel", None) or ours, []).append(record)
        for heading, records in panels.items():
            with formatter.section(heading):
                formatter.write_dl(records)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the options, and name the variable or flag that holds a wrong value."""
        if links := pass_over_service_links():
            named = ", ".join(f"{name}={value}" for name, value in links.items())
            typer.echo(f"newsdesk: warning: no setting, passed over: {named}. {_ADVICE}", err=True)
        try:
            return super().parse_args(ctx, args)
        except typer.BadParameter as error:
            _name_source(error, ctx)
            raise


def pass_over_service_links() -> dict[str, str]:
    """Take the service links of Kubernetes out of the environment, and return them.

    For a Service named newsdesk-gateway it sets NEWSDESK_GATEWAY_PORT=tcp://10.0.0.1:8080, which is not a port.
    """
    links = {
        name: value
        for name, value in os.environ.items()
        if name.startswith(_OURS) and name.endswith("_PORT") and _SERVICE_LINK.fullmatch(value)
    }
    for name in links:
        del os.environ[name]
    return links


def _name_source(error: typer.BadParameter, ctx: Any) -> None:
    """Have an error say which variable, or flag, holds which value."""
    parameter: Any = error.param
    if parameter is None:
        return
    source = ctx.get_parameter_source(parameter.name)
    if source is not None and source.name == "ENVIRONMENT":
        error.param_hint = f"{parameter.envvar} ({parameter.opts[0]})"
        value = os.environ.get(parameter.envvar, "")
    elif isinstance(error.__cause__, ValueError) and hasattr(error.__cause__, "errors"):  # pydantic's
        value = error.__cause__.errors()[0]["input"]
    else:
        return
    if repr(value) not in error.message:
        error.message = f"it is {value!r}. {error.message}"
