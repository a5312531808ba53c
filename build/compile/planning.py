"""The stage that builds a member's TensorRT engines, of the variants that passed the gate."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from newsdesk.build.compile import profiles
from newsdesk.build.errors import BuildError
from newsdesk.server.runtime import gpu
from newsdesk.server.runtime.plans import Plan

if TYPE_CHECKING:
    from newsdesk.build.compile.stages import Job
    from newsdesk.build.stage import Artefact

PLANS = "plans.json"
_LENGTH_ROWS = 2000


def build(job: Job) -> Artefact:
    """Build the recipe's engines: `<runtime>-<variant>.plan` with its log, and plans.json for the manifest.

    One that cannot be built here is reported and left out: the ONNX graphs serve all the same.
    """
    settings = job.recipe.engines
    variants = job.made["quantise"].figures["variants"]

    def work(folder: Path) -> dict[str, Any]:
        from newsdesk.build.compile import engine

        lengths = [len(ids) for ids in job.encode(job.drawn("train", _LENGTH_ROWS)).ids]
        ends = profiles.ends(lengths, job.max_length, settings.buckets)
        plans: dict[str, Plan] = {}
        figures: dict[str, Any] = {}
        for runtime in settings.runtimes:
            placed = profiles.place(runtime, ends, list(settings.batches))
            for variant in settings.variants:
                if not variants.get(variant, {}).get("passed"):
                    continue
                name = f"{runtime}:{variant}"
                try:
                    made = engine.build(job.graphs[variant], folder / file_of(name), runtime, placed, settings)
                except BuildError as error:
                    job.shop.say(f"  {name}: not built: {error}")
                    figures[name] = {"error": str(error)}
                    continue
                job.shop.say(f"  {name}: {made['seconds']} s, {made['mib']} MiB, products in {made['products']}")
                figures[name] = made
                plans[name] = describe(made, runtime, list(settings.batches), ends, settings)
        (folder / PLANS).write_bytes(msgspec.json.encode(plans))
        return {"lengths": ends, "plans": figures}

    code = "newsdesk.build.compile.engine", "newsdesk.build.compile.profiles", __name__
    here = gpu.find()
    known = [settings, job.recipe.seed, job.max_length, here.name if here else ""]
    return job.run("engines", work, known, ("split", "export", "quantise"), code)


def describe(made: dict[str, Any], runtime: Any, batches: list[int], lengths: list[int], settings: Any) -> Plan:
    """Return what the manifest says of an engine that was built here."""
    here = gpu.find()
    ahead = runtime == "tensorrt_rtx"
    return Plan(
        runtime=runtime,
        version=made["version"],
        compute_capabilities=list(settings.compute_capabilities) if ahead or not here else [here.compute_capability],
        hardware="same" if ahead else settings.hardware,
        version_compatible=settings.version_compatible,
        gpu=here.name if here else "",
        cuda=here.cuda if here else "",
        batches=batches,
        lengths=lengths,
        products=made["products"],
    )


def read(artefact: Artefact) -> tuple[dict[str, Path], dict[str, Plan]]:
    """Return the stage's plans, their files and what is known of them, by target."""
    found = msgspec.json.decode((artefact / PLANS).read_bytes(), type=dict[str, Plan])
    return {name: artefact / file_of(name) for name in found}, found


def file_of(target: str) -> str:
    return f"model.{target.replace(':', '.')}.plan"
