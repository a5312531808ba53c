"""The manifest: what a model folder holds, what it was built with and for, and what was measured.

The server trusts nothing that the manifest does not say, and refuses what does not match it.
"""

from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct, field

from newsdesk.server.runtime import cascade
from newsdesk.server.runtime.calibrate import Calibrator, TemperatureByLength, Uncalibrated
from newsdesk.server.runtime.cascade import Level
from newsdesk.server.runtime.errors import ManifestError
from newsdesk.server.runtime.files import File as File
from newsdesk.server.runtime.files import digest as digest
from newsdesk.server.runtime.plans import Plan
from newsdesk.server.runtime.reference import Reference
from newsdesk.server.runtime.unsure import Unsure
from newsdesk.server.runtime.windows import Rule

SCHEMA = 2
FILE = "manifest.json"
ENTRY, CONFIG = "model.py", "config.pbtxt"
"""The files of a version that Triton runs, and how it runs them: a version folder's `code`."""
REPAIR = "Restore it (git checkout model_repository) or rebuild it (newsdesk build --recipe compact)."

MemberName = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]


class Member(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A classifier: what reads texts for it, and its graph in one or more variants ("fp32", "int8", "int8-dynamic").

    Every graph takes input_ids, attention_mask (and token_type_ids where the family has them), INT64 [batch, length],
    and gives logits, FP32 [batch, labels].
    """

    name: MemberName
    kind: Literal["encoder", "ngrams", "linear"]
    """A transformer that reads tokens in their order, a bag of hashed n-grams, or TF-IDF of them."""
    tokenizer: File = field(name="reader")
    """The file by which texts become ids: an encoder's tokenizer, the features of n-grams, a linear member's terms."""
    graphs: Annotated[dict[str, File], Meta(min_length=1)]
    data: list[File] = []
    """Weights of graphs that are too large for one file: ONNX external data, beside their graphs."""
    max_length: Annotated[int, Meta(ge=0)]
    """Tokens that an encoder reads at once, special ones included. 0, for n-grams: any number."""
    pad_id: int
    plans: dict[str, Plan] = {}
    """The plans of the compiled engines among the graphs, by the same key ("tensorrt:fp16")."""
    calibrator: Calibrator = Uncalibrated()
    """The calibrator of this member's probabilities, before they are shown or combined."""

    def __post_init__(self) -> None:
        least = 8 if self.kind == "encoder" else 0
        if self.max_length < least or (self.kind != "encoder" and self.max_length):
            expected = "8 or more tokens for an encoder" if least else "0 for n-grams, which are read whole"
            raise ValueError(f"member {self.name}: max_length {self.max_length}, expected {expected}")
        if isinstance(self.calibrator, TemperatureByLength):
            raise ValueError(
                f"member {self.name}: its calibrator goes by length, expected one that levels alone need not"
            )


class Windows(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How a text beyond a member's max_length is read: in windows, each overlapping the next."""

    rule: Rule = "mean"
    """The rule that combines a member's probabilities of the windows of a text."""
    overlap: Annotated[float, Meta(ge=0, le=0.9)] = 0.25
    """The least share of a window that the next one reads again."""


class Manifest(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The contents of manifest.json. Its own check refuses members, levels and sizes that do not match each other."""

    schema: int
    name: str
    labels: Annotated[list[str], Meta(min_length=2)]
    members: Annotated[list[Member], Meta(min_length=1)]
    """In order of cost, the cheapest first."""
    cascade: list[Level]
    windows: Windows = Windows()
    unsure: Unsure | None = None
    """When an answer is marked as not sure; older manifests do not say."""
    reference: Reference | None = None
    """How the answers to rows that no member was fitted on are spread, which live answers are held against; older
    manifests have none."""
    code: list[File] = []
    """ENTRY and CONFIG in the version folder; every build writes them. Older manifests name neither, and Triton's files
    are then taken as they are."""
    target: str
    """The compile targets that serve where nothing was measured: "openvino:int8", or each member's own,
    "minilm=openvino:int8,student=onnxruntime:fp32"."""
    cpu_features: list[str] = []
    """Flags of the processor that the figures were measured on and that change the answers (VNNI)."""
    figures: dict[str, Any] = {}
    built: list[dict[str, Any]] = []
    """The entries of the build's stages: key, inputs, packages, machine, figures."""

    def __post_init__(self) -> None:
        names = [member.name for member in self.members]
        if len(set(names)) < len(names):
            raise ValueError(f"members {', '.join(names)}: each needs a name of its own")
        cascade.check(self.cascade, names)
        if len(self.cascade[0].thresholds.best) != len(self.labels):
            count = len(self.cascade[0].thresholds.best)
            raise ValueError(f"the cascade has thresholds for {count} labels, expected {len(self.labels)}")
        if self.reference and len(self.reference.best.labels) != len(self.labels):
            count = len(self.reference.best.labels)
            raise ValueError(f"the reference has {count} labels, expected {len(self.labels)}")
        if self.code and {file.path for file in self.code} != {ENTRY, CONFIG}:
            named = ", ".join(file.path for file in self.code)
            raise ValueError(f"code names {named}, expected {ENTRY} and {CONFIG}")
        if unasked := set(names).difference(*(level.members for level in self.cascade)):
            raise ValueError(f"no level of the cascade asks {', '.join(sorted(unasked))}; leave out who is not asked")

    def files(self) -> list[File]:
        """Return every file that the manifest names."""
        of_members = [
            file for member in self.members for file in (member.tokenizer, *member.graphs.values(), *member.data)
        ]
        return of_members + cascade.files(self.cascade) + self.code


def code(folder: Path) -> list[File]:
    """Return a version folder's `code`. Both files must be there."""
    return [File(name, digest(folder / name)) for name in (ENTRY, CONFIG)]


def load(folder: Path) -> Manifest:
    """Read a version folder's manifest and check every file it names.

    Raises:
        ManifestError: the manifest or a file cannot be read, or does not match; the message says which and what to do.
    """
    manifest = read(folder)
    _check(folder, manifest.files())
    return manifest


def read(folder: Path) -> Manifest:
    """Read a version folder's manifest, and none of the files that it names.

    Raises:
        ManifestError: the manifest cannot be read; the message says why and what to do.
    """
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
        return msgspec.json.decode(raw, type=Manifest)
    except msgspec.DecodeError as error:
        raise ManifestError(f"{path}: not a manifest: {error}. {REPAIR}") from error


def check_code(folder: Path) -> None:
    """Check the files that Triton runs before it does: a model.py cannot check itself.

    A manifest that cannot be read passes: `load`, which the model.py of a build calls, says why.

    Raises:
        ManifestError: a file cannot be read, or is not the one that was built.
    """
    try:
        named = msgspec.json.decode((folder / FILE).read_bytes(), type=_Code)
    except (OSError, msgspec.DecodeError):
        return
    _check(folder, named.code)


def _check(folder: Path, files: list[File]) -> None:
    for file in files:
        try:
            checksum = digest(folder / file.path)
        except OSError as error:
            raise ManifestError(f"{folder / file.path}: cannot be read ({error.strerror}). {REPAIR}") from error
        if checksum != file.sha256:
            raise ManifestError(
                f"{folder / file.path}: sha256 is {checksum}, the manifest says {file.sha256}. {REPAIR}"
            )


def save(manifest: Manifest, folder: Path) -> None:
    """Write the manifest, whole or not at all."""
    temporary = folder / f"{FILE}.partial"
    temporary.write_bytes(msgspec.json.format(msgspec.json.encode(manifest), indent=1))
    temporary.replace(folder / FILE)


class _Schema(Struct):
    schema: int


class _Code(Struct):
    code: list[File] = []
