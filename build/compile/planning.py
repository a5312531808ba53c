"""TensorRT engines of a member's graphs: built, and described for the manifest."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from newsdesk.build.compile import engine, profiles
from newsdesk.build.compile.engine import EngineFigures
from newsdesk.build.errors import BuildError
from newsdesk.build.recipe import Engines
from newsdesk.server.runtime import gpu
from newsdesk.server.runtime.plans import Plan

PLANS = "plans.json"


class NotBuilt(Struct, frozen=True, kw_only=True):
    """An engine that cannot be built here."""

    error: str


class EnginesFigures(Struct, frozen=True, kw_only=True):
    """The engines of a member."""

    lengths: list[int]
    """The ends of the buckets of lengths, in tokens."""
    plans: dict[str, EngineFigures | NotBuilt]
    """By target."""


def build(
    graphs: Mapping[str, Path],
    lengths: list[int],
    max_length: int,
    settings: Engines,
    folder: Path,
    say: Callable[[str], None],
) -> EnginesFigures:
    """Build engines into `folder`; one that cannot be built here is reported and left out.

    Args:
        graphs: the ONNX graph of each variant that passed the gate
        lengths: tokens of training rows, by which the buckets are placed
        max_length: tokens that a window has at most
        settings: which engines are built, and how
        folder: is written to
        say: is told of each engine
    """
    ends = profiles.ends(lengths, max_length, settings.buckets)
    plans: dict[str, Plan] = {}
    figures: dict[str, EngineFigures | NotBuilt] = {}
    for runtime in settings.runtimes:
        placed = profiles.place(runtime, ends, list(settings.batches))
        for variant in settings.variants:
            if variant not in graphs:
                continue
            name = f"{runtime}:{variant}"
            try:
                made = engine.build(graphs[variant], folder / file_of(name), runtime, placed, settings)
            except BuildError as error:
                say(f"  {name}: not built: {error}")
                figures[name] = NotBuilt(error=str(error))
                continue
            say(f"  {name}: {made.seconds} s, {made.mib} MiB, products in {made.products}")
            figures[name] = made
            plans[name] = describe(made, runtime, list(settings.batches), ends, settings)
    (folder / PLANS).write_bytes(msgspec.json.encode(plans))
    return EnginesFigures(lengths=ends, plans=figures)


def describe(made: EngineFigures, runtime: Any, batches: list[int], lengths: list[int], settings: Any) -> Plan:
    """Return what the manifest says of an engine that was built here."""
    here = gpu.find()
    ahead = runtime == "tensorrt_rtx"
    return Plan(
        runtime=runtime,
        version=made.version,
        compute_capabilities=list(settings.compute_capabilities) if ahead or not here else [here.compute_capability],
        hardware="same" if ahead else settings.hardware,
        version_compatible=settings.version_compatible,
        gpu=here.name if here else "",
        cuda=here.cuda if here else "",
        batches=batches,
        lengths=lengths,
        products=made.products,
    )


def load(folder: Path) -> dict[str, Plan]:
    """Return what the engines in a folder were built with and for, by target."""
    return msgspec.json.decode((folder / PLANS).read_bytes(), type=dict[str, Plan])


def file_of(target: str) -> str:
    """Return the file name of a target's engine."""
    return f"model.{target.replace(':', '.')}.plan"
