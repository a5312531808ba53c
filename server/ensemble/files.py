"""A file that the manifest names, and the sum that says it is the one that was built."""

import hashlib
from pathlib import Path
from typing import Annotated

from msgspec import Meta, Struct

Sha256 = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]


class File(Struct, frozen=True, forbid_unknown_fields=True):
    """A file of the model folder, by its path below it."""

    path: Annotated[str, Meta(pattern=r"^(?!/)(?!.*\.\.).+$")]
    sha256: Sha256


def digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
