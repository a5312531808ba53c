"""A model repository with one member of another: what a peer that serves one model is compared with."""

import contextlib
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import msgspec

from benchmarks import MODEL
from newsdesk.server.runtime import cascade, manifest, targets
from newsdesk.server.runtime.repository import latest_version


@contextlib.contextmanager
def choose(repository: Path, member: str | None) -> Iterator[Path]:
    """Yield the repository itself, or where a member is named one with that member alone, for as long as it is used."""
    with tempfile.TemporaryDirectory() as folder:
        yield write(repository, member, Path(folder)) if member else repository


def write(repository: Path, member: str, into: Path) -> Path:
    """Write the member alone, answering whatever it is asked, and return the new repository.

    Raises ValueError where there is no such member.
    """
    source = latest_version(repository / MODEL)
    made = manifest.load(source)
    names = [candidate.name for candidate in made.members]
    if member not in names:
        raise ValueError(f"{source}: no member {member!r}, only {', '.join(names)}")
    (kept,) = (candidate for candidate in made.members if candidate.name == member)
    level = cascade.alone(member, len(made.labels))
    alone = msgspec.structs.replace(made, members=[kept], cascade=[level], target=targets.choose("", made)[member])
    version = into / MODEL / "1"
    version.mkdir(parents=True)
    for file in alone.files():
        (version / file.path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / file.path, version / file.path)
    shutil.copyfile(source / "model.py", version / "model.py")
    manifest.save(alone, version)
    shutil.copyfile(source.parent / "labels.txt", into / MODEL / "labels.txt")
    config = (source.parent / "config.pbtxt").read_text()
    config = config.replace(f"dims: [ {len(names)}, {len(made.labels)} ]", f"dims: [ 1, {len(made.labels)} ]")
    config = re.sub(r'(key: "members" value:? *{ string_value: )"[^"]*"', rf'\1"{member}"', config)
    (into / MODEL / "config.pbtxt").write_text(config)
    return into
