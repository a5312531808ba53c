"""Stackers: the graph says what the model says, through ONNX Runtime."""

import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

from newsdesk.build.ensemble import stacking
from newsdesk.build.errors import BuildError, VerificationError
from newsdesk.build.evaluation import metrics
from newsdesk.server.runtime import combine, stacker
from tests.build.ensemble.simulated import draw


@pytest.mark.parametrize("name", stacking.NAMES)
@pytest.mark.parametrize("labels", [2, 3])
def test_the_graph_says_what_the_model_says(name: str, labels: int, tmp_path: Path) -> None:
    members, truth = draw(600, 6)
    if labels == 2:
        members = members[..., :2] / members[..., :2].sum(-1, keepdims=True)
        truth = truth % 2
    model = stacking.fit(name, members, truth, 3)
    assert stacking.export(model, members, tmp_path / "stacker.onnx") < 1e-6
    run = stacker.load(tmp_path / "stacker.onnx")
    edge = np.zeros((3, 4, labels))
    edge[:, np.arange(4), np.arange(4) % labels] = 1  # ones and zeros
    for asked in (members[:, :1], members[:, :64], edge):
        probabilities = combine.ready(combine.Stacked(combine.File("a", "0" * 64), name), run)(asked)
        np.testing.assert_allclose(probabilities, stacking.predict(model, asked), atol=1e-6)


@pytest.mark.parametrize("name", stacking.NAMES)
def test_a_stacker_learns_whom_to_trust_and_is_the_same_again(name: str) -> None:
    members, labels = draw(1500, 7)
    members[1] = np.roll(members[1], 1, axis=-1)  # a good member with its labels mixed up
    probabilities = stacking.predict(stacking.fit(name, members[:, :1000], labels[:1000], 3), members[:, 1000:])
    assert metrics.log_loss(probabilities, labels[1000:]) < metrics.log_loss(members[2, 1000:], labels[1000:])
    again = stacking.predict(stacking.fit(name, members[:, :1000], labels[:1000], 3), members[:, 1000:])
    np.testing.assert_array_equal(again, probabilities)


def test_the_logistic_one_is_scikit_learns() -> None:
    from sklearn.linear_model import LogisticRegression

    members, labels = draw(300, 8)
    seen = np.log(np.maximum(members, 1e-7)).transpose(1, 0, 2).reshape(300, -1).astype(np.float32)
    theirs = LogisticRegression(max_iter=2000, tol=1e-6).fit(seen, labels).predict_proba(seen)
    np.testing.assert_allclose(
        stacking.predict(stacking.fit("logistic", members, labels, 0), members), theirs, atol=1e-6
    )


@pytest.mark.parametrize("name", stacking.NAMES)
def test_a_label_that_no_row_has_keeps_its_column(name: str) -> None:
    members, labels = draw(300, 9)
    kept = labels != 1
    probabilities = stacking.predict(stacking.fit(name, members[:, kept], labels[kept], 0), members)
    assert probabilities.shape == (300, 3)
    assert (probabilities.argmax(-1) == labels)[kept].mean() > 0.8


@pytest.mark.parametrize(
    ("name", "package"), [("xgboost", "xgboost"), ("xgboost", "onnxmltools"), ("catboost", "catboost")]
)
def test_a_missing_package_is_named_with_what_to_do(name: str, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    members, labels = draw(30, 10)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(BuildError, match=rf"stacker '{name}'.*{package}.*newsdesk\[build\].*ensemble\.combiners"):
        stacking.fit(name, members, labels, 0)


def test_a_graph_that_says_otherwise_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    members, labels = draw(100, 11)
    model = stacking.fit("logistic", members, labels, 0)
    save = onnx.save

    def spoilt(made: onnx.ModelProto, path: Path) -> None:
        offsets = next(initializer for initializer in made.graph.initializer if initializer.name == "offsets")
        offsets.CopyFrom(onnx.numpy_helper.from_array(np.array([1, 0, 0], np.float32), "offsets"))
        save(made, path)

    monkeypatch.setattr(onnx, "save", spoilt)
    with pytest.raises(VerificationError, match=r"s\.onnx: the stacker's graph differs.*ensemble\.combiners"):
        stacking.export(model, members, tmp_path / "s.onnx")
