"""Engines of a GPU on a machine without one: said plainly, offered to nobody, and never in the way of the others."""

from itertools import islice, permutations

import numpy as np
import pytest

from newsdesk.server.runtime import engines, gpu, manifest
from newsdesk.server.runtime.errors import EngineError
from newsdesk.server.runtime.gpu import Gpu
from newsdesk.server.serving import prepare
from tests import tiny

ON_GPU = [target for target in engines.TARGETS if target.partition(":")[0] not in ("openvino", "onnxruntime")]


@pytest.fixture
def no_gpu(monkeypatch):
    monkeypatch.setattr(gpu, "find", lambda: None)


@pytest.fixture
def graph(tmp_path):
    tiny.write(tmp_path)
    return tmp_path / "tiny" / "model.fp32.onnx"


@pytest.mark.usefixtures("no_gpu")
def test_targets_of_a_gpu_are_not_worth_trying_here(monkeypatch):
    assert len(ON_GPU) == 10
    assert not set(ON_GPU) & set(engines.here())
    monkeypatch.setattr(gpu, "find", lambda: Gpu("NVIDIA H100", "9.0", "13.0"))
    assert engines.here() == list(engines.TARGETS)


@pytest.mark.usefixtures("no_gpu")
def test_prepare_does_not_measure_them(graph):
    (member,) = manifest.load(graph.parents[1]).members
    assert "onnxruntime-cuda:fp32" not in prepare.available(member)
    assert "onnxruntime:fp32" in prepare.available(member)


@pytest.mark.skipif(gpu.find() is not None, reason="CUDA itself is asked, and finds the GPU of this machine")
@pytest.mark.parametrize("target", ON_GPU)
def test_loading_one_says_what_is_missing(target, graph):
    with pytest.raises(EngineError) as refused:
        engines.load(target, graph)
    engine = target.partition(":")[0]
    expected = {
        "tensorrt": "pip install 'tensorrt>=10.12'",
        "tensorrt_rtx": "no NVIDIA GPU, or no driver for it",
        "onnxruntime-cuda": "no CUDAExecutionProvider, only .*pip install onnxruntime-gpu",
        "onnxruntime-tensorrt": "no TensorrtExecutionProvider, only .*pip install onnxruntime-gpu",
    }[engine]
    refused.match(expected)


def test_an_engine_that_cannot_queue_computes_at_once(graph):
    engine = engines.load("onnxruntime:fp32", graph)
    ids = np.array([[2, 4, 3]])
    assert np.array_equal(engine.submit(ids, np.ones_like(ids))(), engine(ids, np.ones_like(ids)))


def test_results_are_waited_for_after_everything_is_queued(tmp_path, monkeypatch):
    """A member hands every group to its engine before it reads the first answer."""
    from newsdesk.server.runtime import member
    from newsdesk.server.runtime.grids import Grid

    made = tiny.write(tmp_path)
    plain = engines.load("onnxruntime:fp32", tmp_path / "tiny" / "model.fp32.onnx")
    told: list[str] = []

    grid = Grid((1, 8), (16, 32))

    class Queueing(engines.Engine):
        def shapes(self, most):
            return grid

        def submit(self, ids, mask):
            told.append("queued")
            padded, padded_mask = grid.pad(ids, mask)

            def result():
                told.append("read")
                return plain(padded, padded_mask)[: len(ids)]

            return result

        def close(self):
            told.append("closed")

    texts = [" ".join(words) for words in islice(permutations(tiny.WORDS, 3), 21)]
    about = made.members[0]
    expected = member.LoadedMember(about, made.windows, tmp_path, "onnxruntime:fp32", 1)(texts)
    monkeypatch.setattr(engines, "load", lambda *arguments: Queueing())
    queueing = member.LoadedMember(about, made.windows, tmp_path, "onnxruntime:fp32", 1)
    queueing.warm_up()
    assert told == ["queued", "read"] * 4  # once for every shape of the grid
    told.clear()
    answers = queueing(texts)
    assert told == ["queued"] * 3 + ["read"] * 3
    np.testing.assert_allclose(answers.probabilities, expected.probabilities, atol=1e-6)
    assert answers.computed_tokens == 3 * 8 * 16
    told.clear()
    queueing.close()
    assert told == ["closed"]
