"""A model repository: its models, their versions, and which of them are meant."""

from collections.abc import Sequence
from pathlib import Path

from newsdesk.server.runtime import names
from newsdesk.server.runtime.errors import ManifestError, ServerError
from newsdesk.server.runtime.manifest import CONFIG, FILE

WITHDRAWN = ".withdrawn"
"""The end of a version folder's name once it was taken out of service: Triton and newsdesk pass over it."""


class RepositoryError(ServerError):
    """A model repository that cannot be served."""


def models(repository: Path) -> list[str]:
    """Return the names of a repository's models: its folders with a configuration or a version, in alphabetic order."""
    folders = (folder for folder in repository.glob("*/") if not folder.name.startswith("."))
    return sorted(folder.name for folder in folders if (folder / CONFIG).is_file() or versions(folder))


def choose(repository: Path, wanted: Sequence[str] = ()) -> list[str]:
    """Return the names of the models that are wanted, in their order, else of all in the repository.

    Raises:
        RepositoryError: there is no model, or not every one that is wanted.
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
    """Return the name of the model that is wanted, or of the only one.

    Raises:
        RepositoryError: several are meant, or none is there.
    """
    held = choose(repository, wanted)
    if len(held) > 1:
        raise RepositoryError(f"several models are meant: {', '.join(held)}. Name one of them with --model.")
    return held[0]


def versions(model: Path) -> list[Path]:
    """Return a model's version folders, 1, 2, …, the highest last; none where there is no such model."""
    numbered = [folder for folder in model.glob("*/") if folder.name.isdigit() and int(folder.name)]
    return sorted(numbered, key=lambda folder: int(folder.name))


def latest_version(model: Path, without: str = "") -> Path:
    """Return a model's version folder with the highest number, the one that Triton serves.

    Args:
        model: the model's folder
        without: the number of a version that is passed over

    Raises:
        RepositoryError: no model folder, a name that Triton cannot serve, or no version.
    """
    if not (model / CONFIG).is_file():
        raise RepositoryError(
            f"{model}: no config.pbtxt, expected a model folder. Restore it (git checkout model_repository), rebuild "
            "it (newsdesk build --recipe compact), or name another repository with --model-repository "
            "(NEWSDESK_MODEL_REPOSITORY)."
        )
    if reason := names.refusal(model.name):
        raise RepositoryError(f"{model}: {reason}. Build it under another name (repository.model).")
    if numbered := [folder for folder in versions(model) if folder.name != without]:
        return numbered[-1]
    raise RepositoryError(f"{model}: no version folder (1, 2, …). Rebuild it (newsdesk build --recipe compact).")


def configuration(version: Path) -> Path:
    """Return the config.pbtxt that a version folder is served with.

    That is its own, which its manifest names, or, in folders of older builds, the one that is beside it for any Triton.
    """
    own = version / CONFIG
    return own if own.is_file() else version.parent / CONFIG


def find_version(repository: Path) -> Path:
    """Return the version folder with the highest number of a repository's one model.

    Raises:
        ManifestError: no version with a manifest, or several models.
    """
    versions = [folder.parent for folder in repository.glob(f"*/*/{FILE}") if folder.parent.name.isdigit()]
    if not versions:
        raise ManifestError(f"{repository}: no <model>/<version>/{FILE}; name one with --model-repository")
    if len({version.parent for version in versions}) > 1:
        raise ManifestError(f"{repository}: {len(versions)} models, expected one")
    return max(versions, key=lambda version: int(version.name))
