"""Make the other precisions of a member's graph, and judge each on the validation rows."""

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from newsdesk.build.compile import precision, qdq
from newsdesk.build.compile.gate import Gate
from newsdesk.build.compile.predict import probabilities
from newsdesk.build.errors import BuildError
from newsdesk.build.progress import track
from newsdesk.build.recipe import Quantise
from newsdesk.server.ensemble import engines

RUNS_ANY = "onnxruntime:fp32"
"""ONNX Runtime takes every variant as it is written; the variants are judged through it."""
SENSITIVITY_ROWS = 256

Figures = dict[str, Any]


def graph_name(variant: str) -> str:
    return f"model.{variant}.onnx"


@dataclass(frozen=True)
class Workbench:
    """What the variants are made with: the fp32 graph, the facts of the member, the gate and calibration rows."""

    source: Path
    facts: dict[str, Any]
    gate: Gate
    calibration: list[list[int]]
    settings: Quantise
    folder: Path
    say: Callable[[str], None]

    def measure(self, graph: Path, title: str) -> Figures:
        return self.gate.measure(engines.load(RUNS_ANY, graph), title)


def quantise(bench: Workbench) -> Figures:
    """Write every variant to the folder and return the figures of each, `passed` among them.

    A variant that was finished before an interruption is not made again.
    """
    makers = {"fp16": _half, "int8": _int8, "int8-dynamic": _int8_dynamic}
    shutil.copy(bench.source, bench.folder / graph_name("fp32"))
    figures = {"fp32": bench.gate.judge(bench.gate.reference)}
    for variant, make in makers.items():
        graph, mark = bench.folder / graph_name(variant), _scratch(bench) / f"{variant}.json"
        if not mark.exists():
            mark.write_text(json.dumps(_tried(make, bench, graph)))
        figures[variant] = json.loads(mark.read_text())
        if not figures[variant]["passed"]:
            bench.say(f"{variant} does not pass: {bench.gate.reason(figures[variant])}. A better precision is kept.")
    for variant, found in figures.items():
        if "error" not in found:
            found["mib"] = round(os.path.getsize(bench.folder / graph_name(variant)) / 2**20, 2)
    return figures


def _tried(make: Callable[[Workbench, Path], Figures], bench: Workbench, graph: Path) -> Figures:
    try:
        return make(bench, graph)
    except BuildError:
        raise
    except Exception as error:  # converters raise of every kind at a graph they do not know; fp32 is left
        graph.unlink(missing_ok=True)
        return {"passed": False, "error": f"{type(error).__name__}: {str(error).strip().splitlines()[0]}"}


def _half(bench: Workbench, graph: Path) -> Figures:
    return {**precision.to_half(bench.source, graph), **bench.measure(graph, "fp16")}


def _int8_dynamic(bench: Workbench, graph: Path) -> Figures:
    made = precision.to_int8_dynamic(bench.source, graph, bench.facts["heads"], bench.facts["hidden_size"])
    return {**made, **bench.measure(graph, "int8-dynamic")}


def _int8(bench: Workbench, graph: Path) -> Figures:
    """Search, within the recipe's bounds, for int8 that passes: SmoothQuant's alphas, then products in float.

    Decided on the validation rows alone. Where nothing passes the nearest is kept, and marked so.
    """
    found: list[tuple[Figures, Path]] = []
    for alpha in bench.settings.smooth_quant_alphas:
        candidate = _scratch(bench) / f"int8-{alpha}.onnx"
        made = precision.to_int8(bench.source, candidate, bench.calibration, alpha)
        found.append(
            ({"smooth_quant_alpha": alpha, **made, **bench.measure(candidate, f"int8, alpha {alpha}")}, candidate)
        )
        if found[-1][0]["passed"]:
            break
    if not found[-1][0]["passed"] and bench.settings.max_float_products:
        found += _with_float_products(bench, *max(found, key=_nearness))
    figures, best = max(found, key=_nearness)
    shutil.copy(best, graph)
    tried = [
        {key: made.get(key) for key in ("smooth_quant_alpha", "float_products", "agreement", "accuracy_loss")}
        for made, _ in found
    ]
    return {**figures, "tried": tried}


def _with_float_products(bench: Workbench, start: Figures, graph: Path) -> list[tuple[Figures, Path]]:
    ranking = sensitivity(graph, bench.gate, _scratch(bench))
    found = []
    for count in _doubling(min(bench.settings.max_float_products, len(ranking))):
        names = [name for name, _ in ranking[:count]]
        model = onnx.load(graph)
        qdq.relax(model, names)
        candidate = _scratch(bench) / f"int8-float-{count}.onnx"
        onnx.save(model, candidate)
        found.append(
            ({**start, "float_products": names, **bench.measure(candidate, f"int8, {count} in float")}, candidate)
        )
        if found[-1][0]["passed"]:
            break
    return found


def sensitivity(graph: Path, gate: Gate, scratch: Path) -> list[tuple[str, float]]:
    """Rank the quantised matrix products: how much nearer the float model comes when one of them reads floats.

    Nearness is the mean absolute difference of the probabilities on the first SENSITIVITY_ROWS validation rows.
    """
    rows, reference = gate.examples.part(0, SENSITIVITY_ROWS), gate.reference[:SENSITIVITY_ROWS]
    original = onnx.load(graph)
    path = scratch / "sensitivity.onnx"
    ranking = []
    for name in track(qdq.products(original), "sensitivity"):
        model = onnx.ModelProto()
        model.CopyFrom(original)
        qdq.relax(model, [name])
        onnx.save(model, path)
        difference = np.abs(probabilities(engines.load(RUNS_ANY, path), rows, name) - reference).mean()
        ranking.append((name, float(difference)))
    return sorted(ranking, key=lambda item: item[1])


def _nearness(candidate: tuple[Figures, Path]) -> tuple[bool, float, float]:
    figures, _ = candidate
    return figures["passed"], figures["agreement"] if figures["finite"] else -1.0, -figures["accuracy_loss"]


def _doubling(most: int) -> list[int]:
    counts = [1]
    while counts[-1] * 2 < most:
        counts.append(counts[-1] * 2)
    return sorted({*counts, most}) if most else []


def _scratch(bench: Workbench) -> Path:
    folder = bench.folder / "scratch"
    folder.mkdir(exist_ok=True)
    return folder
