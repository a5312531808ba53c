"""The measurement for a GPU, as far as a machine without one goes."""

import shutil
import sys

import msgspec
import numpy as np
import pytest

from benchmarks import MODEL, peak
from benchmarks import gpu as script
from newsdesk.server.runtime import gpu, manifest
from newsdesk.server.runtime.classifier import Classifier
from newsdesk.server.runtime.errors import EngineError
from newsdesk.server.runtime.repository import latest_version
from newsdesk.server.serving.settings import Settings
from tests import tiny


def run(monkeypatch, *flags: str) -> None:
    monkeypatch.setattr(sys, "argv", ["gpu", *flags])
    script.main()


def test_products_are_counted_as_the_architecture_has_them() -> None:
    """MiniLM-L6: six layers of width 384, a feed-forward of 1536, a mean of all tokens and four labels."""
    folder = latest_version(Settings().model_repository / MODEL)
    (member,) = (member for member in manifest.load(folder).members if member.name == "minilm")
    for length in (16, 48):
        layer = length * (4 * 384**2 + 2 * 384 * 1536) + 2 * length**2 * 384
        expected = 2 * (6 * layer + 384 * 4)
        assert peak.operations(member, folder, length) == expected
    plans = msgspec.structs.replace(member, graphs={"tensorrt:fp16": member.graphs["int8"]}, plans={"tensorrt:fp16": 0})
    with pytest.raises(ValueError, match="minilm has only tensorrt:fp16: keep an ONNX graph"):
        peak.operations(plans, folder, 16)


def test_more_articles_a_request_than_there_are_is_refused(tmp_path, monkeypatch) -> None:
    (tmp_path / "two.txt").write_text("one article\nanother")
    with pytest.raises(SystemExit, match="--together 3: expected 1 to 2 articles"):
        run(monkeypatch, "--target", "onnxruntime:int8", "--texts", str(tmp_path / "two.txt"), "--together", "3")


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8", "fp8"])
def test_a_peak_is_measured_in_every_precision(precision: str) -> None:
    assert 1e6 < peak.peak(precision, "cpu", size=64, seconds=0.01) < 1e15


def test_a_missing_torch_is_said(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(RuntimeError, match="pip install torch"):
        peak.peak("fp16", "cuda")


def test_without_a_gpu_it_says_what_to_do(monkeypatch) -> None:
    monkeypatch.setattr(gpu, "find", lambda: None)
    with pytest.raises(SystemExit) as ended:
        run(monkeypatch, "--target", "tensorrt:fp16")
    message = str(ended.value)
    assert "needs an NVIDIA GPU, and this machine has none, or no driver" in message
    assert "pip install 'tensorrt>=10.12' 'newsdesk[gpu]'" in message
    assert "--target onnxruntime:int8" in message


def test_what_cannot_be_compared_is_refused(tmp_path) -> None:
    described = tiny.write(tmp_path)
    assert script.against("", described) == {"tiny": "onnxruntime:fp32"}
    (member,) = described.members
    bare = msgspec.structs.replace(described, members=[msgspec.structs.replace(member, graphs={"fp16": 0})])
    with pytest.raises(EngineError, match="member tiny has no graph for a CPU to compare with"):
        script.against("", bare)
    with pytest.raises(EngineError, match="no int8-dynamic graph"):
        script.against("onnxruntime:int8-dynamic", described)


def test_the_whole_of_it_runs_on_a_cpu(tmp_path, monkeypatch, capsys) -> None:
    repository, page, articles = tmp_path / "models", tmp_path / "page.md", tmp_path / "articles.txt"
    tiny.write_model(repository, tiny.write_cascade)
    articles.write_text("\n".join(f"{word} and {word}, for item {i}" for i, word in enumerate([*tiny.WORDS] * 8)))
    run(
        monkeypatch, "--target", "onnxruntime:int8", "--model-repository", str(repository), "--texts", str(articles),
        "--compared", "64", "--clients", "1", "8", "--instances", "2", "--seconds", "1", "--product", "64",
        "--together", "4",
        "--write", str(page),
    )  # fmt: skip
    output = capsys.readouterr().out
    title, *written = page.read_text().partition("\n## ")[2].splitlines()
    assert title == "onnxruntime:int8: bag, tiny, keen"
    assert all(line in output for line in written)
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in output.splitlines() if line.startswith("|")
    ]
    compared = {row[0]: row[1:] for row in rows if row[0].startswith(("bag,", "tiny,", "keen,", "the ensemble"))}
    assert compared["the ensemble, served"] == ["100.00%", "0.0000", "0.00000", ""]
    assert [row[5][:6] for row in rows if len(row) == 7 and row[0] == "keen, onnxruntime:int8"] == ["int8: "]
    steps = [row[0] for row in rows if len(row) == 3]
    assert {"decode and clean", "bag: n-grams", "keen: tokenise", "keen: engine"} <= {*steps}
    served = [row for row in rows if len(row) == 10 and row[0] == "2"]
    assert [row[1] for row in served] == ["1", "8"]
    for row in served:
        assert float(row[2].replace(",", "")) > 0
        assert row[5] == "0"
        assert float(row[6]) >= 4
    assert "quality best, 4 articles a request" in output
    assert "The most with p99 below 100 ms: " in output


def test_another_label_than_the_cpus_is_told(tmp_path) -> None:
    """The int8 graph is changed on purpose: its words vote against their labels. What was served is the fp32 one's."""
    described = tiny.write(tmp_path / "right")
    tiny.write(tmp_path / "wrong", weight=-4.0)
    shutil.copy(tmp_path / "wrong/tiny/model.int8.onnx", tmp_path / "right/tiny")
    ready = script.Ready(described, tmp_path / "right", {"tiny": "onnxruntime:int8"}, [*tiny.WORDS])
    reference = {"tiny": "onnxruntime:fp32"}
    served = Classifier(described, tmp_path / "right", "onnxruntime:fp32").classify(ready.articles).probabilities
    lines, wrong = script.compare(ready, reference, served)
    assert lines[-1].startswith("| the ensemble, served | 100.00% | 0.0000 |")
    assert wrong == "tiny, onnxruntime:int8: the label is the CPU's on 0.00% of the texts, expected 99% and numbers"
    alike = script.Ready(described, tmp_path / "right", reference, [*tiny.WORDS])
    assert script.compare(alike, reference, served)[1] == ""
    tiny.write(tmp_path / "none", weight=float("nan"))
    shutil.copy(tmp_path / "none/tiny/model.int8.onnx", tmp_path / "right/tiny")
    assert "and numbers" in script.compare(ready, reference, served)[1]
    assert "served: the label is the CPU's on" in script.compare(alike, reference, np.roll(served, 1, -1))[1]
