"""rollback, canary and tune, for the `newsdesk` command line."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from newsdesk.server.contract import CANDIDATE
from newsdesk.server.serving.commands import AsJson, configured, fail
from newsdesk.server.serving.settings import Settings

if TYPE_CHECKING:
    from newsdesk.server.rollouts import TrialStatus


@configured("model_repository", "model", "state")
def rollback(*, settings: Settings, as_json: AsJson = False) -> None:
    """Go back to the version before: take a model's latest out of service, and have the running server load it."""
    from newsdesk.server.machine import versions
    from newsdesk.server.runtime import repository
    from newsdesk.server.runtime.errors import ServerError

    try:
        model = settings.model_repository / repository.only(settings.model_repository, settings.model)
        withdrawn, serves = versions.withdraw(model)
        if not as_json:
            print(f"version {withdrawn} is now {model / (withdrawn + versions.WITHDRAWN)}", flush=True)
        running = versions.reload(settings.state, model.name)
    except ServerError as error:
        fail(error)
    if as_json:
        print(json.dumps({"withdrawn": withdrawn, "latest": serves, "running": running}))
        return
    print(
        "\n".join(f"the running server serves version {version}" for version in running)
        or f"version {serves} is the latest"
    )


Action = Annotated[Literal["status", "promote", "withdraw"], typer.Argument(help="What to do.")]


@configured("model_repository", "model", "state")
def canary(action: Action = "status", *, settings: Settings, as_json: AsJson = False) -> None:
    """Say how the version that is tried beside the current one does, have it take its place, or take it out."""
    import msgspec
    from msgspec.structs import replace

    from newsdesk.server.machine import servers, versions
    from newsdesk.server.rollouts import read_status
    from newsdesk.server.runtime.errors import ServerError

    trials = [trial for _, run, _ in servers.running(settings.state) for trial in read_status(run)]
    trials = [trial for trial in trials if not settings.model or trial.model in settings.model]
    try:
        if action != "status":
            if len(trials) != 1:
                tried = ", ".join(f"{trial.model} ({trial.version})" for trial in trials) or "none"
                raise ServerError(f"one version is to {action}, and tried are: {tried}. Name its model with --model.")
            (trial,) = trials
            name = f"{trial.model}{CANDIDATE}{trial.version}"
            trials = [replace(trial, state=versions.decide(settings.state, name, action))]
    except ServerError as error:
        fail(error)
    if as_json:
        print(json.dumps(msgspec.to_builtins(trials)))
        return
    print("\n".join(map(_trial_line, trials)) or "no version is tried")


def _trial_line(trial: "TrialStatus") -> str:
    part = f"{100 * trial.share:.4g} % of the texts" if trial.share else "no text"
    lines = [f"{trial.model} {trial.version}, a {trial.kind} that answers {part}: {trial.state}"]
    of_both = (
        (trial.version, trial.requests, trial.failed_share, trial.median_ms),
        (trial.current, trial.current_requests, trial.current_failed_share, trial.current_median_ms),
    )
    for version, requests, failed, took in of_both:
        lines.append(f"  version {version}: {requests} requests, {failed:.1%} failed, median {took:g} ms")
    if trial.texts_compared:
        lines.append(f"  {trial.texts_compared} texts compared, {trial.disagreement_share:.1%} disagree")
    if trial.drift_index:
        lines.append(f"  the shares of their labels differ by an index of {trial.drift_index:.2f}")
    return "\n".join(lines)


Texts = Annotated[
    Path | None, typer.Option(help="Your texts, one a line, in UTF-8.", show_default="made up, as long as a feed's")
]
Minutes = Annotated[float, typer.Option(help="Time for the loads, beside what starting the servers takes.")]


@configured("model_repository", "model", "state")
def tune(*, texts: Texts = None, minutes: Minutes = 1.5, settings: Settings, as_json: AsJson = False) -> None:
    """Measure which engine, processes, threads and queue delay serve best here, for `serve` to use; print the curve."""
    import sys

    import msgspec

    from newsdesk.server.runtime import repository
    from newsdesk.server.runtime.errors import ServerError
    from newsdesk.server.serving import prepare, tuning

    try:
        model = repository.only(settings.model_repository, settings.model)
        sample = (
            [line for line in texts.read_text("utf-8").splitlines() if line.strip()] if texts else prepare.articles()
        )
        if not sample:
            raise tuning.TuningError(f"{texts}: no text in it, expected one a line")
        tuned = tuning.tune(
            settings, model, sample, 60 * minutes, lambda what: print(what, file=sys.stderr, flush=True)
        )
    except (ServerError, OSError, UnicodeDecodeError) as error:
        fail(error)
    if as_json:
        print(msgspec.json.encode(tuned).decode())
        return
    print(f"{tuned.target}, {tuned.texts} texts of {tuned.mean_words} words on average, {tuned.machine}\n")
    head = f"p50 ms, {tuning.ALONE} client", f"texts/s, {tuning.MANY} clients", "p50 ms", "p99 ms"
    print(f"{'processes':>9} {'threads':>7} {'delay µs':>8} {head[0]:>16} {head[1]:>22} {head[2]:>7} {head[3]:>7}")
    for point in tuned.curve:
        setup = point.setup
        row = f"{setup.instances:9} {setup.threads:7} {setup.queue_delay:8} "
        if point.alone and point.many:
            row += f"{point.alone.p50_ms:16.1f} {point.many.per_second:22.0f} {point.many.p50_ms:7.0f} "
            row += f"{point.many.p99_ms:7.0f}{'  serves' if setup == tuned.best else ''}"
        print(row + point.refused)
