"""The container files as the tests read them."""

import re
from fnmatch import fnmatch
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCKER = ROOT / "docker"
DOCKERFILES = sorted(DOCKER.glob("Dockerfile*"))


def instructions(dockerfile: Path) -> list[tuple[str, str]]:
    """Return a Dockerfile's instructions in order, each with what follows it, continued lines joined."""
    text = re.sub(r"^#.*\n", "", dockerfile.read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    return [(line.split(" ", 1)[0], line.split(" ", 1)[1]) for line in text.splitlines() if line.strip()]


def context() -> list[Path]:
    """Return the files that .dockerignore lets into a build, relative to the root: the last pattern that fits decides,
    for a file or for a folder that it lies in.
    """
    patterns = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and line[0] != "#"]
    kept = []
    tops = {Path(pattern.lstrip("!")).parts[0] for pattern in patterns if pattern.startswith("!")}
    for top in sorted(tops):
        for file in (ROOT / top).rglob("*") if (ROOT / top).is_dir() else [ROOT / top]:
            if file.is_file():
                path = file.relative_to(ROOT)
                ways = [path, *path.parents]
                fits = [p for p in patterns if any(_fits(way, p.lstrip("!")) for way in ways)]
                if fits and fits[-1].startswith("!"):
                    kept.append(path)
    return kept


def _fits(path: Path, pattern: str) -> bool:
    if pattern == "*":
        return len(path.parts) == 1
    if pattern.startswith("**/"):
        return fnmatch(path.name, pattern[3:])
    return path.as_posix() == pattern
