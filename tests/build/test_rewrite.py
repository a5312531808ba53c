"""Graphs that compilers refuse are rewritten without a change of their answers (notes 84, 98)."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from newsdesk.build.compile import rewrite
from newsdesk.server.runtime import engines


def kinds(graph) -> set[str]:
    return {node.op_type for node in onnx.load(graph).graph.node}


@pytest.mark.parametrize(
    ("family", "kind", "rewriting"),
    [
        ("xlnet", "EyeLike", "EyeLike over a dynamic shape (1)"),
        ("deberta-v2", "If", "If that compares a length with itself (2)"),
    ],
)
def test_what_compilers_refuse_is_gone(family, kind, rewriting, exported):
    """Parity with PyTorch at shapes never traced is what the export itself checks, after the rewrite."""
    assert kind not in kinds(exported(family).graph)
    assert rewriting in exported(family).figures.rewritten


@pytest.mark.parametrize("length", [1, 2, 7])
def test_an_identity_is_the_same_at_every_length(length, tmp_path):
    before = square("EyeLike", {"dtype": TensorProto.FLOAT})
    after = onnx.ModelProto.FromString(before.SerializeToString())
    assert rewrite.spell_out_identities(after) == 1
    onnx.checker.check_model(after)
    zeros = np.zeros((length, length), np.float32)
    assert np.array_equal(run(before, zeros), np.eye(length))
    assert np.array_equal(run(after, zeros), np.eye(length))


def test_an_identity_with_an_offset_stays():
    model = square("EyeLike", {"dtype": TensorProto.FLOAT, "k": 1})
    assert rewrite.spell_out_identities(model) == 0
    assert model.graph.node[0].op_type == "EyeLike"


def test_an_if_that_asks_anything_else_stays(exported):
    """The branch is settled for Not(length == length) alone."""
    branch = helper.make_graph([helper.make_node("Identity", ["given"], ["inside"])], "branch", [], [value("inside")])
    model = square("If", {"then_branch": branch, "else_branch": branch}, inputs=["flag"])
    flag = helper.make_tensor_value_info("flag", TensorProto.BOOL, [])
    model.graph.input.append(flag)
    assert rewrite.settle_branches(model) == 0
    assert model.graph.node[0].op_type == "If"
    assert engines.load("onnxruntime:fp32", exported("deberta-v2").graph)  # which has none any more, and still loads


def value(name: str):
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["length", "length"])


def square(kind: str, attributes: dict, inputs: tuple | list = ("given",)) -> onnx.ModelProto:
    graph = helper.make_graph(
        [helper.make_node(kind, inputs, ["made"], kind, **attributes)], "square", [value("given")], [value("made")]
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


def run(model: onnx.ModelProto, array: np.ndarray) -> np.ndarray:
    import onnxruntime

    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"given": array})[0]
