"""Fit models over members' log-probabilities, and write each as an ONNX graph that gives what the model gave.

Members are fitted on training rows, so what they say of validation rows is out of their fold already; a stacker that
is judged, or calibrated, is fitted on other validation rows again (see `choose`).
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from newsdesk.build.errors import BuildError, VerificationError
from newsdesk.server.runtime import stacker
from newsdesk.server.runtime.arrays import Array
from newsdesk.server.runtime.combine import features

NAMES = "logistic", "xgboost", "catboost"
Model = Callable[[Array], Array]
"""`features` FP32 [n, members × labels] to probabilities FP [n, labels]."""
TREES, DEPTH, RATE, SHARE = 60, 3, 0.1, 0.8
"""Small trees and few: there are thousands of rows, and what the members say is nearly the answer."""
TOLERANCE = 1e-5
_IR, _OPSET = 8, 17


def fit(model: str, members: Array, labels: Array, seed: int, row_weights: Array | None = None) -> Any:
    """Fit a model on members' answers.

    Args:
        model: one of NAMES
        members: probabilities, FP [members, n, labels]
        labels: INT [n]
        seed: of the trees
        row_weights: how much each row counts, FP [n]; None: all alike

    Raises:
        BuildError: its package is missing.
    """
    seen, known = _with_every_label(features(members), labels, members.shape)
    if row_weights is not None:
        row_weights = np.append(row_weights, np.ones(len(known) - len(labels)))
    if model == "logistic":
        from sklearn.linear_model import LogisticRegression

        return LogisticRegression(max_iter=2000, tol=1e-6).fit(seen, known, sample_weight=row_weights)
    try:
        if model == "xgboost":
            import onnxmltools  # noqa: F401  missing now rather than after the fit
            from xgboost import XGBClassifier

            trees = XGBClassifier(
                n_estimators=TREES, max_depth=DEPTH, learning_rate=RATE, subsample=SHARE, n_jobs=1, random_state=seed
            )
        else:
            from catboost import CatBoostClassifier

            trees = CatBoostClassifier(
                iterations=TREES,
                depth=DEPTH,
                learning_rate=RATE,
                bootstrap_type="Bernoulli",
                subsample=SHARE,
                loss_function="MultiClass",
                thread_count=1,
                random_seed=seed,
                verbose=False,
                allow_writing_files=False,
            )
    except ImportError as error:
        raise BuildError(
            f"stacker {model!r} needs a package that is missing ({error.name}): pip install 'newsdesk[build]', or take "
            f"{model!r} out of ensemble.combiners"
        ) from error
    return trees.fit(seen, known, sample_weight=row_weights)


def predict(model: Any, members: Array) -> Array:
    """Return a fitted model's probabilities, FP [n, labels], of members' FP [members, n, labels]."""
    return model.predict_proba(features(members))


def export(model: Any, members: Array, path: Path) -> float:
    """Write the graph, and return its largest difference from the model on these members.

    Args:
        model: as `fit` returns it
        members: probabilities, FP [members, n, labels]
        path: the file to write

    Raises:
        VerificationError: a probability differs by more than TOLERANCE.
    """
    seen = features(members)
    converted = _convert(model, seen.shape[1], path)
    onnx.save(converted, path)
    exported, expected = stacker.load(path)(seen), model.predict_proba(seen)
    difference = float(np.abs(exported - expected).max())
    if difference > TOLERANCE:
        raise VerificationError(
            f"{path.name}: the stacker's graph differs from the stacker by {difference:.2g}, expected at most "
            f"{TOLERANCE}. Take it out of ensemble.combiners."
        )
    return difference


def _convert(model: Any, width: int, path: Path) -> onnx.ModelProto:
    kind = type(model).__name__
    if kind == "LogisticRegression":
        return _logistic(model)
    if kind == "XGBClassifier":
        from onnxmltools import convert_xgboost
        from onnxmltools.convert.common.data_types import FloatTensorType

        made = convert_xgboost(model, initial_types=[("features", FloatTensorType([None, width]))], target_opset=15)
    else:
        model.save_model(str(path), format="onnx")
        made = onnx.load(path)
    return _bare(made, width, len(model.classes_))


def _logistic(model: Any) -> onnx.ModelProto:
    slopes, offsets = model.coef_, model.intercept_
    if len(slopes) == 1:  # two labels: scikit-learn keeps the second's odds alone
        slopes, offsets = np.vstack([np.zeros_like(slopes), slopes]), np.append(0.0, offsets)
    nodes = [
        helper.make_node("Gemm", ["features", "slopes", "offsets"], ["logits"], transB=1),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=-1),
    ]
    constants = {"slopes": slopes, "offsets": offsets}
    return _graph(nodes, slopes.shape[1], len(slopes), constants, {"": _OPSET})


def _bare(made: onnx.ModelProto, width: int, labels: int) -> onnx.ModelProto:
    """Keep the trees alone: exporters add a list of dictionaries, and names of their own."""
    (trees,) = (node for node in made.graph.node if node.op_type == "TreeEnsembleClassifier")
    trees.input[:] = ["features"]
    trees.output[:] = ["label", "probabilities"]
    return _graph([trees], width, labels, {}, {"": _OPSET, "ai.onnx.ml": 1})


def _graph(
    nodes: list[onnx.NodeProto], width: int, labels: int, constants: dict[str, Array], opsets: dict[str, int]
) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "stacker",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["n", width])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["n", labels])],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in constants.items()],
    )
    made = helper.make_model(
        graph, opset_imports=[helper.make_opsetid(*opset) for opset in opsets.items()], ir_version=_IR
    )
    onnx.checker.check_model(made)
    return made


def _with_every_label(seen: Array, labels: Array, shape: tuple[int, ...]) -> tuple[Array, Array]:
    """Add, for each label that no row has, one row on which all members are sure of it.

    The models leave out a label that they never saw, and their answers would be a column short.
    """
    count, _, width = shape
    if not len(absent := np.setdiff1d(np.arange(width), labels)):
        return seen, labels
    sure = np.full((count, len(absent), width), 0.05 / (width - 1))
    sure[:, np.arange(len(absent)), absent] = 0.95
    return np.concatenate([seen, features(sure)]), np.concatenate([labels, absent])
