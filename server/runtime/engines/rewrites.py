"""An int8 graph as ONNX Runtime is given it on the CPU: rewritten at its load, or before, and kept beside the graph.

Only what rewrites imports onnx. With the rewriting it takes a third of the time in which a backend process of the
shipped model starts, and a third of its largest memory.
"""

import os
from pathlib import Path
from typing import NamedTuple

from newsdesk.server.runtime import processor

REWRITTEN = "NEWSDESK_REWRITTEN"
"""Variable of the environment: a folder, of the server's own, below which a graph's rewrite is beside it."""
TARGET = "onnxruntime:int8"
"""The target whose graphs are rewritten."""
AS_WRITTEN, PARTED, NARROWED = FORMS = "as-written", "parted", "narrowed"
"""The graph itself; with Q/DQ pairs of their own (`pairs`); with coarser weights besides (`narrow`)."""


class Rewrite(NamedTuple):
    """A graph as ONNX Runtime is given it."""

    form: str
    graph: bytes
    """Empty where the graph is taken as it is written."""


def make(graph: Path) -> Rewrite:
    """Rewrite a graph for this processor."""
    from newsdesk.server.runtime.engines import pairs
    from newsdesk.server.runtime.engines.narrow import narrow

    model = pairs.load(graph)
    if model is None:
        return Rewrite(AS_WRITTEN, b"")
    narrowed = processor.adds_in_16_bits() and narrow(model, graph.parent)
    return Rewrite(NARROWED if narrowed else PARTED, model.SerializeToString())


def beside(graph: Path, form: str) -> Path:
    """Return where a graph's rewrite is kept."""
    return graph.with_name(f"{graph.name}.{form}")


def read(graph: Path) -> tuple[str, str | bytes]:
    """Return the form of a graph and what to open: the one that is kept, or one that is made now."""
    if (above := os.environ.get(REWRITTEN)) and graph.is_relative_to(above):
        for form in FORMS:
            if (kept := beside(graph, form)).is_file():
                return form, str(graph if form == AS_WRITTEN else kept)
    made = make(graph)
    return made.form, made.graph or str(graph)
