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
    """Return the sha256 of a file, in hexadecimal digits."""
    checksum = hashlib.sha256()
    with path.open("rb") as file:
        while part := file.read(1 << 20):  # hashlib.file_digest came with Python 3.11, and JetPack 6 has 3.10
            checksum.update(part)
    return checksum.hexdigest()
