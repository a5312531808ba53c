"""Pages of results, of a section for each thing that is measured on its own."""

import platform
import time
from pathlib import Path

from newsdesk.server.runtime import processor
from newsdesk.server.serving.settings import granted_cores


def put(path: Path, head: str, section: str) -> None:
    """Put a section ("## title…") in the place of the one with its title, up to a colon, or behind the others."""
    page = path.read_text() if path.exists() else ""
    parts = [part for part in page.split("\n## ")[1:] if _title(part) != _title(section.removeprefix("## "))]
    path.write_text("\n## ".join([head, *(part.rstrip() + "\n" for part in parts), section.removeprefix("## ")]))


def machine(quality: str) -> str:
    """Return a sentence of where, how and when it was measured."""
    about = f"{processor.describe()}, {granted_cores()} cores, Python {platform.python_version()}"
    return f"{about}, quality {quality}, {time.strftime('%Y-%m-%d')}."


def _title(part: str) -> str:
    return part.splitlines()[0].split(":")[0]
