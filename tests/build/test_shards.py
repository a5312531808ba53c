"""A graph in several files answers as in one, with both engines, and the manifest checks all of them."""

from pathlib import Path

import numpy as np
import onnx
import pytest

from newsdesk.build.compile import shards
from newsdesk.server.runtime import engines


@pytest.mark.parametrize("target", ["onnxruntime:fp32", "openvino:fp32"])
def test_a_graph_in_several_files_answers_alike(exported, batch, tmp_path: Path, target: str):
    whole = exported().graph
    limit = 70_000
    graph, *parts = shards.split(whole, tmp_path, limit)
    assert len(parts) > 1
    assert all(part.stat().st_size <= limit for part in parts)
    assert all(part.stat().st_mode & 0o044 == 0o044 for part in parts)  # a container is another user
    assert graph.stat().st_size < whole.stat().st_size / 2
    ids, mask = (part[:3] for part in batch)
    np.testing.assert_array_equal(engines.load(target, graph)(ids, mask), engines.load(target, whole)(ids, mask))


def test_a_small_graph_stays_one_file(exported, tmp_path: Path):
    assert shards.split(exported().graph, tmp_path) == [tmp_path / exported().graph.name]
    assert (tmp_path / exported().graph.name).read_bytes() == exported().graph.read_bytes()


def test_a_graph_whose_weights_lie_beside_it_takes_them_along(exported, batch, tmp_path: Path):
    """However small the file of the graph alone is."""
    (tmp_path / "first").mkdir()
    (tmp_path / "second").mkdir()
    graph, *_ = shards.split(exported().graph, tmp_path / "first", 70_000)
    moved, *parts = shards.split(graph, tmp_path / "second")
    assert parts
    graph.unlink()
    ids, mask = (part[:3] for part in batch)
    whole = engines.load("onnxruntime:fp32", exported().graph)(ids, mask)
    np.testing.assert_array_equal(engines.load("onnxruntime:fp32", moved)(ids, mask), whole)


def test_a_slimmed_graph_answers_alike_and_holds_the_positions_that_are_read(exported, batch, tmp_path: Path):
    whole = exported().graph
    (slimmed,) = shards.split(whole, tmp_path, positions=batch[0].shape[1])
    before, after = ({tuple(tensor.dims) for tensor in onnx.load(path).graph.initializer} for path in (whole, slimmed))
    (dropped,) = before - after
    assert after - before == {(batch[0].shape[1], dropped[1])}
    assert slimmed.stat().st_size < whole.stat().st_size
    np.testing.assert_array_equal(
        engines.load("onnxruntime:fp32", slimmed)(*batch[:2]), engines.load("onnxruntime:fp32", whole)(*batch[:2])
    )
