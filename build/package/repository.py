"""Write the Triton model repository: a model folder whose files are whole whenever somebody looks."""

import json
import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from newsdesk.build.compile import shards
from newsdesk.build.errors import BuildError
from newsdesk.build.package import card
from newsdesk.build.recipe import Card, Repository
from newsdesk.server.contract import INPUTS, OUTPUTS, PROBABILITIES, UNSURE, TensorSpec
from newsdesk.server.runtime import manifest, processor, repository
from newsdesk.server.runtime.calibrate import Calibrator
from newsdesk.server.runtime.cascade import Level, files
from newsdesk.server.runtime.cores import FEWEST_INSTANCES
from newsdesk.server.runtime.files import File
from newsdesk.server.runtime.manifest import Manifest, Member, Windows
from newsdesk.server.runtime.plans import Plan
from newsdesk.server.runtime.reference import Reference
from newsdesk.server.runtime.repository import WITHDRAWN
from newsdesk.server.runtime.unsure import Unsure
from newsdesk.server.runtime.windows import Rule

LABELS = "labels.txt"
CARD = "MODEL_CARD.md"
_BACKEND = "from newsdesk.server.runtime.backend import TritonPythonModel  # noqa: F401\n"


@dataclass(frozen=True)
class BuiltMember:
    """A member as the stages left it."""

    name: str
    kind: Literal["encoder", "ngrams", "linear"]
    tokenizer: Path
    """Its tokenizer.json, or the features of n-grams."""
    graphs: dict[str, Path]
    max_length: int
    pad_id: int
    calibrator: Calibrator
    plans: dict[str, Plan] = field(default_factory=dict)
    """The plans by which the compiled engines among the graphs were built: with what, and for what."""


