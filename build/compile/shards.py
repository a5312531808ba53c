"""Put a graph whose file would be too large into several: hosts and reviewers refuse large files."""

import shutil
from pathlib import Path

import onnx
from onnx.external_data_helper import set_external_data, write_external_data_tensors

from newsdesk.build.compile.slim import slim

LIMIT = 24 * 2**20
"""Bytes a file."""
_LEAST = 1024
"""Bytes of a tensor that may go; smaller ones stay in the graph, where shape inference reads them."""


def split(source: Path, folder: Path, limit: int = LIMIT, positions: int = 0) -> list[Path]:
    """Write the graph to `folder` under its name and return its path, followed by those of the files of weights.

    Up to `limit` bytes it stays one file, unless the source itself has weights beside it. Else its weights lie beside
    it as ONNX external data, in files of at most `limit` bytes each, which every ONNX reader finds by their names in
    the graph.

    Args:
        source: the graph
        folder: is written to
        limit: bytes a file
        positions: the most that are read: the graph is slimmed (see `slim`); 0: it is not
    """
    target = folder / source.name
    small = source.stat().st_size <= limit and not any(source.parent.glob(f"{source.name}.data-*"))
    if small and not positions:
        shutil.copyfile(source, target)
        return [target]
    model = onnx.load(source)
    if positions:
        slim(model, positions)
    if small:
        onnx.save(model, target)
        return [target]
    parts: list[Path] = []
    filled = limit
    for tensor in model.graph.initializer:
        size = len(tensor.raw_data)
        if size < _LEAST:
            continue
        if filled + size > limit:
            parts.append(folder / f"{source.name}.data-{len(parts) + 1}")
            filled = 0
        set_external_data(tensor, parts[-1].name)
        filled += size
    write_external_data_tensors(model, str(folder))
    onnx.save(model, target)
    for part in parts:
        part.chmod(0o644)  # onnx leaves them to their owner alone; a container serves as somebody else
    return [target, *parts]
