"""Make the other precisions of a member's graph, and judge each on the validation rows."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import onnx
from msgspec.structs import replace

from newsdesk.build.compile import explicit, half, int8, qdq
from newsdesk.build.compile.gate import Gate
from newsdesk.build.compile.graphs import graph_name
from newsdesk.build.compile.metrics import Conversion, TriedVariant, VariantFigures
from newsdesk.build.compile.predict import RUNS_ANY, on_all_cores, probabilities
from newsdesk.build.compile.workbench import Workbench
from newsdesk.build.errors import BuildError
from newsdesk.build.progress import track

SENSITIVITY_ROWS = 256

Candidate = tuple[VariantFigures, Path]
Write = Callable[[Path, list[str]], Conversion]
"""Writes a variant to a file with the named matrix products left in float, and says what it did."""


def quantise(bench: Workbench) -> dict[str, VariantFigures]:
    """Write the recipe's variants to the folder and return the figures of each.

    A variant that was finished before an interruption is not made again.
    """
    makers = {
        "fp16": _half,
        "int8": _int8,
        "int8-fp16": _int8_half,
        "int8-dynamic": _int8_dynamic,
        "fp8": _fp8,
    }
    shutil.copy(bench.source, bench.folder / graph_name("fp32"))
    figures = {"fp32": VariantFigures.of(bench.gate.judge(bench.gate.reference))}
    for variant, make in makers.items():
        if variant not in bench.settings.variants:
            continue
        graph, mark = bench.folder / graph_name(variant), _scratch(bench) / f"{variant}.json"
        if not mark.exists():
            mark.write_text(json.dumps(msgspec.to_builtins(_tried(make, bench, graph))))
        figures[variant] = msgspec.convert(json.loads(mark.read_text()), VariantFigures)
        if not figures[variant].passed:
            bench.say(f"{variant} does not pass: {bench.gate.reason(figures[variant])}. A better precision is kept.")
    return {
        variant: of_variant
        if of_variant.error
        else replace(of_variant, mib=round(os.path.getsize(bench.folder / graph_name(variant)) / 2**20, 2))
        for variant, of_variant in figures.items()
    }


def _tried(make: Callable[[Workbench, Path], VariantFigures], bench: Workbench, graph: Path) -> VariantFigures:
    try:
        return make(bench, graph)
    except BuildError:
        raise
    except Exception as error:  # converters raise of every kind at a graph they do not know; fp32 is left
        graph.unlink(missing_ok=True)
        return VariantFigures(passed=False, error=f"{type(error).__name__}: {str(error).strip().splitlines()[0]}")


def _half(bench: Workbench, graph: Path) -> VariantFigures:
    """fp16 with what overflows in fp32; where that does not pass, with the most sensitive products in fp32 too."""
    large = half.too_large(bench.source, bench.calibration)
    if large:
        bench.say(f"fp16: {len(large)} nodes stay fp32, their results are too large ({', '.join([*large][:3])}, …)")

    def write(target: Path, names: list[str]) -> Conversion:
        return replace(half.to_half(bench.source, target, [*large, *names]), too_large=large)

    return _searched(bench, graph, "fp16", write, _products_of(bench.source))


def _fp8(bench: Workbench, graph: Path) -> VariantFigures:
    """E4M3 around the products, fp16 elsewhere; where that does not pass, the most sensitive products stay fp16."""
    large = half.too_large(bench.source, bench.calibration)
    scratch = _scratch(bench) / "fp8-fp32.onnx"

    def write(target: Path, names: list[str]) -> Conversion:
        made = explicit.quantise(bench.source, scratch, bench.calibration, explicit.FP8, names)
        half.to_half(scratch, target, large)
        return made

    return _searched(bench, graph, "fp8", write, _products_of(bench.source))


def _int8_half(bench: Workbench, graph: Path) -> VariantFigures:
    """The int8 graph with fp16 where it had fp32: a GPU is slow at what is left in fp32."""
    source = bench.folder / graph_name("int8")
    if not source.exists():
        return VariantFigures(passed=False, error="it is made from int8, which is not there")
    made = half.to_half(source, graph, half.too_large(source, bench.calibration))
    return VariantFigures.of(bench.measure(graph, "int8-fp16"), made)


def _int8_dynamic(bench: Workbench, graph: Path) -> VariantFigures:
    made = int8.to_int8_dynamic(bench.source, graph, bench.facts.heads, bench.facts.hidden_size)
    return VariantFigures.of(bench.measure(graph, "int8-dynamic"), made)


def _int8(bench: Workbench, graph: Path) -> VariantFigures:
    """Search, within the recipe's bounds, for int8 that passes: SmoothQuant's alphas, then products in float.

    Decided on the validation rows alone. Where nothing passes the nearest is kept, and marked so. A graph that NNCF
    does not know (DeBERTa's shared projections, ALBERT's shared layers) gets plain pairs around its products.
    """
    candidates: list[Candidate] = []
    for alpha in bench.settings.smooth_quant_alphas:
        candidate = _scratch(bench) / f"int8-{alpha}.onnx"
        try:
            made = int8.to_int8(bench.source, candidate, bench.calibration, alpha)
            measured = bench.measure(candidate, f"int8, alpha {alpha}")
        except BuildError:
            raise
        except Exception as error:  # of every kind, and some only when the graph is loaded
            bench.say(f"int8: NNCF does not know this graph ({type(error).__name__}); plain pairs instead")
            return _plain_int8(bench, graph)
        candidates.append((VariantFigures.of(measured, replace(made, smooth_quant_alpha=alpha)), candidate))
        if measured.passed:
            break
    if not candidates[-1][0].passed:
        start, best = max(candidates, key=_nearness)

        def write(target: Path, names: list[str]) -> Conversion:
            model = onnx.load(best)
            qdq.relax(model, names)
            onnx.save(model, target)
            return replace(start, float_products=names)

        candidates += _relaxed(bench, "int8", write, qdq.products(onnx.load(best)))
    return _nearest(candidates, graph, "smooth_quant_alpha", "float_products")


def _plain_int8(bench: Workbench, graph: Path) -> VariantFigures:
    def write(target: Path, names: list[str]) -> Conversion:
        return explicit.quantise(bench.source, target, bench.calibration, explicit.INT8, names)

    return _searched(bench, graph, "int8", write, _products_of(bench.source))


def _searched(bench: Workbench, graph: Path, variant: str, write: Write, products: list[str]) -> VariantFigures:
    """Write the variant, and where it does not pass, with products left in float; return the nearest's figures."""
    candidate = _scratch(bench) / f"{variant}.onnx"
    made = write(candidate, [])
    candidates = [(VariantFigures.of(bench.measure(candidate, variant), made), candidate)]
    if not candidates[0][0].passed:
        candidates += _relaxed(bench, variant, write, products)
    return _nearest(candidates, graph, "kept_float" if variant == "fp16" else "float_products")