def write(
    output: Path,
    settings: Repository,
    about: Card,
    *,
    labels: list[str],
    members: list[BuiltMember],
    cascade: list[Level],
    graphs: Path,
    target: str,
    figures: dict[str, Any],
    built: list[dict[str, Any]],
    windows: Rule = "mean",
    unsure: Unsure | None = None,
    reference: Reference | None = None,
    next_version: bool = False,
) -> Path:
    """Write `<output>/<model>/` and return it: in place of its highest version, or as the next one.

    The version folder is made beside its place and renamed into it; every other file is written under another name and
    renamed; config.pbtxt, which is what Triton looks for, comes last.

    Args:
        output: the model repository
        settings: the recipe's of the repository
        about: what the model card says and no measurement can
        labels: in the order of the outputs
        members: in the order in which they are asked
        cascade: its levels
        graphs: the folder below which the cascade's own graphs lie, by the paths that its levels name
        target: one for all members, or each one's (see `targets`)
        figures: what was measured
        built: the entries of the artifacts, the recipe's first
        windows: the rule for texts beyond a member's length
        unsure: when an answer is marked as not sure; None: none is
        reference: what live answers are held against
        next_version: write the next version, instead of in place of the highest

    Raises:
        BuildError: a label holds a line break.
    """
    if bad := [label for label in labels if "\n" in label or "\r" in label]:
        raise BuildError(f"label {bad[0]!r} holds a line break; {LABELS} has a label a line. Rename it in the data.")
    model = output / settings.model
    number = _number(model, next_version)
    # Triton passes over version folders that are no number.
    new, old, final = (model / f"{number}{suffix}" for suffix in (".partial", ".old", ""))
    for leftover in (new, old) if final.exists() else (new,):
        shutil.rmtree(leftover, ignore_errors=True)
    new.mkdir(parents=True)
    config = render_config(settings, len(labels), [member.name for member in members], unsure is not None)
    (new / manifest.ENTRY).write_text(_BACKEND, encoding="utf-8")
    (new / manifest.CONFIG).write_text(config, encoding="utf-8")  # a version that is gone back to is served as it was
    for file in files(cascade):
        (new / file.path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(graphs / file.path, new / file.path)
    described = Manifest(
        schema=manifest.SCHEMA,
        name=settings.model,
        labels=labels,
        members=[_place(member, new) for member in members],
        cascade=cascade,
        code=manifest.code(new),
        windows=Windows(rule=windows),
        unsure=unsure,
        reference=reference,
        target=target,
        cpu_features=processor.changes_answers(),
        figures=shown(figures),
        built=[_recorded(entry) for entry in built],
    )
    manifest.save(described, new)
    manifest.load(new)
    if final.exists():
        final.rename(old)
    new.rename(final)
    shutil.rmtree(old, ignore_errors=True)
    _land(model / LABELS, "".join(f"{label}\n" for label in labels))
    _land(model / CARD, card.render(described, about))
    _land(model / manifest.CONFIG, config)
    return model


def _number(model: Path, next_version: bool) -> int:
    """Return the version to write. A withdrawn one keeps its number: it may be taken back."""
    serving = [int(folder.name) for folder in repository.versions(model)]
    if not next_version:
        return max(serving, default=1)
    withdrawn = [folder.name.removesuffix(WITHDRAWN) for folder in model.glob(f"*{WITHDRAWN}/")]
    return max([*serving, *(int(name) for name in withdrawn if name.isdigit())], default=0) + 1


def render_config(settings: Repository, label_count: int, members: list[str], unsure: bool = False) -> str:
    """Return config.pbtxt, loadable by any Triton as it is; `newsdesk serve` sets the instances per machine.

    UNSURE is among the outputs where the model says when an answer is not sure.

    No queue delay: batches form while the instances are busy, and who comes alone is not kept waiting. As few instances
    as `settings.FEWEST_INSTANCES`, and no fewer, because one alone makes them wait.
    """
    specs = [spec for spec in OUTPUTS if unsure or spec.name != UNSURE]
    inputs, outputs = (
        ",\n".join(f"  {_tensor(spec, label_count, len(members))}" for spec in of) for of in (INPUTS, specs)
    )
    return f"""name: "{settings.model}"
backend: "python"
max_batch_size: {settings.max_batch_size}
input [
{inputs}
]
output [
{outputs}
]
parameters {{ key: "members" value: {{ string_value: "{",".join(members)}" }} }}
dynamic_batching {{
  max_queue_delay_microseconds: 0
  default_queue_policy {{ max_queue_size: {settings.max_queue_size} }}
}}
instance_group [ {{ kind: KIND_CPU count: {FEWEST_INSTANCES} }} ]
"""


def _tensor(spec: TensorSpec, labels: int, members: int) -> str:
    """Return a tensor's entry in config.pbtxt."""
    datatype = "STRING" if spec.datatype == "BYTES" else spec.datatype
    sizes = ", ".join(map(str, spec.sizes(labels, members)))
    more = f' label_filename: "{LABELS}"' if spec.name == PROBABILITIES else ""
    more += " optional: true" if spec.optional else ""
    return f'{{ name: "{spec.name}" data_type: TYPE_{datatype} dims: [ {sizes} ]{more} }}'


def portable(value: Any) -> Any:
    """Return an entry with every absolute path in it, as a key or a value, cut down to its last part."""
    if isinstance(value, dict):
        return {portable(key): portable(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [portable(inner) for inner in value]
    return Path(value).name if isinstance(value, str) and value.startswith(("/", "~")) else value


def _recorded(entry: dict[str, Any]) -> dict[str, Any]:
    """Return a stage's entry as the manifest has it."""
    return portable(entry | {"figures": shown(entry["figures"])} if "figures" in entry else entry)


_TRIED = "candidates", "frontier"
"""Figures of what was not chosen."""


def shown(value: Any) -> Any:
    """Return figures for who reads the manifest: six digits each, and what was chosen without what was tried beside it.

    The artifacts of the stages keep everything.
    """
    if isinstance(value, dict):
        return {key: shown(inner) for key, inner in value.items() if key not in _TRIED}
    if isinstance(value, list | tuple):
        return [shown(inner) for inner in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value


def _place(member: BuiltMember, folder: Path) -> Member:
    (folder / member.name).mkdir()
    graphs, data = {}, []
    for variant, path in member.graphs.items():
        if variant in member.plans:
            graphs[variant] = _file(Path(shutil.copy(path, folder / member.name)), folder)
            continue
        graph, *parts = shards.split(
            path, folder / member.name, positions=member.max_length and member.max_length + member.pad_id + 1
        )
        graphs[variant] = _file(graph, folder)
        data += [_file(part, folder) for part in parts]
    return Member(
        name=member.name,
        kind=member.kind,
        tokenizer=_file(_without_indents(member.tokenizer, folder / member.name / member.tokenizer.name), folder),
        graphs=graphs,
        data=data,
        max_length=member.max_length,
        pad_id=member.pad_id,
        calibrator=member.calibrator,
        plans=member.plans,
    )


def _without_indents(source: Path, target: Path) -> Path:
    """Copy JSON: what indents a tokenizer's pieces is more than half of its file."""
    content = json.loads(source.read_text(encoding="utf-8"))
    target.write_text(json.dumps(content, ensure_ascii=False, separators=(",", ":")), encoding="utf-8")
    return target


def _file(path: Path, folder: Path) -> File:
    return File(str(path.relative_to(folder)), manifest.digest(path))


def _land(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.partial")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)
