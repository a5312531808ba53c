"""How each model of a repository is served on this machine: as was measured here, unless settings say otherwise."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from newsdesk.server.runtime import repository
from newsdesk.server.serving import prepare, tuning
from newsdesk.server.serving.settings import Settings


@dataclass(frozen=True)
class Deployment:
    folder: Path
    """The model's folder in the repository, which is called as the model is."""
    target: str
    """The compile target of each member, as `targets` reads it."""
    instances: int
    """Backend processes."""
    threads: int = 1
    """Threads of each process's engine."""
    queue_delay: int | None = None
    """Microseconds that a request may wait for others; None = what the model's own configuration says."""

    @property
    def model(self) -> str:
        return self.folder.name


def plan(settings: Settings, say: Callable[[str], None]) -> list[Deployment]:
    """Return how to serve the models that are wanted, each measured on this machine where that was not done before.

    Raises RepositoryError, ManifestError and PreparationError.
    """
    return [
        _plan(tuning.applied(settings, name), name, say)
        for name in repository.choose(settings.model_repository, settings.model)
    ]


def _plan(settings: Settings, model: str, say: Callable[[str], None]) -> Deployment:
    folder = settings.model_repository / model
    target = settings.target or prepare.prepare(folder, settings.state, say).target
    return Deployment(folder, target, settings.instance_count, settings.threads or 1, settings.queue_delay)
