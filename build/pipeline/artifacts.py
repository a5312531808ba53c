"""The artifact store: each stage's result in a folder of its own, keyed by what went in, landed whole."""

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from newsdesk.build.errors import BuildError
from newsdesk.build.pipeline import environment
from newsdesk.build.pipeline.digests import of_file, of_json

ENTRY = "entry.json"
SCRATCH = "scratch"
"""The folder in an artifact's that an interrupted stage resumes from, and that a finished one is without."""

T = TypeVar("T")
Say = Callable[[str], None]
Work = Callable[[Path], Any]
"""Writes an artifact's files to a folder and returns its metrics, as anything that msgspec can encode."""


@dataclass(frozen=True)
class Artifact:
    """The result of a stage: a folder, and its entry (key, inputs, files with sha256, packages, figures)."""

    path: Path
    entry: dict[str, Any]

    @classmethod
    def read(cls, folder: Path) -> "Artifact":
        """Read the entry of a folder; a path in it may be no UTF-8.

        Raises:
            OSError: there is none.
            ValueError: it is damaged.
        """
        return cls(folder, json.loads((folder / ENTRY).read_text("utf-8", "surrogateescape")))

    @property
    def content(self) -> str:
        """Digest of the files alone: a stage with the same result as before leaves the stages behind it unchanged."""
        return hashlib.sha256(json.dumps(self.entry["files"], sort_keys=True).encode()).hexdigest()[:16]

    @property
    def figures(self) -> Any:
        """The metrics as plain JSON; `metrics` returns them as their type."""
        return self.entry["figures"]

    def metrics(self, kind: type[T]) -> T:
        """Return the metrics as the type that the stage recorded them in."""
        return msgspec.convert(self.figures, kind)

    def __truediv__(self, name: str) -> Path:
        return self.path / name


class ArtifactStore:
    """The folder where a build's artifacts lie: `<root>/<stage>/<key>/`."""

    def __init__(self, root: Path, say: Say = print) -> None:
        self.root, self.say = root, say

    def make(
        self,
        stage: str,
        known: Mapping[str, Any],
        work: Work,
        *,
        name: str = "",
        record: Mapping[str, Any] | None = None,
    ) -> Artifact:
        """Return the stage's artifact of this key; run `work` only if it is not there.

        Args:
            stage: the stage's name, which is part of the key
            known: everything else that decides the result, as JSON; it makes the key and stands in the entry
            work: it gets a folder that outlives an interrupted run, so that it can resume. The folder is renamed into
                place when it returns.
            name: the member that the stage is of, for messages and the entry
            record: more for the entry, which the key does not cover

        Raises:
            BuildError: a file of the artifact is not what was built.
        """
        key = self.key(stage, known)
        title = f"{stage} {name}".strip()
        final = self.root / stage / key
        if (final / ENTRY).is_file():
            artifact = _checked(final, title)
            self.say(f"{title}: unchanged ({final})")
            return artifact
        partial = final.with_name(f"{key}.partial")
        self.say(f"{title}: {'resuming' if partial.exists() else 'running'}")
        partial.mkdir(parents=True, exist_ok=True)
        start = time.monotonic()
        figures = msgspec.to_builtins(work(partial), str_keys=True)
        shutil.rmtree(partial / SCRATCH, ignore_errors=True)
        entry = {
            "stage": stage,
            **known,
            **(record or {}),
            "key": key,
            "name": name,
            "files": {str(p.relative_to(partial)): of_file(p) for p in sorted(partial.rglob("*")) if p.is_file()},
            "read": known.get("files", {}),
            "figures": figures,
            "packages": environment.packages(),
            "machine": environment.machine(),
            "seconds": round(time.monotonic() - start, 1),
            "made": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        }
        text = json.dumps(entry, indent=1, ensure_ascii=False)
        (partial / ENTRY).write_text(text, encoding="utf-8", errors="surrogateescape")
        partial.rename(final)
        self.say(f"{title}: done in {entry['seconds']} s ({final})")
        return Artifact(final, json.loads(text))

    def key(self, stage: str, known: Mapping[str, Any]) -> str:
        """Return the key of a stage's artifact, 16 hexadecimal digits."""
        return of_json({"stage": stage, **known})


def _checked(folder: Path, title: str) -> Artifact:
    """Read an artifact. Raises BuildError where a file is not what its entry says."""
    artifact = Artifact.read(folder)
    if changed := [name for name, digest in artifact.entry["files"].items() if of_file(folder / name) != digest]:
        raise BuildError(f"{title}: {folder / changed[0]} is not what was built (sha256). Delete {folder} and rebuild.")
    return artifact
