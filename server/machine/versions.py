"""The versions of a model: folders 1, 2, … of which the highest serves, and the way back to the one before."""

import time
from pathlib import Path

from newsdesk.server.machine import servers
from newsdesk.server.machine.processes import Process
from newsdesk.server.machine.servers import LOAD, UNLOAD, Served
from newsdesk.server.runtime import repository
from newsdesk.server.runtime.repository import WITHDRAWN, RepositoryError, latest_version

_LOADS_WITHIN = 300.0
_TICK_SECONDS = 0.1


def set_aside(version: Path) -> None:
    """Take a version folder out of service, in one rename.

    Raises:
        RepositoryError: it cannot be renamed.
    """
    try:
        version.rename(version.with_name(version.name + WITHDRAWN))
    except OSError as error:
        raise RepositoryError(f"{version}: cannot be renamed to {version.name}{WITHDRAWN}: {error.strerror}") from error


def withdraw(model: Path) -> tuple[str, str]:
    """Take the highest version of a model folder out of service, in one rename.

    Returns:
        Its number and that of the version before, which now serves.

    Raises:
        RepositoryError: there is no version before it.
    """
    latest = latest_version(model)
    before = repository.versions(model)[:-1]
    if not before:
        raise RepositoryError(
            f"{model}: version {latest.name} is the only one, there is none to go back to. Put a version folder "
            f"(1, 2, …) there, or take one back by its name ({model}/<number>{WITHDRAWN} → <number>)."
        )
    set_aside(latest)
    return latest.name, before[-1].name


def reload(state: Path, model: str) -> list[str]:
    """Have every running server with this state folder that serves a model load it anew, and wait until each has.

    Returns:
        The version that each serves.

    Raises:
        RepositoryError: one refused, with the reason, or took longer than five minutes.
    """
    return ask(state, model, LOAD)


def unload(state: Path, model: str) -> list[str]:
    """Have every running server with this state folder that serves a model unload it, and wait until each has.

    Returns:
        The version that each would serve.

    Raises:
        RepositoryError: one does not, or took longer than five minutes.
    """
    return ask(state, model, UNLOAD)


def decide(state: Path, candidate: str, action: str) -> str:
    """Have every running server with this state folder promote or withdraw a candidate, and wait until each has.

    Args:
        state: the servers' state folder
        candidate: the name that Triton serves it by
        action: PROMOTE or WITHDRAW

    Returns:
        What became of it.

    Raises:
        RepositoryError: it goes on as before, or nobody tries it.
    """
    ask(state, candidate, action)
    outcomes = [served[candidate].outcome for _, _, served in servers.running(state) if candidate in served]
    if not outcomes or not all(outcomes):
        raise RepositoryError(f"no running server tries {candidate}: newsdesk serve --canary or --shadow has it tried")
    return outcomes[0]


def ask(state: Path, model: str, action: str) -> list[str]:
    """Have every running server with this state folder that serves a model do what is asked, and wait until each has.

    Returns:
        The version that each serves then.

    Raises:
        RepositoryError: one refused, with the reason, or took longer than five minutes.
    """
    before = {}
    for owner, root, served in servers.running(state):
        if model in served:
            before[owner] = served[model].loads
            servers.wish(root, model, action)
    deadline = time.monotonic() + _LOADS_WITHIN
    while True:
        now: dict[Process, Served] = {
            owner: served[model] for owner, _, served in servers.running(state) if owner in before and model in served
        }
        if all(served.loads > before[owner] for owner, served in now.items()):
            break
        if time.monotonic() > deadline:
            raise RepositoryError(f"the server has not done so within {_LOADS_WITHIN:.0f} s; its output says why")
        time.sleep(_TICK_SECONDS)
    if refused := [served for served in now.values() if served.refused]:
        raise RepositoryError(f"not loaded, version {refused[0].version} goes on: {refused[0].refused}")
    return [served.version for served in now.values()]
