import json
from pathlib import Path

import msgspec
import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from newsdesk.server.serving import commands
from newsdesk.server.serving import prepare as preparing
from newsdesk.server.serving.prepare import Measured, Preparation, PreparationError, articles, available, prepare
from tests import tiny
from tests.launching import CONFIG


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "models" / "ag_news"
    tiny.write(folder / "1")
    (folder / "config.pbtxt").write_text(CONFIG)
    return folder


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preparing, "_SECONDS", 0.05)


def test_the_texts_are_as_long_as_news() -> None:
    lengths = [len(text.split()) for text in articles()]
    assert len(lengths) == preparing.TEXTS
    assert 30 < np.mean(lengths) < 42
    assert min(lengths) >= 14
    assert max(lengths) <= 84
    assert articles() == articles()
    assert len(set(articles())) == 64  # a member computes once what repeats in a batch


def test_the_command_writes_json_and_nothing_else(model: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(preparing, "_measure_apart", lambda *_: (100.0, np.eye(4, dtype=np.float32), ""))
    app = typer.Typer()
    app.command()(commands.prepare)
    arguments = ["--model-repository", str(model.parent), "--state", str(tmp_path / "state"), "--json"]
    ran = CliRunner().invoke(app, arguments)
    assert ran.exit_code == 0, ran.output
    preparation = json.loads(ran.stdout)
    assert preparation["targets"].keys() == {"tiny"}
    assert {measurement["member"] for measurement in preparation["measured"]} == {"tiny"}


def test_the_fastest_target_is_measured_once_and_recorded(model: Path, tmp_path: Path, monkeypatch) -> None:
    speeds = {"openvino:int8": 900.0, "openvino:bf16": 400.0, "openvino:fp32": 300.0, "onnxruntime:int8": 950.0}
    asked: list[str] = []

    def measured(folder: Path, member: str, target: str, texts: list[str]) -> tuple[float, np.ndarray, str]:
        asked.append(target)
        return speeds.get(target, 100.0), np.eye(4, dtype=np.float32), ""

    monkeypatch.setattr(preparing, "_measure_apart", measured)
    preparation = prepare(model, tmp_path / "state", lambda _: None)
    assert preparation.target == "onnxruntime:int8"
    assert "onnxruntime:int8-dynamic" not in asked  # the model has no such graph
    (record,) = (tmp_path / "state" / "prepared").iterdir()
    assert msgspec.json.decode(record.read_bytes(), type=Preparation) == preparation
    before = len(asked)
    assert prepare(model, tmp_path / "state", lambda _: None) == preparation
    assert len(asked) == before
    prepare(model, tmp_path / "state", lambda _: None, again=True)
    assert len(asked) == 2 * before
    record.write_text("{")  # cut off
    assert prepare(model, tmp_path / "state", lambda _: None).target == preparation.target


@pytest.mark.parametrize(
    "recorded",
    [
        {"tiny": "openvino:int4"},  # no such target
        {"tiny": "onnxruntime:int8-dynamic"},  # a graph that is gone
        {"tiny": "tensorrt:fp16"},  # a machine of another kind
        {"tiny": "onnxruntime:fp32", "large": "onnxruntime:fp32"},  # a member that is gone
        {},
    ],
)
def test_a_record_that_names_what_is_not_there_is_measured_anew(
    model: Path, tmp_path: Path, monkeypatch, recorded: dict[str, str]
) -> None:
    monkeypatch.setattr(preparing, "_measure_apart", lambda *_: (1.0, np.eye(4, dtype=np.float32), ""))
    first = prepare(model, tmp_path, lambda _: None)
    (record,) = (tmp_path / "prepared").iterdir()
    record.write_bytes(msgspec.json.encode(msgspec.structs.replace(first, targets=recorded)))
    assert prepare(model, tmp_path, lambda _: None) == first
    assert msgspec.json.decode(record.read_bytes(), type=Preparation) == first


def test_a_record_that_cannot_be_written_is_said_and_no_error(model: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(preparing, "_measure_apart", lambda *_: (1.0, np.eye(4, dtype=np.float32), ""))
    (tmp_path / "prepared").touch()  # no folder
    notes: list[str] = []
    assert prepare(model, tmp_path, notes.append).targets.keys() == {"tiny"}
    assert notes[-1].endswith("not written (File exists), so that the next start measures again")


def test_each_member_gets_its_own_fastest_target(tmp_path: Path, monkeypatch) -> None:
    """The bag has one graph, which int8 targets do not read; each member's targets are judged among themselves."""
    model = tiny.write_model(tmp_path, tiny.write_cascade) / "ag_news"
    speeds = {
        ("bag", "onnxruntime:fp32"): 9e4,
        ("tiny", "openvino:int8"): 900.0,
        ("keen", "onnxruntime:int8"): 500.0,
    }
    answers = {"bag": np.eye(4), "tiny": np.eye(4)[::-1], "keen": np.eye(4)}
    monkeypatch.setattr(
        preparing,
        "_measure_apart",
        lambda _, member, target, texts: (speeds.get((member, target), 1.0), answers[member], ""),
    )
    preparation = prepare(model, tmp_path / "state", lambda _: None)
    assert preparation.target == "bag=onnxruntime:fp32,tiny=openvino:int8,keen=onnxruntime:int8"
    assert {measurement.target for measurement in preparation.measured if measurement.member == "bag"} == {
        "openvino:bf16", "openvino:fp32", "onnxruntime:fp32",
    }  # fmt: skip


def test_a_bag_is_measured_like_any_member(tmp_path: Path) -> None:
    tiny.write_cascade(tmp_path)
    speed, answers, refused = preparing._measure_apart(tmp_path, "bag", "onnxruntime:fp32", articles())
    assert (speed > 0, refused) == (True, "")
    assert answers is not None
    assert answers.shape == (preparing.TEXTS, 4)


def test_another_model_is_measured_anew(model: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(preparing, "_measure_apart", lambda *_: (1.0, np.eye(4, dtype=np.float32), ""))
    prepare(model, tmp_path, lambda _: None)
    tiny.write(model / "2", weight=5.0)
    prepare(model, tmp_path, lambda _: None)
    assert len(list((tmp_path / "prepared").iterdir())) == 2


def test_a_target_is_measured_in_a_process_of_its_own(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It imports nothing from where it is started, and finds a folder that is named from there."""
    (tmp_path / "newsdesk").mkdir()
    for name in "secrets.py", "numpy.py", "newsdesk/__init__.py":
        (tmp_path / name).write_text(f'raise RuntimeError("{name} of the working directory was imported")')
    monkeypatch.chdir(tmp_path)
    model = model.relative_to(tmp_path)
    speed, answers, refused = preparing._measure_apart(model / "1", "tiny", "onnxruntime:fp32", articles())
    assert refused == ""
    assert speed > 0
    assert answers is not None
    assert answers.shape == (preparing.TEXTS, 4)
    np.testing.assert_allclose(answers.sum(-1), 1, atol=1e-5)


def test_one_that_gives_nan_or_cannot_run_is_out(tmp_path: Path) -> None:
    tiny.write(tmp_path / "1", weight=float("nan"))
    assert preparing._measure_apart(tmp_path / "1", "tiny", "onnxruntime:fp32", articles())[2] == "gives NaN or Inf"
    assert "KeyError" in preparing._measure_apart(tmp_path / "1", "tiny", "onnxruntime:int8-dynamic", articles())[2]


def test_one_that_disagrees_with_the_others_is_out() -> None:
    right, wrong = np.tile(np.eye(4), (4, 1)), np.tile(np.eye(4)[::-1], (4, 1))
    measured = [Measured("tiny", name, speed) for name, speed in (("a", 1.0), ("b", 2.0), ("c", 9.0))]
    judged = preparing._judge(measured, {"a": right, "b": right, "c": wrong})
    assert [measurement.refused for measurement in judged] == [
        "",
        "",
        "names the label of the others for 0% of the texts, expected 80%",
    ]


def test_no_target_left_says_why(model: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(preparing, "_measure_apart", lambda *_: (0.0, None, "illegal instruction"))
    with pytest.raises(
        PreparationError, match=r"no target of member tiny can serve here .*openvino:int8: illegal instruction"
    ):
        prepare(model, tmp_path, lambda _: None)


def test_every_target_of_the_model_is_available(model: Path) -> None:
    loaded = tiny.write(model / "3")
    assert set(available(loaded.members[0])) == {
        "openvino:int8", "openvino:bf16", "openvino:fp32", "onnxruntime:int8", "onnxruntime:fp32",
    }  # fmt: skip
