"""Pages of results, of a section for each thing that is measured on its own."""

from pathlib import Path


def put(path: Path, head: str, section: str) -> None:
    """Put a section ("## title…") in the place of the one with its title, up to a colon, or behind the others."""
    page = path.read_text() if path.exists() else ""
    parts = [part for part in page.split("\n## ")[1:] if _title(part) != _title(section.removeprefix("## "))]
    path.write_text("\n## ".join([head, *(part.rstrip() + "\n" for part in parts), section.removeprefix("## ")]))


def _title(part: str) -> str:
    return part.splitlines()[0].split(":")[0]
