"""The commands `newsdesk serve`, `prepare` and `doctor`. Their packages are imported when they run."""

import json
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from newsdesk.clients.cli.options import AsJson
from newsdesk.server import options
from newsdesk.server.gateway.settings import GatewaySettings
from newsdesk.server.runtime.errors import ServerError
from newsdesk.server.serving import privacy
from newsdesk.server.serving.command_line import taking
from newsdesk.server.serving.settings import Settings, SettingsError, with_gateway

if TYPE_CHECKING:
    from newsdesk.server.serving.deployment import Deployment
    from newsdesk.server.serving.preflight import Check
    from newsdesk.server.serving.prepare import Preparation
    from newsdesk.server.serving.triton import ProbeAnswer

Events = Annotated[bool, typer.Option("--json", help="Say what happens as a JSON object a line.")]


def configured(*only: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return a decorator for a command that takes `settings`: those options, or all of them."""
    return taking("settings", lambda **values: settings_of(**values), only)


@configured()
def serve(*, settings: Settings, as_json: Events = False) -> None:
    """Serve models on NVIDIA Triton until Ctrl-C, and keep them answering; SIGUSR1 reloads them."""
    began = time.monotonic()
    os.umask(privacy.UMASK)
    say, show, welcome = (_tell, _show_events, _welcome_event) if as_json else (_say, _show, _welcome)
    if settings.config:
        say(f"settings are read from {settings.config}, too")
    from newsdesk.server.serving import deployment, gateway, limits, preflight
    from newsdesk.server.serving.supervisor import Supervisor

    limits.raise_open_files()
    checks = preflight.check(settings)
    checks += gateway.check(settings)
    show(check for check in checks if check.level != "ok")
    if any(check.level == "problem" for check in checks):
        raise typer.Exit(2)
    try:
        deployments, candidates = deployment.arrange(settings, say)
        for served in deployments:
            about = f"{served.instances} backend processes of {served.threads} threads with {served.target}"
            say(f"starting {about}" + (f" for {served.model}" if len(deployments) > 1 else ""))
        for tried in candidates:
            say(str(tried.candidate))
        supervisor = Supervisor(settings, deployments, say, candidates)
        supervisor.run(lambda answers: welcome(settings, deployments, answers, time.monotonic() - began))
    except (ServerError, OSError) as error:
        fail(error)
    say("stopped")


@configured("model_repository", "model", "state")
def prepare(*, settings: Settings, as_json: AsJson = False) -> None:
    """Measure each member's compile targets on this machine, print them, and record the fastest for `serve`.

    The graphs that are rewritten for it are kept, too.
    """
    os.umask(privacy.UMASK)
    import msgspec

    from newsdesk.server.runtime.repository import choose, latest_version
    from newsdesk.server.serving import graphs, steps
    from newsdesk.server.serving.prepare import prepare as measure

    say = _hush if as_json else _say
    try:
        for model in choose(settings.model_repository, settings.model):
            folder = settings.model_repository / model
            preparation = measure(folder, settings.state, say, again=True)
            steps.finish(graphs.making(latest_version(folder), preparation.target, settings.state, say))
            if as_json:
                print(json.dumps({"model": model, **msgspec.to_builtins(preparation)}))
            else:
                print(model)
                _table(preparation)
    except (ServerError, OSError) as error:
        fail(error)


@configured()
def doctor(*, settings: Settings, as_json: AsJson = False) -> None:
    """Check what `serve` needs, and say what to do about what lacks. Code 2: something stops it."""
    from newsdesk.server.serving import gateway, preflight

    checks = preflight.check(settings) + gateway.check(settings)
    if as_json:
        print(json.dumps([asdict(check) for check in checks], indent=1))
    else:
        _show(checks)
    if any(check.level == "problem" for check in checks):
        raise typer.Exit(2)


def settings_of(*, gateway: bool | None = False, **values: Any) -> Settings:
    """Return the settings of options by their names; None stands for one that is not set.

    Args:
        gateway: whether the gateway is started, too
        values: of the options of `Settings` and `GatewaySettings`

    Raises:
        typer.Exit: with code 2, when it was said which cannot be used.
    """
    try:
        settings = Settings(config=values.get("config"), **options.fill(Settings, values))
        if gateway is False and (tried := [name for name in ("canary", "shadow") if values.get(name)]):
            raise SettingsError(f"{options.named(tried[0])} needs the gateway, which shares out the texts.")
        return settings if gateway is False else with_gateway(settings, **options.fill(GatewaySettings, values))
    except ServerError as error:
        read = f" Settings are read from {values['config']}, too." if values.get("config") else ""
        typer.echo(f"{error}{read}", err=True)
        raise typer.Exit(2) from error


def _hush(_: str) -> None:
    """Standard output is for the JSON."""


def _say(what: str) -> None:
    print(f"newsdesk {time.strftime('%H:%M:%S')} {what}", flush=True)


def _tell(what: str) -> None:
    """`_say` for programs."""
    _event("note", text=what)


def _event(kind: str, **about: Any) -> None:
    print(json.dumps({"time": round(time.time(), 3), "event": kind, **about}), flush=True)


def fail(error: Exception) -> None:
    """Say what stopped a command, and end it with code 1.

    Raises:
        typer.Exit: always.
    """
    typer.echo(f"newsdesk: {error}", err=True)
    raise typer.Exit(1) from error


def _show(checks: "Iterable[Check]") -> None:
    for check in checks:
        print(f"{check.level:8} {check.name:13} {check.found}", flush=True)
        if check.remedy:
            print(f"{'':22} → {check.remedy}", flush=True)


def _show_events(checks: "Iterable[Check]") -> None:
    for check in checks:
        _event("check", **asdict(check))


def _table(preparation: "Preparation") -> None:
    print(f"{'member':12} {'target':26} {'texts/s':>10}  one process, one thread, {preparation.machine}")
    members = list(preparation.targets)
    for measured in sorted(
        preparation.measured, key=lambda measured: (members.index(measured.member), -measured.articles_per_second)
    ):
        speed = f"{measured.articles_per_second:10.0f}" if measured.articles_per_second else f"{'':10}"
        note = (
            f"refused: {measured.refused}"
            if measured.refused
            else "serves"
            if measured.target == preparation.targets[measured.member]
            else ""
        )
        print(f"{measured.member:12} {measured.target:26} {speed}  {note}".rstrip())


def _welcome(
    settings: Settings, deployments: "Sequence[Deployment]", answers: "Mapping[str, ProbeAnswer]", seconds: float
) -> None:
    from newsdesk.server.serving import welcome

    print(welcome.write(settings, deployments, answers, seconds), flush=True)


def _welcome_event(
    settings: Settings, deployments: "Sequence[Deployment]", answers: "Mapping[str, ProbeAnswer]", seconds: float
) -> None:
    from newsdesk.server.serving import welcome

    _event("serving", **welcome.describe(settings, deployments, answers, seconds))
