"""Run a stage of a build once: keyed by what goes in, landed atomically, recorded with what made it."""

import hashlib
import importlib.metadata
import importlib.util
import json
import os
import platform
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from newsdesk.build.errors import BuildError
from newsdesk.server.runtime import processor

ENTRY = "entry.json"
_PACKAGES = (
    "torch",
    "transformers",
    "optimum-onnx",
    "onnx",
    "onnxruntime",
    "openvino",
    "nncf",
    "tokenizers",
    "numpy",
    "scipy",
    "scikit-learn",
    "xgboost-cpu",
    "catboost",
)


@dataclass(frozen=True)
class Artefact:
    """What a stage left: a folder, and its entry (key, inputs, files with sha256, packages, figures)."""

    path: Path
    entry: dict[str, Any]

    @property
    def content(self) -> str:
        """Digest of the files alone: a stage that comes to the same result as before leaves what follows unchanged."""
        return hashlib.sha256(json.dumps(self.entry["files"], sort_keys=True).encode()).hexdigest()[:16]

    @property
    def figures(self) -> dict[str, Any]:
        return self.entry["figures"]

    def __truediv__(self, name: str) -> Path:
        return self.path / name


class Workshop:
    """The folder where a build's artefacts lie: `<root>/<stage>/<key>/`."""

    def __init__(self, root: Path, say: Callable[[str], None] = print) -> None:
        self.root, self.say = root, say

    def run(
        self,
        stage: str,
        work: Callable[[Path], dict[str, Any]],
        *,
        settings: Any = None,
        inputs: dict[str, Artefact] | None = None,
        files: tuple[str, ...] = (),
        code: tuple[str, ...] = (),
        name: str = "",
    ) -> Artefact:
        """Return the stage's artefact, doing the work only if no artefact of the same key is there.

        The key covers the stage's settings, the content of its `inputs`, the content of the `files` it reads and the
        source of the modules in `code`. `work` gets a folder that outlives an interrupted run (so that it can
        resume) and returns the figures to record; the folder is renamed into place when it returns.
        """
        inputs = inputs or {}
        known = {
            "stage": stage,
            "settings": msgspec.to_builtins(settings),
            "inputs": {role: artefact.content for role, artefact in inputs.items()},
            "files": {path: sha256(Path(path)) for path in files},
            "code": {module: _source(module) for module in code},
        }
        key = hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()[:16]
        title = f"{stage} {name}".strip()
        final = self.root / stage / key
        if (final / ENTRY).is_file():
            artefact = Artefact(final, json.loads((final / ENTRY).read_text(encoding="utf-8")))
            if changed := [n for n, digest in artefact.entry["files"].items() if sha256(final / n) != digest]:
                raise BuildError(
                    f"{title}: {final / changed[0]} is not what was built (sha256). Delete {final} and rebuild."
                )
            self.say(f"{title}: unchanged ({final})")
            return artefact
        partial = final.with_name(f"{key}.partial")
        self.say(f"{title}: {'resuming' if partial.exists() else 'running'}")
        partial.mkdir(parents=True, exist_ok=True)
        start = time.monotonic()
        figures = work(partial)
        shutil.rmtree(partial / "scratch", ignore_errors=True)
        entry = {
            **known,
            "key": key,
            "name": name,
            "files": {str(p.relative_to(partial)): sha256(p) for p in sorted(partial.rglob("*")) if p.is_file()},
            "read": known["files"],
            "figures": figures,
            "packages": packages(),
            "machine": machine(),
            "seconds": round(time.monotonic() - start, 1),
            "made": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        }
        (partial / ENTRY).write_text(
            json.dumps(entry, indent=1, ensure_ascii=False), encoding="utf-8", errors="surrogateescape"
        )
        partial.rename(final)
        self.say(f"{title}: done in {entry['seconds']} s ({final})")
        return Artefact(final, entry)


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def packages() -> dict[str, str]:
    """Return the versions of those packages, of the ones a build depends on, that are installed."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def machine() -> str:
    """Return the processor, with what changes its answers, and its number of cores."""
    return f"{processor.describe()}, {os.cpu_count()} cores"


def _source(module: str) -> str:
    spec = importlib.util.find_spec(module)
    if spec is None or not spec.origin:
        raise BuildError(f"no module {module!r} to take the stage's code from")
    return hashlib.sha256(Path(spec.origin).read_bytes()).hexdigest()[:16]
