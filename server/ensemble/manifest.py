"""The manifest: what a model folder holds, what it was built with and for, and what was measured.

The server trusts nothing that the manifest does not say, and refuses what does not match it.
"""

from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from newsdesk.server.ensemble.calibrate import Calibrator, Uncalibrated
from newsdesk.server.ensemble.errors import ManifestError
from newsdesk.server.ensemble.files import File, digest

SCHEMA = 1
FILE = "manifest.json"
REPAIR = "Restore it (git checkout model_repository) or rebuild it (newsdesk build --recipe compact)."


class Member(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A classifier: its tokenizer, and its graph in one or more variants ("fp32", "fp16", "int8", "int8-dynamic").

    Every graph takes input_ids, attention_mask (and token_type_ids where the family has them), INT64 [batch, length],
    and gives logits, FP32 [batch, labels].
    """

    name: str
    tokenizer: File
    graphs: Annotated[dict[str, File], Meta(min_length=1)]
    max_length: Annotated[int, Meta(ge=8)]
    """Tokens, special ones included. A longer article is cut at the end."""
    pad_id: int
    calibrator: Calibrator = Uncalibrated()
    """What this member's probabilities go through before they are shown or combined."""


class Manifest(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    schema: int
    name: str
    labels: Annotated[list[str], Meta(min_length=2)]
    members: Annotated[list[Member], Meta(min_length=1)]
    target: str
    """The compile target that serves where nothing was measured: "openvino:int8"."""
    cpu_features: list[str] = []
    """Flags of the processor that the figures were measured on and that change the answers (VNNI)."""
    figures: dict[str, Any] = {}
    stages: list[dict[str, Any]] = []
    """The entries of the build's stages: key, inputs, packages, machine, figures."""

    def files(self) -> list[File]:
        return [file for member in self.members for file in (member.tokenizer, *member.graphs.values())]


def load(folder: Path) -> Manifest:
    """Read a version folder's manifest and check every file it names. Raises ManifestError with the reason."""
    path = folder / FILE
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise ManifestError(f"{path}: cannot be read ({error.strerror}). {REPAIR}") from error
    try:
        schema = msgspec.json.decode(raw, type=_Schema).schema
        if schema != SCHEMA:
            raise ManifestError(
                f"{path}: schema {schema}, but this newsdesk reads schema {SCHEMA}. Rebuild the model with it."
            )
        manifest = msgspec.json.decode(raw, type=Manifest)
    except msgspec.DecodeError as error:
        raise ManifestError(f"{path}: not a manifest: {error}. {REPAIR}") from error
    for file in manifest.files():
        try:
            found = digest(folder / file.path)
        except OSError as error:
            raise ManifestError(f"{folder / file.path}: cannot be read ({error.strerror}). {REPAIR}") from error
        if found != file.sha256:
            raise ManifestError(f"{folder / file.path}: sha256 is {found}, the manifest says {file.sha256}. {REPAIR}")
    return manifest


def save(manifest: Manifest, folder: Path) -> None:
    """Write the manifest, whole or not at all."""
    temporary = folder / f"{FILE}.partial"
    temporary.write_bytes(msgspec.json.format(msgspec.json.encode(manifest), indent=1))
    temporary.replace(folder / FILE)


class _Schema(Struct):
    schema: int
