"""A shipped member with graphs in other precisions, made from its int8 graph alone."""

import json
from pathlib import Path

import msgspec
import pytest
from typer.testing import CliRunner

from benchmarks import one_member
from newsdesk.build.compile import convert as conversion
from newsdesk.build.errors import BuildError
from newsdesk.build.recipe import Engines
from newsdesk.clients.cli.app import app
from newsdesk.server.runtime import manifest
from newsdesk.server.runtime.classifier import Classifier
from newsdesk.server.serving.settings import Settings
from tests import tiny
from tests.headlines import TEXTS


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return one_member.write(Settings().model_repository, "minilm", tmp_path_factory.mktemp("one")) / "ag_news"


def test_precisions_from_int8_name_the_same_labels(model: Path, tmp_path: Path) -> None:
    output = tmp_path / "gpu"
    words = ["convert", str(model), "--variant", "fp32", "--variant", "fp16", "--variant", "int8-fp16"]
    ran = CliRunner().invoke(app, [*words, "--output", str(output), "--json"])
    assert ran.exit_code == 0, ran.stderr
    figures = json.loads(ran.stdout)["minilm"]
    assert {name: figure["agreement"] >= 0.95 for name, figure in figures.items()} == dict.fromkeys(
        ("fp32", "fp16", "int8-fp16"), True
    )
    converted = manifest.load(output / "ag_news" / "1")
    (member,) = converted.members
    assert set(member.graphs) == {"int8", "fp32", "fp16", "int8-fp16"}
    assert figures["fp16"]["mib"] < 0.6 * figures["fp32"]["mib"]
    shipped, floats = (
        Classifier(manifest.load(folder / "1"), folder / "1", target).classify(TEXTS).probabilities
        for folder, target in ((model, "onnxruntime:int8"), (output / "ag_news", "onnxruntime:fp32"))
    )
    assert (shipped.argmax(1) == floats.argmax(1)).mean() >= 0.95
    assert not (output / ".ag_news.partial").exists()


def test_what_cannot_be_converted_is_refused(model: Path, tmp_path: Path) -> None:
    quiet = [].append
    with pytest.raises(BuildError, match="variant 'fp4': expected some of fp32, fp16, int8-fp16"):
        conversion.convert(model, tmp_path, ["fp4"], Engines(), [], quiet)
    with pytest.raises(BuildError, match="holds the model that is converted"):
        conversion.convert(model, model.parent, ["fp16"], Engines(), [], quiet)
    made = tiny.write(tmp_path / "floats" / "1")
    floats = [msgspec.structs.replace(each, graphs={"fp32": each.graphs["int8"]}) for each in made.members]
    manifest.save(msgspec.structs.replace(made, members=floats), tmp_path / "floats" / "1")
    (tmp_path / "floats" / "config.pbtxt").touch()
    with pytest.raises(BuildError, match="no encoder has an int8 graph"):
        conversion.convert(tmp_path / "floats", tmp_path / "out", ["fp16"], Engines(), [], quiet)


@pytest.mark.parametrize(
    ("option", "value", "expected"), [("--variant", "fp4", "fp32, fp16"), ("--engine", "cuda", "tensorrt")]
)
def test_an_option_that_is_none_is_told_what_there_is(option: str, value: str, expected: str, tmp_path: Path) -> None:
    ran = CliRunner().invoke(app, ["convert", option, value, "--output", str(tmp_path)])
    assert ran.exit_code == 1
    assert f"{option} {value}: expected one of {expected}" in ran.stderr
