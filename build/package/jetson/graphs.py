"""The graphs of a model that go to a device, and the origin of those that its repository does not hold."""

from dataclasses import dataclass
from pathlib import Path

from newsdesk.build.errors import BuildError
from newsdesk.server.runtime.files import digest as sha256
from newsdesk.server.runtime.manifest import Manifest, Member

PRECISIONS = "int8", "fp16", "int8-fp16"
"""int8 by explicit Q/DQ with fp32 beside it, for the processor; fp16, and Q/DQ with fp16 beside it, for TensorRT, which
takes the types from the file."""


@dataclass(frozen=True)
class DeviceGraphs:
    """A member's graphs by variant, and what lacks, each with the command that makes it."""

    graphs: dict[str, Path]
    missing: list[str]


def find(member: Member, manifest: Manifest, version: Path, artifacts: Path | None) -> DeviceGraphs:
    """Return a member's graphs for the device: of an encoder int8 (else fp32), fp16 and int8-fp16, of n-grams all.

    A graph that the repository lacks is taken from the artifacts of the very build that made it.

    Raises:
        BuildError: the member has nothing that runs.
    """
    here = {variant: version / file.path for variant, file in member.graphs.items()}
    if member.kind != "encoder":
        return DeviceGraphs(here, [])
    graphs = {variant: here[variant] for variant in PRECISIONS if variant in here}
    missing = []
    for variant in PRECISIONS:
        if variant not in graphs:
            made = _made(member.name, variant, manifest, artifacts)
            if isinstance(made, Path):
                graphs[variant] = made
            else:
                missing.append(made)
    if "int8" not in graphs and "fp32" in here:
        graphs["fp32"] = here["fp32"]  # what the processor can run meanwhile
    if not {"int8", "fp32"} & graphs.keys():
        raise BuildError(f"member {member.name} has {', '.join(here)}, expected int8 or fp32. {missing[0]}")
    return DeviceGraphs(graphs, missing)


def _made(member: str, variant: str, manifest: Manifest, artifacts: Path | None) -> Path | str:
    """Return the graph that the quantise stage left, or what to do about its absence."""
    name = f"model.{variant}.onnx"
    stages = {entry.get("stage"): entry for entry in manifest.built if entry.get("name") in (member, "", None)}
    entry = stages.get("quantise", {})
    digest = entry.get("files", {}).get(name)
    command = stages.get("recipe", {}).get("command", "newsdesk build")
    if not digest:
        return f"{member} has no {variant} graph, and its build made none. Build the model anew: {command}"
    path = (artifacts or Path("artifacts")) / "quantise" / entry["key"] / name
    if path.is_file() and sha256(path) == digest:
        return path
    state = "is another than" if path.is_file() else "lacks"
    return (
        f"{member} has no {variant} graph in the repository, and {path} {state} what its build made. Make it with "
        f"{command} --stage quantise, and name that build's folder with --artifacts."
    )
