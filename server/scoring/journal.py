"""Keep beside a job's output what is done of it: parts, whose names say what they hold, and how they were made."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from newsdesk.server.scoring.errors import ScoreError
from newsdesk.server.scoring.places import FileSystem

_JOB = "job.json"
_PART = re.compile(r"(?P<key>[0-9a-f]{16})-(?P<number>\d+|done)-(?P<rows>\d+)-(?P<refused>\d+)\.part")
_SUFFIX = ".parts"


@dataclass
class Progress:
    """How far a file is.

    Attributes:
        key: of the file as it is now: a file that has changed has another
        parts: rows, and how many of them have no answer, of each chunk that is kept
        whole: the same of the whole file, once it is written
    """

    key: str
    parts: dict[int, tuple[int, int]] = field(default_factory=dict)
    whole: tuple[int, int] | None = None

    def name(self, number: int) -> str:
        """Return the name of a part."""
        rows, refused = self.parts[number]
        return f"{self.key}-{number:06}-{rows}-{refused}.part"


class Journal:
    """The journal of the job that writes `out`, in a folder beside it."""

    def __init__(self, place: FileSystem, out: str) -> None:
        self._place, self.folder = place, out + _SUFFIX

    def begin(self, about: Mapping[str, Any]) -> None:
        """Note what a job is made with.

        Raises:
            ScoreError: one that was begun otherwise is not at its end.
        """
        path = f"{self.folder}/{_JOB}"
        if not self._place.exists(path):
            self._write(path, json.dumps(about, indent=1, sort_keys=True).encode())
            return
        with self._place.open(path) as file:
            before = json.load(file)
        changed = [name for name in sorted(before | dict(about)) if before.get(name) != about.get(name)]
        if changed:
            name = changed[0]
            raise ScoreError(
                f"{self.folder} was begun with {name} {before.get(name)!r}, and now it is {about.get(name)!r}. Run it "
                "as before, or begin anew with --overwrite."
            )

    @property
    def begun(self) -> bool:
        """Whether a job was begun, and is not at its end."""
        return self._place.exists(f"{self.folder}/{_JOB}")

    def read(self, name: str, stamp: str) -> Progress:
        """Return how far a file is; `stamp` changes when it does."""
        key = sha256(f"{name}\0{stamp}".encode()).hexdigest()[:16]
        return self._progress.get(key) or Progress(key)

    def load(self) -> None:
        """Read the names of what is kept."""
        self._progress: dict[str, Progress] = {}
        for name in self._place.names(self.folder):
            if match := _PART.fullmatch(name):
                progress = self._progress.setdefault(match["key"], Progress(match["key"]))
                counted = int(match["rows"]), int(match["refused"])
                if match["number"] == "done":
                    progress.whole = counted
                else:
                    progress.parts[int(match["number"])] = counted

    def keep(self, progress: Progress, number: int, part: bytes, rows: int, refused: int) -> None:
        """Keep a chunk's part. It is there from then on, whatever happens."""
        progress.parts[number] = rows, refused
        self._write(f"{self.folder}/{progress.name(number)}", part)

    def path(self, progress: Progress, number: int) -> str:
        """Return where a part lies."""
        return f"{self.folder}/{progress.name(number)}"

    def finish(self, progress: Progress) -> None:
        """Note that a file is whole, and remove its parts."""
        counts = progress.parts.values()
        progress.whole = sum(rows for rows, _ in counts), sum(refused for _, refused in counts)
        self._write(f"{self.folder}/{progress.key}-done-{progress.whole[0]}-{progress.whole[1]}.part", b"")
        for number in progress.parts:
            self._place.remove(self.path(progress, number))
        progress.parts = {}

    def clear(self) -> None:
        """Forget all that is done."""
        for name in self._place.names(self.folder):
            if name == _JOB or _PART.fullmatch(name):
                self._place.remove(f"{self.folder}/{name}")

    def remove(self) -> None:
        """Remove the folder: the job is at its end."""
        self._place.remove(f"{self.folder}/{_JOB}")
        self._place.remove(self.folder)

    def _write(self, path: str, content: bytes) -> None:
        with self._place.create(path) as file:
            file.write(content)
