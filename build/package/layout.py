"""Write each encoder of a built model as a plain Triton model: tokens in, logits out, by Triton's own backends.

For those who want `tensorrt_plan` or `onnxruntime_onnx` instead of the Python backend. Tokenising, windows, cascade and
calibration are then the client's: they stay in the ensemble's model.
"""

import os
import shutil
from pathlib import Path

import onnx

from newsdesk.build.errors import BuildError
from newsdesk.server.runtime import manifest
from newsdesk.server.runtime.grids import ANY, Grid
from newsdesk.server.runtime.manifest import Manifest, Member
from newsdesk.server.runtime.repository import latest_version

_VERSION = "1"
_LABELS = "labels.txt"
_PLANS = "tensorrt:fp16", "tensorrt:int8-fp16", "tensorrt:fp8"
_GRAPHS = "fp16", "int8", "fp32"
"""In this order, where the manifest's target does not say: a GPU's first."""


def write(model: Path, output: Path) -> list[Path]:
    """Write `<output>/<model>_<member>/` for every encoder of a model folder, and return them.

    Raises:
        BuildError: none of an encoder's graphs can be read by Triton's own backends.
    """
    version = latest_version(model)
    loaded = manifest.load(version)
    encoders = [member for member in loaded.members if member.kind == "encoder"]
    return [_write(loaded, member, version, output) for member in encoders]


def _write(loaded: Manifest, member: Member, folder: Path, output: Path) -> Path:
    graph = choose(member)
    plan = graph in member.plans
    target = output / f"{loaded.name}_{member.name}"
    version = target / f"{_VERSION}.partial"
    shutil.rmtree(version, ignore_errors=True)
    version.mkdir(parents=True)
    source = folder / member.graphs[graph].path
    if plan:
        shutil.copyfile(source, version / "model.plan")
    else:
        onnx.save(onnx.load(source), version / "model.onnx")  # whole: its weights may lie in files beside it
    shutil.rmtree(target / _VERSION, ignore_errors=True)
    version.rename(target / _VERSION)
    readable = next((file.path for name, file in member.graphs.items() if name not in member.plans), None)
    if readable is None:
        raise BuildError(f"member {member.name} has only plans; keep an ONNX graph too (repository.variants)")
    inputs = [value.name for value in onnx.load(folder / readable, load_external_data=False).graph.input]
    (target / _LABELS).write_text("".join(f"{label}\n" for label in loaded.labels), encoding="utf-8")
    temporary = target / ".config.pbtxt.partial"
    temporary.write_text(render(target.name, member, graph, inputs, len(loaded.labels)), encoding="utf-8")
    os.replace(temporary, target / "config.pbtxt")
    return target


def choose(member: Member) -> str:
    """Return the graph that is written: TensorRT's plan, else ONNX, the nearer to a GPU the better.

    Raises:
        BuildError: the member has none of them.
    """
    for name in (*_PLANS, *_GRAPHS):
        if name in member.graphs:
            return name
    raise BuildError(
        f"member {member.name} has only {', '.join(member.graphs)}; Triton's own backends read one of "
        f"{', '.join((*_PLANS, *_GRAPHS))}. Keep one: --set 'repository.variants=[\"fp32\"]'"
    )


def render(name: str, member: Member, graph: str, inputs: list[str], labels: int) -> str:
    """Return config.pbtxt. Triton batches requests of one length: a client pads to the ends of the buckets."""
    plan = member.plans.get(graph)
    grid = Grid(plan.batches, plan.lengths) if plan else Grid(ANY.batches, _up_to(ANY.lengths, member.max_length))
    tensors = ",\n".join(f'  {{ name: "{tensor}" data_type: TYPE_INT64 dims: [ -1 ] }}' for tensor in inputs)
    preferred = ", ".join(str(size) for size in grid.batches if size > 1)
    profiles = f" profile: [ {', '.join(_quoted(len(grid.shapes)))} ]" if plan else ""
    kind = "KIND_GPU" if plan or graph == "fp16" else "KIND_AUTO"
    return f"""name: "{name}"
platform: "{"tensorrt_plan" if plan else "onnxruntime_onnx"}"
max_batch_size: {grid.batches[-1]}
input [
{tensors}
]
output [
  {{ name: "logits" data_type: TYPE_FP32 dims: [ {labels} ] label_filename: "{_LABELS}" }}
]
dynamic_batching {{
  preferred_batch_size: [ {preferred} ]
  max_queue_delay_microseconds: 0
}}
instance_group [ {{ kind: {kind} count: 1{profiles} }} ]
{_optimisation(bool(plan))}{_warm_up(grid, inputs)}"""


def _optimisation(plan: bool) -> str:
    return "optimization { cuda { graphs: true } }\n" if plan else ""


def _warm_up(grid: Grid, inputs: list[str]) -> str:
    """Run every bucket before the first request: kernels are loaded, and CUDA graphs captured, by then."""
    entries = []
    for batch, length in grid.shapes:
        tensors = "".join(
            f'\n  inputs {{ key: "{tensor}" value {{ data_type: TYPE_INT64 dims: [ {length} ] zero_data: true }} }}'
            for tensor in inputs
        )
        entries.append(f'model_warmup {{\n  name: "{batch}x{length}"\n  batch_size: {batch}{tensors}\n}}\n')
    return "".join(entries)


def _up_to(lengths: list[int], most: int) -> list[int]:
    return sorted({*(length for length in lengths if length < most), most})


def _quoted(count: int) -> list[str]:
    return [f'"{number}"' for number in range(count)]
