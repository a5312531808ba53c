"""How each model of a repository is served on this machine: as was measured here, unless settings say otherwise."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from newsdesk.server.rollouts import Candidate
from newsdesk.server.runtime import manifest, repository
from newsdesk.server.runtime.cores import FEWEST_INSTANCES
from newsdesk.server.runtime.errors import ManifestError
from newsdesk.server.runtime.repository import WITHDRAWN, RepositoryError, latest_version
from newsdesk.server.serving import prepare, promotions, tuning
from newsdesk.server.serving.settings import Settings


@dataclass(frozen=True)
class Deployment:
    """How one version of a model is served."""

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
    without: str = ""
    """The version that is being tried beside this one, and so is not it."""
    candidate: Candidate | None = None
    """The version to serve beside the current one; None for the current one."""

    @property
    def model(self) -> str:
        """The name that it is served by."""
        return self.candidate.name if self.candidate else self.folder.name

    def version(self) -> Path:
        """Return the folder of the version to serve.

        Raises:
            RepositoryError: there is none, or no more.
        """
        if self.candidate is None:
            return latest_version(self.folder, self.without)
        folder = self.folder / self.candidate.version
        if not folder.is_dir():
            raise RepositoryError(f"{folder}: there is no such version any more")
        return folder


def arrange(settings: Settings, say: Callable[[str], None]) -> tuple[list[Deployment], list[Deployment]]:
    """Return how to serve the models that are wanted, and the candidates beside them.

    Each is measured on this machine where that was not done before. A candidate that cannot be served is passed over.

    Args:
        settings: name the models and the candidates
        say: is told what takes time, and what is passed over

    Raises:
        RepositoryError: a model or a candidate that is named cannot be served so.
        ManifestError: a model's folder does not match its manifest.
        PreparationError: no target is left for a member of a model.
    """
    models = repository.choose(settings.model_repository, settings.model)
    candidates = {candidate.model: candidate for candidate in _candidates(settings, models, say)}
    current = [_arrange(settings, name, candidates.get(name), say) for name in models]
    beside = []
    for served in current:
        if candidate := candidates.get(served.model):
            try:
                beside.append(_beside(settings, served, candidate, say))
            except (ManifestError, prepare.PreparationError, OSError) as error:
                say(f"version {candidate.version} of {candidate.model} is not tried: {error}")
    return current, beside


def _arrange(settings: Settings, model: str, candidate: Candidate | None, say: Callable[[str], None]) -> Deployment:
    folder = settings.model_repository / model
    without = candidate.version if candidate else ""
    settings = tuning.applied(settings, model, without)
    version = latest_version(folder, without)
    target = settings.target or prepare.prepare(folder, settings.state, say, version=version).target
    return Deployment(
        folder, target, settings.instance_count, settings.threads or 1, settings.queue_delay, without=without
    )


def _beside(settings: Settings, current: Deployment, candidate: Candidate, say: Callable[[str], None]) -> Deployment:
    """Return how a candidate is served: by its share of the processes, a shadow, which may be late, by the fewest.

    Raises ManifestError and PreparationError where it cannot be, and RepositoryError where callers could not read it.
    """
    version = current.folder / candidate.version
    own, before = manifest.load(version), manifest.load(current.version())
    if candidate.share and own.labels != before.labels:
        raise RepositoryError(
            f"--canary names version {candidate.version} of {candidate.model}, whose labels are {own.labels}; expected "
            f"those of version {current.version().name}, {before.labels}, by which its answers are read. Compare it "
            "with --shadow, or serve it without trying it."
        )
    candidate = replace(
        candidate, alike=[member.name for member in own.members] == [member.name for member in before.members]
    )
    target = settings.target or prepare.prepare(current.folder, settings.state, say, version=version).target
    instances = max(FEWEST_INSTANCES, math.ceil(candidate.share * current.instances))
    return replace(current, target=target, instances=instances, without="", candidate=candidate)


def _candidates(settings: Settings, models: Sequence[str], say: Callable[[str], None]) -> list[Candidate]:
    """Return the candidates that are still to be tried, each with its model. Raises RepositoryError."""
    wanted = settings.gateway.candidates if settings.gateway else []
    named = [replace(candidate, model=_model_of(candidate, models)) for candidate in wanted]
    if len({candidate.model for candidate in named}) < len(named):
        models_of = [candidate.model for candidate in named]
        double = next(model for model in models_of if models_of.count(model) > 1)
        raise RepositoryError(f"--canary and --shadow name two versions of {double}: one is tried at a time.")
    return [candidate for candidate in named if _is_open(settings, candidate, say)]


def _model_of(candidate: Candidate, models: Sequence[str]) -> str:
    if not candidate.model and len(models) > 1:
        raise RepositoryError(
            f"version {candidate.version} is to be tried, of several models: {', '.join(models)}. Name one of them: "
            f"--{candidate.kind} {models[0]}={candidate.version}{':5%' if candidate.share else ''}."
        )
    if candidate.model and candidate.model not in models:
        raise RepositoryError(
            f"--{candidate.kind} names the model {candidate.model!r}, served are {', '.join(models)}."
        )
    return candidate.model or models[0]


def _is_open(settings: Settings, candidate: Candidate, say: Callable[[str], None]) -> bool:
    """Return whether a candidate is still to be tried: a server that starts again with its flags goes on as it was."""
    folder = settings.model_repository / candidate.model
    numbers = [version.name for version in repository.versions(folder)]
    if candidate.version not in numbers and (folder / f"{candidate.version}{WITHDRAWN}").is_dir():
        say(f"version {candidate.version} of {candidate.model} was withdrawn: --{candidate.kind} is passed over")
        return False
    if candidate.version not in numbers[-1:] or len(numbers) < 2:
        raise RepositoryError(
            f"--{candidate.kind} names version {candidate.version} of {folder}, which holds "
            f"{', '.join(numbers) or 'none'}: expected the highest of several. A new version is tried against the one "
            "before it: give it the next number (newsdesk build --next-version)."
        )
    if promotions.holds(settings.state, folder / candidate.version):
        say(f"version {candidate.version} of {candidate.model} was promoted: --{candidate.kind} is passed over")
        return False
    return True
