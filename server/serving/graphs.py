"""Graphs that are rewritten for an engine and this processor: made once, kept in the state folder, and checked.

A file's name says what it was made of, its own sum and its form. What is served has links to the files, so that a
running server keeps what is removed here. Where one lacks, backend processes rewrite their graphs themselves.
"""

import contextlib
import hashlib
import importlib.metadata
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from pathlib import Path

from newsdesk.server.machine import processes
from newsdesk.server.runtime import manifest, processor, repository, targets
from newsdesk.server.runtime.engines import TARGETS, rewrites
from newsdesk.server.runtime.errors import ServerError
from newsdesk.server.runtime.files import digest
from newsdesk.server.runtime.manifest import Member
from newsdesk.server.serving import privacy

FOLDER = "graphs"
_CODE = "rewrites.py", "pairs.py", "narrow.py"
_SECONDS = 300.0
_ABANDONED_SECONDS = 3600.0


def making(
    version: Path, target: str, state: Path, say: Callable[[str], None]
) -> Generator[None, None, dict[Path, Path]]:
    """Make what lacks of the graphs that a target line has rewritten, in a process of its own.

    Begin it from the main thread.

    Args:
        version: the version folder
        target: a line, as `targets` reads it
        state: the state folder
        say: is told why some are not kept

    Returns:
        Those that are kept, and whole: their places below the version folder → files.
    """
    whole = _kept(version, target, state)
    if len(whole) == len(_wanted(version, target)):
        return whole
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", __name__, str(version.absolute()), target, str(state.absolute())],
        env=processes.environment_apart(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        preexec_fn=processes.die_with_parent(),
    )
    until = time.monotonic() + _SECONDS
    try:
        while process.poll() is None and time.monotonic() < until:
            yield
    finally:
        process.kill()  # nothing happens where it has ended
        _, complaint = process.communicate()
    if process.returncode:
        reason = complaint.strip().splitlines()[-1:] or [f"it ended with code {process.returncode}"]
        say(f"graphs are not kept, and each backend process rewrites them: {reason[0]}")
    return _kept(version, target, state)


def remove_unnamed(state: Path, models: Path) -> None:
    """Remove what is kept of no version in a model repository, and linked by no running server."""
    named = {key for model in models.iterdir() for version in repository.versions(model) for key in _keys(version)}
    abandoned = time.time() - _ABANDONED_SECONDS
    for file in (state / FOLDER).glob("*"):
        with contextlib.suppress(OSError):
            about = file.stat()
            is_partial = file.suffix == ".partial"
            if (about.st_mtime < abandoned) if is_partial else (about.st_nlink == 1 and _key_of(file) not in named):
                file.unlink()


def _kept(version: Path, target: str, state: Path) -> dict[Path, Path]:
    files = {}
    for graph, key in _wanted(version, target).items():
        for file in (state / FOLDER).glob(f"{key}.*"):
            checksum, _, form = file.name.removeprefix(f"{key}.").partition(".")
            with contextlib.suppress(OSError):  # another server removed it
                if digest(file) == checksum:
                    files[rewrites.beside(graph, form)] = file
    return files


def _make(version: Path, target: str, state: Path) -> None:
    """Make what lacks.

    Raises:
        ManifestError: the version is not what its manifest says.
        OSError: a full disk.
    """
    manifest.load(version)  # with the sums of its files, by which the keys go
    folder, whole = state / FOLDER, {_key_of(file) for file in _kept(version, target, state).values()}
    privacy.make_folder(folder)
    for graph, key in _wanted(version, target).items():
        if key not in whole:
            form, content = rewrites.make(version / graph)
            for damaged in folder.glob(f"{key}.*"):
                damaged.unlink(missing_ok=True)
            _write(folder / f"{key}.{hashlib.sha256(content).hexdigest()}.{form}", content)


def _write(file: Path, content: bytes) -> None:
    partial = file.with_name(f"{os.getpid()}.partial")
    partial.unlink(missing_ok=True)
    try:
        with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as opened:
            opened.write(content)
        partial.replace(file)
    except OSError:  # a full disk
        partial.unlink(missing_ok=True)
        raise


def _wanted(version: Path, target: str) -> dict[Path, str]:
    """Return the graphs that a target line has rewritten, by their places below the version folder, with their keys.

    None where the manifest or the line is of no use: the backend says why.
    """
    try:
        described = manifest.read(version)
        chosen = targets.choose(target, described)
    except ServerError:
        return {}
    variant = TARGETS[rewrites.TARGET]
    return {
        Path(member.graphs[variant].path): _key(member)
        for member in described.members
        if chosen[member.name] == rewrites.TARGET
    }


def _keys(version: Path) -> list[str]:
    try:
        members = manifest.read(version).members
    except ServerError:
        return []
    return [_key(member) for member in members if targets.runs(rewrites.TARGET, member)]


def _key(member: Member) -> str:
    """Return the digest of all that the rewrite of a member's graph is made of."""
    files = [member.graphs[TARGETS[rewrites.TARGET]], *member.data]
    code = [digest(Path(rewrites.__file__).with_name(name)) for name in _CODE]
    made_of = [rewrites.TARGET, [file.sha256 for file in files], processor.kernels(), code, _version("onnx")]
    return hashlib.sha256(json.dumps(made_of).encode()).hexdigest()[:32]


def _key_of(file: Path) -> str:
    return file.name.partition(".")[0]


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


if __name__ == "__main__":
    try:
        _make(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]))
    except (ServerError, OSError) as failure:
        sys.exit(str(failure))