def _relaxed(bench: Workbench, variant: str, write: Write, products: list[str]) -> list[Candidate]:
    """Leave 1, 2, 4, … products in float, the most sensitive first, until one passes or the recipe's bound."""
    if not bench.settings.max_float_products:
        return []
    ranking = sensitivity(write, products, bench.gate, _scratch(bench))
    candidates: list[Candidate] = []
    for count in _doubling(min(bench.settings.max_float_products, len(ranking))):
        names = [name for name, _ in ranking[:count]]
        candidate = _scratch(bench) / f"{variant}-float-{count}.onnx"
        made = write(candidate, names)
        scores = bench.measure(candidate, f"{variant}, {count} in float")
        candidates.append((VariantFigures.of(scores, made), candidate))
        if scores.passed:
            break
    return candidates


def _nearest(candidates: list[Candidate], graph: Path, *tried: str) -> VariantFigures:
    """Put the nearest to the float model in place; its figures say what was tried."""
    figures, best = max(candidates, key=_nearness)
    shutil.copy(best, graph)
    return replace(
        figures,
        tried=[
            TriedVariant(
                **{name: getattr(made, name) for name in tried},
                agreement=made.agreement,
                accuracy_loss=made.accuracy_loss,
            )
            for made, _ in candidates
        ],
    )


def sensitivity(write: Write, products: list[str], gate: Gate, scratch: Path) -> list[tuple[str, float]]:
    """Rank matrix products: how much nearer the float model a variant comes when one of them is left in float.

    Nearness is the mean absolute difference of the probabilities on the first SENSITIVITY_ROWS validation rows.

    Args:
        write: writes the variant with products left in float
        products: their names
        gate: of the float model
        scratch: a folder to write to

    Returns:
        Names and differences, the most sensitive product first.
    """
    rows, reference = gate.examples.part(0, SENSITIVITY_ROWS), gate.reference[:SENSITIVITY_ROWS]
    path = scratch / "sensitivity.onnx"
    ranking = []
    for name in track(products, "sensitivity"):
        write(path, [name])
        difference = np.abs(probabilities(on_all_cores(RUNS_ANY, path), rows, name) - reference).mean()
        ranking.append((name, float(difference) if np.isfinite(difference) else np.inf))
    return sorted(ranking, key=lambda item: item[1])


def _products_of(source: Path) -> list[str]:
    model = onnx.load(source)
    half.name_nodes(model)
    return explicit.products(model)


def _nearness(candidate: Candidate) -> tuple[bool, float, float]:
    figures, _ = candidate
    assert figures.agreement is not None
    assert figures.accuracy_loss is not None
    return figures.passed, figures.agreement if figures.finite else -1.0, -figures.accuracy_loss


def _doubling(most: int) -> list[int]:
    counts = [1]
    while counts[-1] * 2 < most:
        counts.append(counts[-1] * 2)
    return sorted({*counts, most}) if most else []


def _scratch(bench: Workbench) -> Path:
    folder = bench.folder / "scratch"
    folder.mkdir(exist_ok=True)
    return folder
