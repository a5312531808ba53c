"""Every member family in every precision: parity on the CPU, and engines built ahead of time by TensorRT-RTX.

    make engines      # or: python -m benchmarks.engines [--base NAME=FOLDER_OR_HUB …] [--no-bases] [--output FILE]

Heads are random and scaled up, so that they decide; what is compared is numerics, not accuracy: the largest and the
mean difference of a probability from the fp32 graph's, and how often the label is the same, on rows put together here.
The fp32 graph itself is compared with PyTorch by the export. No GPU takes part: the engines are built, not run.
"""

import argparse
import platform
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from benchmarks import texts
from newsdesk.build.compile import engine, export, profiles, quantise
from newsdesk.build.compile.gate import Gate
from newsdesk.build.compile.graphs import GraphFacts
from newsdesk.build.compile.metrics import VariantFigures
from newsdesk.build.compile.predict import RUNS_ANY, Examples, probabilities
from newsdesk.build.data.rows import Row
from newsdesk.build.errors import BuildError
from newsdesk.build.recipe import Engines, Quantise
from newsdesk.server.runtime import engines
from tests.build import encoders

BASES = {
    "MiniLM-L6": "sentence-transformers/all-MiniLM-L6-v2",
    "e5-small": "intfloat/e5-small-v2",
    "MPNet": "sentence-transformers/all-mpnet-base-v2",
}
TINY = "deberta-v2", "roberta", "xlnet", "electra", "albert"
VARIANTS = "fp16", "int8", "int8-fp16", "fp8"
RUNTIME = "tensorrt_rtx"
LABELS = 4
RESULTS = Path(__file__).parent / "results" / "engines.md"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", action="append", default=[], metavar="NAME=BASE", help="in place of the default ones")
    parser.add_argument("--no-bases", action="store_true", help="the tiny random families alone")
    parser.add_argument("--rows", type=int, default=64, help="rows compared; 64 more calibrate")
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args()
    bases = dict(text.split("=", 1) for text in options.base) or BASES
    lines = [HEADER.format(version=engine.runtime(RUNTIME).__version__, machine=platform.machine(), rows=options.rows)]
    print(lines[0], flush=True)
    with tempfile.TemporaryDirectory() as scratch:
        for name, checkpoint in checkpoints({} if options.no_bases else bases, Path(scratch)):
            for line in measure(name, checkpoint, Path(scratch) / f"{name}.work", options.rows):
                print(line, flush=True)
                lines.append(line)
    options.output.write_text("\n".join([*lines, ""]))


HEADER = """# Members on NVIDIA: parity on the CPU, engines ahead of time

`make engines`: TensorRT-RTX {version}, built on {machine} without a GPU for compute capabilities 8.9 and 12.0 (no \
engine was run: no figure here was measured on a GPU). {rows} rows; heads are random: the columns are about \
numerics alone.

| member | precision | ONNX MiB | same label as fp32 | largest difference | mean | engine | s | MiB | products in |
|---|---|---:|---:|---:|---:|---|---:|---:|---|"""


def checkpoints(bases: dict[str, str], scratch: Path) -> Any:
    """Yield (name, `from_pretrained` folder): the bases with a random head, then the tiny random families."""
    for name, base in bases.items():
        torch.manual_seed(0)
        model = AutoModelForSequenceClassification.from_pretrained(base, num_labels=LABELS)
        with torch.no_grad():
            for parameter in model.classifier.parameters():
                parameter.mul_(20)
        model.save_pretrained(scratch / name)
        AutoTokenizer.from_pretrained(base).save_pretrained(scratch / name)
        yield name, scratch / name
    for family in TINY:
        yield f"{family} (tiny, random)", encoders.save(scratch / family, family, labels=LABELS)


def measure(name: str, checkpoint: Path, work: Path, count: int) -> list[str]:
    """Export, make every precision, compare, build; return a line of the table for each."""
    work.mkdir()
    exported = export.export(checkpoint, work, 128)
    facts = GraphFacts.load(work)
    rows = [Row(text, 0) for text in texts.make(count + 64)]
    examples = Examples.of(rows, work / export.TOKENIZER, 128, facts.pad_id)
    compared = examples.part(0, count)
    reference = probabilities(engines.load(RUNS_ANY, work / export.GRAPH), compared, name)
    compared = replace(compared, labels=reference.argmax(-1))
    gate = Gate(compared, reference, 1.0, 0.0)  # nothing is searched for: random heads have no accuracy to lose
    settings = Quantise(variants=VARIANTS)
    calibration = examples.part(count, count + 64).ids
    folder = work / "variants"
    folder.mkdir()
    bench = quantise.Workbench(work / export.GRAPH, facts, gate, calibration, settings, folder, lambda line: None)
    figures = quantise.quantise(bench)
    placed = profiles.place(RUNTIME, profiles.ends([len(ids) for ids in examples.ids], 128, 4), [1, 8, 32, 128])
    parity = f"fp32 against PyTorch: {exported.largest_difference:.1e}"
    return [_line(name, variant, figures[variant], gate, folder, placed, parity) for variant in ("fp32", *VARIANTS)]


def _line(name: str, variant: str, figures: VariantFigures, gate: Gate, folder: Path, placed: list, parity: str) -> str:
    if figures.error:
        return f"| {name} | {variant} | | | | | {figures.error} | | | |"
    graph = folder / quantise.graph_name(variant)
    values = probabilities(engines.load(RUNS_ANY, graph), gate.examples, f"{name}, {variant}")
    difference = np.abs(values - gate.reference).max(-1)
    compared = f"{figures.agreement:.1%} | {difference.max():.4f} | {difference.mean():.4f}"
    if variant == "fp32":
        compared = f"{parity} | | "
    start = time.perf_counter()
    try:
        made = engine.build(graph, folder / f"{variant}.plan", RUNTIME, placed, Engines())
    except BuildError as error:
        return f"| {name} | {variant} | {figures.mib} | {compared} | refused: {error} | | | |"
    seconds = time.perf_counter() - start
    products = ", ".join(f"{kind} {share:.0%}" for kind, share in made.products.items())
    return f"| {name} | {variant} | {figures.mib} | {compared} | built | {seconds:.1f} | {made.mib} | {products} |"


if __name__ == "__main__":
    main()
