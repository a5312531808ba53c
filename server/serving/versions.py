"""The versions of a model: folders 1, 2, … of which the highest serves, and the way back to the one before."""

import os
import signal
import time
from pathlib import Path

from newsdesk.server.serving import workspace
from newsdesk.server.serving.workspace import RepositoryError

WITHDRAWN = ".withdrawn"
"""What a version folder's name ends in once it was taken out of service: Triton and newsdesk pass over it."""
_LOADS_WITHIN = 300.0
_TICK_SECONDS = 0.1


def withdraw(model: Path) -> tuple[str, str]:
    """Take the highest version of a model folder out of service, in one rename.

    Returns its number and that of the version before, which now serves. Raises RepositoryError where there is none.
    """
    latest = workspace.latest_version(model)
    before = workspace.versions(model)[:-1]
    if not before:
        raise RepositoryError(
            f"{model}: version {latest.name} is the only one, there is none to go back to. Put a version folder "
            f"(1, 2, …) there, or take one back by its name ({model}/<number>{WITHDRAWN} → <number>)."
        )
    try:
        latest.rename(latest.with_name(latest.name + WITHDRAWN))
    except OSError as error:
        raise RepositoryError(f"{latest}: cannot be renamed to {latest.name}{WITHDRAWN}: {error.strerror}") from error
    return latest.name, before[-1].name


def reload(state: Path) -> list[str]:
    """Have every running server with this state folder load its repository anew, and wait until each has.

    Returns the version each serves. Raises RepositoryError with the reason where one refused.
    """
    return _ask(state, signal.SIGUSR1)


def unload(state: Path) -> list[str]:
    """Have every running server with this state folder unload its model, and wait until each has.

    Returns the version each would serve. Raises RepositoryError where one does not.
    """
    return _ask(state, signal.SIGUSR2)


def _ask(state: Path, wish: signal.Signals) -> list[str]:
    asked = workspace.running(state)
    for owner, _ in asked:
        os.kill(owner.pid, wish)
    before = {owner: served.loads for owner, served in asked}
    deadline = time.monotonic() + _LOADS_WITHIN
    while True:
        now = [(owner, served) for owner, served in workspace.running(state) if owner in before]
        if all(served.loads > before[owner] for owner, served in now):
            break
        if time.monotonic() > deadline:
            raise RepositoryError(f"the server has not done so within {_LOADS_WITHIN:.0f} s; its output says why")
        time.sleep(_TICK_SECONDS)
    if refused := [served for _, served in now if served.refused]:
        raise RepositoryError(f"not loaded, version {refused[0].version} goes on: {refused[0].refused}")
    return [served.version for _, served in now]
