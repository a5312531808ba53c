"""The models of a repository, and which of them are meant."""

from collections.abc import Sequence
from pathlib import Path

from newsdesk.server.runtime.manifest import CONFIG
from newsdesk.server.serving.workspace import RepositoryError, versions


def models(repository: Path) -> list[str]:
    """Return the names of a repository's models: its folders with a configuration or a version, in alphabetic order."""
    folders = (folder for folder in repository.glob("*/") if not folder.name.startswith("."))
    return sorted(folder.name for folder in folders if (folder / CONFIG).is_file() or versions(folder))


def choose(repository: Path, wanted: Sequence[str] = ()) -> list[str]:
    """Return the names of the models that are wanted, in their order, else of all in the repository.

    Raises RepositoryError where there are none, or not all that are wanted.
    """
    held = models(repository)
    if missing := [name for name in wanted if name not in held]:
        raise RepositoryError(
            f"{repository}: no model {missing[0]!r}, it holds {', '.join(held) or 'none'}. Name one of those with "
            "--model (NEWSDESK_MODEL), or another repository with --model-repository (NEWSDESK_MODEL_REPOSITORY)."
        )
    if not held:
        raise RepositoryError(
            f"{repository}: no model folder in it, expected <model>/config.pbtxt. Restore it (git checkout "
            "model_repository), build one (newsdesk build --recipe compact), or name another repository with "
            "--model-repository (NEWSDESK_MODEL_REPOSITORY)."
        )
    return list(dict.fromkeys(wanted)) or held


def only(repository: Path, wanted: Sequence[str] = ()) -> str:
    """Return the name of the model that is wanted, or of the only one. Raises RepositoryError where there are more."""
    held = choose(repository, wanted)
    if len(held) > 1:
        raise RepositoryError(f"several models are meant: {', '.join(held)}. Name one of them with --model.")
    return held[0]
