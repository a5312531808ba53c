"""Give a finished model what a GPU reads: graphs in half precision, made from its int8 graphs, and engines of them.

Neither the rows that the model was fitted on nor the artifacts of its build are needed. Weights are those of the int8
graphs, so that an fp16 graph is as right as int8 without the rounding of activations, and no more.
"""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import msgspec
import onnx

from newsdesk.build.compile import half, planning, qdq
from newsdesk.build.compile.engine import EngineFigures
from newsdesk.build.compile.metrics import ConvertedFigures
from newsdesk.build.compile.planning import NotBuilt
from newsdesk.build.compile.predict import RUNS_ANY, Examples, on_all_cores, probabilities
from newsdesk.build.compile.texts import TEXTS
from newsdesk.build.data.rows import Row
from newsdesk.build.errors import BuildError
from newsdesk.build.evaluation.metrics import agreement
from newsdesk.build.recipe import Engines
from newsdesk.server.runtime import gpu, manifest, targets
from newsdesk.server.runtime.engines import TARGETS
from newsdesk.server.runtime.manifest import File, Manifest, Member
from newsdesk.server.runtime.repository import latest_version
from newsdesk.server.runtime.text import clean

VARIANTS = "fp32", "fp16", "int8-fp16"
FiguresByTarget = dict[str, ConvertedFigures | EngineFigures | NotBuilt]
"""By variant and target."""
LEAST_AGREEMENT = 0.95
"""Share of the texts on which a graph gives the int8 graph's label; one that does not is left out."""


def convert(
    model: Path, output: Path, variants: list[str], settings: Engines, texts: list[str], say: Callable[[str], None]
) -> dict[str, FiguresByTarget]:
    """Write the latest version of a model folder with more graphs to `output`, whole or not at all.

    On a machine with a GPU the new manifest's target is an engine that was built, else ONNX Runtime on that GPU.

    Args:
        model: the folder of a built model; it is not changed
        output: the model repository to write to
        variants: those of VARIANTS that are wanted
        settings: which engines are built, of those variants that are
        texts: what ranges are scanned on and buckets of lengths placed by; none: a few of newsdesk's own
        say: is told how each graph compares, and of engines that cannot be built

    Returns:
        The figures of each member that was converted, by its name.

    Raises:
        BuildError: a variant is unknown, no member has an int8 graph, or the output is the model itself.
    """
    if unknown := [name for name in variants if name not in VARIANTS]:
        raise BuildError(f"variant {unknown[0]!r}: expected some of {', '.join(VARIANTS)}")
    version = latest_version(model)
    described = manifest.load(version)
    if (output / model.name).resolve() == model.resolve():
        raise BuildError(f"{output} holds the model that is converted; name another folder with --output")
    partial = output / f".{model.name}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    shutil.copytree(model, partial, ignore=lambda folder, names: _others(Path(folder), names, model, version))
    inside = partial / version.name
    rows = [Row(clean(text), 0) for text in texts or TEXTS]
    figures: dict[str, FiguresByTarget] = {}
    members = []
    for member in described.members:
        if "int8" not in member.graphs or member.kind != "encoder":
            members.append(member)
            continue
        converted, figures[member.name] = _member(member, inside, variants, settings, rows, say)
        members.append(converted)
    if not figures:
        raise BuildError(f"{version}: no encoder has an int8 graph; expected a model that newsdesk built for a CPU")
    made = msgspec.structs.replace(described, members=members)
    manifest.save(msgspec.structs.replace(made, target=_target(made, settings)), inside)
    manifest.load(inside)
    shutil.rmtree(output / model.name, ignore_errors=True)
    os.replace(partial, output / model.name)
    return figures


def _others(folder: Path, names: list[str], model: Path, version: Path) -> list[str]:
    """Return the version folders of a model that are not the one meant."""
    return [name for name in names if folder == model and name.isdigit() and name != version.name]


def _member(
    member: Member, folder: Path, variants: list[str], settings: Engines, rows: list[Row], say: Callable[[str], None]
) -> tuple[Member, FiguresByTarget]:
    """Return the member with its new graphs and plans, which are written beside its int8 graph, and their figures."""
    source = folder / member.graphs["int8"].path
    examples = Examples.of(rows, folder / member.tokenizer.path, member.max_length, member.pad_id)
    ids = [list(map(int, row)) for row in examples.ids]
    graphs = {"int8": source}
    figures: FiguresByTarget = {}
    reference = probabilities(on_all_cores(RUNS_ANY, source), examples, f"{member.name}, int8")
    whole = source.with_name("model.fp32.onnx")
    floats = onnx.load(source)
    qdq.dequantise(floats)
    onnx.save(floats, whole)
    for variant in VARIANTS:
        if variant not in variants:
            continue
        graph = source.with_name(f"model.{variant}.onnx")
        if variant != "fp32":
            origin = whole if variant == "fp16" else source
            half.to_half(origin, graph, half.too_large(origin, ids))
        same = agreement(reference, probabilities(on_all_cores(RUNS_ANY, graph), examples, f"{member.name}, {variant}"))
        say(f"  {member.name}, {variant}: {same:.1%} of {len(rows)} texts have the int8 graph's label")
        passed = same >= LEAST_AGREEMENT
        figures[variant] = ConvertedFigures(
            agreement=round(same, 4),
            mib=round(graph.stat().st_size / 2**20, 2),
            error="" if passed else f"fewer than {LEAST_AGREEMENT:.0%} of the labels agree",
        )
        if passed:
            graphs[variant] = graph
        else:
            graph.unlink()
    if "fp32" not in graphs:
        whole.unlink(missing_ok=True)
    built = planning.build(graphs, list(map(len, ids)), member.max_length, settings, source.parent, say)
    plans = planning.load(source.parent)
    (source.parent / planning.PLANS).unlink()
    graphs |= {target: source.parent / planning.file_of(target) for target in plans}
    for path in (*source.parent.glob("*.log"), *source.parent.glob("*.timing")):
        path.unlink()
    files = {variant: File(str(path.relative_to(folder)), manifest.digest(path)) for variant, path in graphs.items()}
    return msgspec.structs.replace(member, graphs=files, plans=plans), figures | built.plans


def _target(described: Manifest, settings: Engines) -> str:
    """Return what serves: each converted member's first target of a GPU, where this machine has one."""
    if gpu.find() is None:
        return described.target
    before = targets.choose("", described)
    wanted = [f"{runtime}:{variant}" for runtime in settings.runtimes for variant in settings.variants]
    wanted += ["onnxruntime-cuda:fp16", "onnxruntime-cuda:fp32"]
    for member in described.members:
        usable = (target for target in wanted if TARGETS.get(target) in member.graphs)
        before[member.name] = next(usable, before[member.name])
    return targets.write(before)
