"""Write the archive: graphs, tokenizers, manifest, golden answers, the code that serves, and how to use it."""

import shutil
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path

import msgspec

import newsdesk.server
from newsdesk.build.compile.texts import TEXTS
from newsdesk.build.package.jetson import graphs, readme
from newsdesk.build.package.repository import portable
from newsdesk.server.runtime import golden, manifest, targets
from newsdesk.server.runtime.manifest import File, Manifest, Member
from newsdesk.server.runtime.repository import configuration, latest_version
from newsdesk.server.runtime.text import clean

NAME = "newsdesk-jetson"
REQUIREMENTS = """\
confusable-homoglyphs==3.3.1
msgspec>=0.19
numpy>=1.26,<2
onnx==1.23.2
onnxruntime==1.32.0; python_version >= "3.11"
onnxruntime==1.23.2; python_version < "3.11"
tokenizers==0.22.2
"""
"""The packages that the archive needs beside TensorRT, which JetPack brings. ONNX Runtime, and onnx for it, is for
n-grams, and where no engine was built; 1.23 is its last version for the Python 3.10 of JetPack 6."""
# What serves, whole, and of what builds engines no more than they need.
_CODE = (
    "server/__init__.py",
    "server/contract.py",
    "server/runtime",
    "server/standalone",
    "build/__init__.py",
    "build/errors.py",
    "build/recipe",
    "build/compile/__init__.py",
    "build/compile/engine.py",
    "build/compile/profiles.py",
    "build/package/__init__.py",
    "build/package/jetson/__init__.py",
    "build/package/jetson/device.py",
)
_SCRIPT = Path(__file__).parent / "jetson.sh"
_BACKEND = """\
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))  # the archive's own newsdesk: Triton heeds no PYTHONPATH

from newsdesk.server.runtime.backend import TritonPythonModel  # noqa: E402, F401
"""


def pack(model: Path, artifacts: Path | None, output: Path, say: Callable[[str], None]) -> Path:
    """Write `<output>/newsdesk-jetson-<model>.tar.gz` for a model folder, whole or not at all, and return it.

    Args:
        model: the model's folder
        artifacts: of its build, for graphs that the folder lacks
        output: the folder to write to
        say: is told what takes time, and what is left out

    Raises:
        ServerError: the model cannot be read, or a graph does not run.
        BuildError: a member has nothing that runs on the device.
    """
    version = latest_version(model)
    loaded = manifest.load(version)
    output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output, prefix=".jetson-") as scratch:
        root = Path(scratch) / NAME
        placed = _place_model(loaded, version, root / "model_repository" / model.name, artifacts, say)
        for name in "config.pbtxt", "labels.txt":
            shutil.copy(model / name, root / "model_repository" / model.name / name)
        say("running every graph on the golden texts")
        inside = root / "model_repository" / model.name / version.name
        golden.write(root / "golden", inside, placed, [clean(text) for text in TEXTS])
        _place_code(root)
        (root / "requirements.txt").write_text(REQUIREMENTS, encoding="utf-8")
        (root / "README.md").write_text(readme.render(placed, inside), encoding="utf-8")
        script = root / "jetson"
        shutil.copy(_SCRIPT, script)
        script.chmod(0o755)
        partial = Path(scratch) / "archive.tar.gz"
        with tarfile.open(partial, "w:gz", compresslevel=6) as archive:
            archive.add(root, NAME, filter=_nobodys)
        final = output / f"{NAME}-{model.name}.tar.gz"
        partial.replace(final)
    return final


def _place_model(
    loaded: Manifest, version: Path, folder: Path, artifacts: Path | None, say: Callable[[str], None]
) -> Manifest:
    inside = folder / version.name
    members = []
    for member in loaded.members:
        member_graphs = graphs.find(member, loaded, version, artifacts)
        for line in member_graphs.missing:
            say(f"left out: {line}")
        (inside / member.tokenizer.path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(version / member.tokenizer.path, inside / member.tokenizer.path)
        own = {variant: _copy(path, inside, member.name) for variant, path in member_graphs.graphs.items()}
        members.append(msgspec.structs.replace(member, graphs=own))
    copied = {file.path for member in members for file in (member.tokenizer, *member.graphs.values())}
    for file in loaded.files():  # what combines the members
        if file.path not in copied and not any(file in other.graphs.values() for other in loaded.members):
            (inside / file.path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(version / file.path, inside / file.path)
    (inside / manifest.ENTRY).write_text(_BACKEND, encoding="utf-8")
    shutil.copy(configuration(version), inside / manifest.CONFIG)
    placed = msgspec.structs.replace(
        loaded,
        members=members,
        code=manifest.code(inside),
        target=targets.write({member.name: _target(member) for member in members}),
        built=[portable(entry) for entry in loaded.built],
    )
    manifest.save(placed, inside)
    return manifest.load(inside)


def _target(member: Member) -> str:
    """Return what runs a member where no engine was built yet."""
    return f"onnxruntime:{next(variant for variant in ('int8', 'fp32') if variant in member.graphs)}"


def _copy(source: Path, inside: Path, member: str) -> File:
    path = inside / member / source.name
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(source, path)
    return File(path.relative_to(inside).as_posix(), manifest.digest(path))


def _place_code(root: Path) -> None:
    source = Path(newsdesk.server.__file__).parent.parent
    for part in _CODE:
        for file in sorted((source / part).rglob("*.py")) if (source / part).is_dir() else [source / part]:
            place = root / "newsdesk" / file.relative_to(source)
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, place)


def _nobodys(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    """Leave out whose files these were."""
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = "root"
    entry.mode = 0o755 if entry.isdir() or entry.mode & 0o100 else 0o644
    return entry
