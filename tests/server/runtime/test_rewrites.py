"""A graph that is kept as it was rewritten answers as one that is rewritten now, and only the server's own is taken."""

from pathlib import Path

import numpy as np
import onnx
import pytest

from newsdesk.server.runtime import engines, processor
from newsdesk.server.runtime.engines import REWRITTEN, rewrites
from tests.server.runtime.quantised import pairs_graph

IDS = np.arange(2 * 7).reshape(2, 7)


def answers(graph: Path) -> np.ndarray:
    return engines.load("onnxruntime:int8", graph)(IDS, np.ones_like(IDS))


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    path = tmp_path / "served" / "graph.onnx"
    path.parent.mkdir()
    onnx.save(pairs_graph(), path, save_as_external_data=True, location="weights", size_threshold=64)
    return path


@pytest.mark.parametrize(("in_16_bits", "form"), [(True, rewrites.NARROWED), (False, rewrites.PARTED)])
def test_a_kept_rewrite_is_opened_without_onnx_and_answers_bit_for_bit(
    in_16_bits: bool, form: str, graph: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processor, "adds_in_16_bits", lambda: in_16_bits)
    expected = answers(graph)
    made = rewrites.make(graph)
    assert made.form == form
    rewrites.beside(graph, form).write_bytes(made.graph)
    monkeypatch.setenv(REWRITTEN, str(graph.parent.parent))
    monkeypatch.delattr(rewrites, "make")
    assert np.array_equal(answers(graph), expected)


def test_a_graph_that_was_found_to_need_none_is_opened_itself(graph: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(REWRITTEN, str(graph.parent))
    rewrites.beside(graph, rewrites.AS_WRITTEN).touch()
    assert rewrites.read(graph) == (rewrites.AS_WRITTEN, str(graph))


@pytest.mark.parametrize("above", ["", "elsewhere"])
def test_what_lies_beside_a_graph_elsewhere_is_not_taken(
    above: str, graph: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = answers(graph)
    rewrites.beside(graph, rewrites.PARTED).write_bytes(b"of another processor")
    monkeypatch.setenv(REWRITTEN, above and str(graph.parent / above))
    assert np.array_equal(answers(graph), expected)
