"""A head that reads the first token alone has its last layer computed for no other, and answers as before."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from newsdesk.build.compile import first_token, qdq
from newsdesk.server.runtime import engines


@pytest.mark.parametrize(
    ("family", "products"),
    # A layer has eight products; keys and values are of every token. DeBERTa's and DistilBERT's queries are not found.
    [("bert", 6), ("roberta", 6), ("electra", 6), ("albert", 6), ("mpnet", 6), ("distilbert", 4), ("deberta-v2", 3)],
)
def test_the_last_layers_products_are_of_the_first_token_alone(family: str, products: int, exported):
    """That the answers stay is what the export's parity with PyTorch checks, after the rewrite, at 15 shapes."""
    rewriting = f"products of the last layer, for the first token alone ({products})"
    assert rewriting in exported(family).figures.rewritten


def test_a_head_that_reads_every_token_is_left_alone(exported):
    assert not any("first token" in rewriting for rewriting in exported("xlnet").figures.rewritten)


def test_the_last_layer_sees_one_token_and_the_others_all(exported, monkeypatch):
    model = onnx.load(exported().graph)
    products = [node.output[0] for node in model.graph.node if node.op_type == "MatMul"]
    model.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in products)
    import onnxruntime

    session = onnxruntime.InferenceSession(model.SerializeToString())
    ids = np.full((2, 11), 5)
    feed = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
    shapes = [value.shape for value in session.run(products, feed)]
    first, last = shapes[:8], shapes[8:]
    assert all(11 in shape for shape in first)
    assert [shape for shape in last if 1 in shape[1:-1]] == [
        (2, 1, 32),  # queries
        (2, 4, 1, 11),  # what the first token looks at
        (2, 4, 1, 8),
        (2, 1, 32),
        (2, 1, 64),
        (2, 1, 32),
    ]


def test_a_quantised_graph_answers_the_same(exported, calibration_ids, tmp_path, monkeypatch, batch):
    """Q and DQ treat tokens apart, too: a graph that was quantised before is cut without a change of a bit."""
    from newsdesk.build.compile import int8

    int8.to_int8(exported().graph, tmp_path / "int8.onnx", calibration_ids, 0.95)
    before = widened(onnx.load(tmp_path / "int8.onnx"))
    onnx.save(before, tmp_path / "wide.onnx")
    assert first_token.keep(before) == 6
    onnx.save(before, tmp_path / "cut.onnx")
    wide, cut = (engines.load("onnxruntime:int8", tmp_path / f"{name}.onnx") for name in ("wide", "cut"))
    assert np.array_equal(wide(*batch), cut(*batch))


def widened(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the graph without the cuts of the export."""
    cuts = {node.output[0]: node.input[0] for node in model.graph.node if node.name.endswith("/first")}
    assert cuts
    for node in model.graph.node:
        node.input[:] = [cuts.get(name, name) for name in node.input]
    qdq.prune(model)
    return model


def test_what_something_else_reads_stays_whole():
    """A second output reads every token of the product: nothing may be cut below it."""
    model = head(extra_output=True)
    assert first_token.keep(model) == 0


def test_a_bias_of_a_vector_and_a_scale_are_not_cut():
    model = head()
    assert first_token.keep(model) == 1
    onnx.checker.check_model(model)
    assert sum(node.op_type == "Slice" for node in model.graph.node) == 1


def test_what_a_branch_reads_stays_whole():
    model = head()
    inside = helper.make_graph(
        [helper.make_node("Identity", ["product"], ["same"])],
        "branch",
        [],
        [helper.make_tensor_value_info("same", TensorProto.FLOAT, ["batch", "tokens", 2])],
    )
    model.graph.node.append(helper.make_node("If", ["flag"], ["all"], "if", then_branch=inside, else_branch=inside))
    assert first_token.keep(model) == 0


@pytest.mark.parametrize("index", [1, -1])
def test_another_token_than_the_first_is_left_alone(index: int):
    assert first_token.keep(head(index=index)) == 0


def head(index: int = 0, extra_output: bool = False) -> onnx.ModelProto:
    """x [batch, tokens, 3] times a matrix, plus a vector, times a number, and of that one token."""
    nodes = [
        helper.make_node("MatMul", ["x", "matrix"], ["product"], "product"),
        helper.make_node("Add", ["product", "vector"], ["sum"], "sum"),
        helper.make_node("Mul", ["sum", "scale"], ["scaled"], "scaled"),
        helper.make_node("Gather", ["scaled", "index"], ["logits"], "first", axis=1),
    ]
    constants = {
        "matrix": np.ones((3, 2), np.float32),
        "vector": np.ones(2, np.float32),
        "scale": np.float32(0.5),
        "index": np.array(index),
    }
    outputs = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 2])]
    if extra_output:
        outputs.append(helper.make_tensor_value_info("product", TensorProto.FLOAT, ["batch", "tokens", 2]))
    graph = helper.make_graph(
        nodes,
        "head",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", "tokens", 3])],
        outputs,
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
