"""Read and write files in a folder of this machine, or behind a URL that fsspec reads (s3://…)."""

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Protocol, cast

from newsdesk.server.scoring.errors import ScoreError

_LOCK = ".lock"


class FileSystem(Protocol):
    """A file system. A file that is created appears whole under its name, or not at all."""

    def find(self, path: str) -> dict[str, str]:
        """Return the files of a folder by their names in it, or a file as "", each with what changes when it does."""

    def names(self, folder: str) -> set[str]:
        """Return what a folder holds; nothing where there is none."""

    def exists(self, path: str) -> bool:
        """Return whether there is a file or a folder."""

    def open(self, path: str) -> BinaryIO:
        """Return a file, to be read."""

    def create(self, path: str) -> contextlib.AbstractContextManager[BinaryIO]:
        """Yield a file to write, which is there once the block ends without an error."""

    def remove(self, path: str) -> None:
        """Remove a file, or a folder with all that it holds, where there is one."""

    def lock(self, folder: str) -> contextlib.AbstractContextManager[None]:
        """Keep a second process out of a folder, which is made.

        Raises:
            ScoreError: one is there.
        """


def place_of(path: str) -> tuple[FileSystem, str]:
    """Return where a path or URL lies, and its path there.

    Raises:
        ScoreError: a package for such URLs is missing.
    """
    if "://" not in path:
        return LocalFiles(), str(Path(path).expanduser().absolute())
    kind = path.partition("://")[0]
    try:
        import fsspec

        system, inside = fsspec.core.url_to_fs(path)
    except (ImportError, ValueError) as error:
        more = "pip install 'newsdesk[s3]'" if kind == "s3" else f"fsspec, and what it needs for {kind}://"
        raise ScoreError(
            f"{path} cannot be read: {error}. Expected a path, or a URL for which {more} is needed."
        ) from None
    return Remote(system), inside.rstrip("/")


class LocalFiles:
    """This machine's file system."""

    def find(self, path: str) -> dict[str, str]:
        """Return the files below a path, with their sizes and times."""
        root = Path(path)
        if not root.is_dir():
            return {"": _stamp(root)} if root.is_file() else {}
        files = (file for file in root.rglob("*") if file.is_file())
        return {file.relative_to(root).as_posix(): _stamp(file) for file in files}

    def names(self, folder: str) -> set[str]:
        """Return what a folder holds."""
        try:
            return set(os.listdir(folder))
        except FileNotFoundError:
            return set()

    def exists(self, path: str) -> bool:
        """Return whether there is a file or a folder."""
        return os.path.exists(path)

    def open(self, path: str) -> BinaryIO:
        """Return a file, to be read."""
        return open(path, "rb")

    @contextmanager
    def create(self, path: str) -> Iterator[BinaryIO]:
        """Yield a hidden file beside it, which takes its name once it is on disk."""
        whole = Path(path)
        whole.parent.mkdir(parents=True, exist_ok=True)
        partial = whole.with_name(f".{whole.name}.partial")
        try:
            with partial.open("wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            partial.replace(whole)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise

    def remove(self, path: str) -> None:
        """Remove a file, or a folder with all that it holds."""
        if os.path.isdir(path):
            shutil.rmtree(path)
        else:
            Path(path).unlink(missing_ok=True)

    @contextmanager
    def lock(self, folder: str) -> Iterator[None]:
        """Keep a second process out of a folder, which is made.

        Raises:
            ScoreError: one is there.
        """
        os.makedirs(folder, exist_ok=True)
        with open(os.path.join(folder, _LOCK), "wb") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise ScoreError(f"{folder}: another `newsdesk score` works there. Wait for it, or end it.") from None
            yield


class Remote:
    """A file system of fsspec's."""

    def __init__(self, system: Any) -> None:
        self._system = system

    def find(self, path: str) -> dict[str, str]:
        """Return the files below a path, with their sizes and tags or times."""
        entries = self._system.find(path, detail=True)
        return {name.removeprefix(path).lstrip("/"): _remote_stamp(about) for name, about in entries.items()}

    def names(self, folder: str) -> set[str]:
        """Return what a folder holds."""
        try:
            return {name.rsplit("/", 1)[-1] for name in self._system.ls(folder, detail=False, refresh=True)}
        except FileNotFoundError:
            return set()

    def exists(self, path: str) -> bool:
        """Return whether there is a file or a folder."""
        return bool(self._system.exists(path))

    def open(self, path: str) -> BinaryIO:
        """Return a file, to be read."""
        return cast(BinaryIO, self._system.open(path, "rb"))

    @contextmanager
    def create(self, path: str) -> Iterator[BinaryIO]:
        """Yield a file to write, which is committed once the block ends without an error."""
        file = self._system.open(path, "wb", autocommit=False)
        try:
            yield file
            file.close()
        except BaseException:
            with contextlib.suppress(Exception):
                file.discard()
            raise
        file.commit()

    def remove(self, path: str) -> None:
        """Remove a file, or a folder with all that it holds."""
        with contextlib.suppress(FileNotFoundError):
            self._system.rm(path, recursive=True)

    @contextmanager
    def lock(self, folder: str) -> Iterator[None]:
        """Keep nobody out: a second process would write the same parts."""
        yield


def _stamp(file: Path) -> str:
    about = file.stat()
    return f"{about.st_size} {about.st_mtime_ns}"


def _remote_stamp(about: dict[str, Any]) -> str:
    changed = next((about[name] for name in ("ETag", "LastModified", "created", "mtime") if about.get(name)), "")
    return f"{about.get('size')} {changed}"
