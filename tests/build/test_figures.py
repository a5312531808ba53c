"""The types of figures hold all that is recorded: the shipped model's come back from them as they were."""

from pathlib import Path

import msgspec
import pytest

from newsdesk.build import figures
from newsdesk.build.compile.metrics import Differences, ExportFigures
from newsdesk.build.figures import ModelFigures, StageEntry
from newsdesk.build.pipeline.stages.clean import CleanFigures
from newsdesk.build.pipeline.stages.cross_fit import CrossFitFigures
from newsdesk.build.training.figures import FitFigures, TeachFigures
from newsdesk.server.runtime import manifest
from newsdesk.server.runtime.manifest import Manifest

KINDS = {
    "clean": CleanFigures,
    "teach": TeachFigures,
    "train": FitFigures,
    "export": ExportFigures,
    "cross-fit": CrossFitFigures,
}
"""The type of each stage whose figures stand in its entry."""


@pytest.fixture(scope="module")
def shipped() -> Manifest:
    path = Path("model_repository/ag_news/1") / manifest.FILE
    return msgspec.json.decode(path.read_bytes(), type=Manifest)


def test_a_models_figures_come_back_as_they_were(shipped: Manifest) -> None:
    read = ModelFigures.of(shipped)
    assert msgspec.to_builtins(read.accuracy) == shipped.figures["accuracy"]
    assert [*read.members] == [member.name for member in shipped.members]
    for name, member in read.members.items():
        recorded = shipped.figures["members"][name]
        verified = msgspec.convert(recorded["verified"], dict[str, Differences])
        assert msgspec.to_builtins(member) | {"verified": msgspec.to_builtins(verified)} == recorded


@pytest.mark.parametrize("stage", KINDS)
def test_a_stages_figures_come_back_as_they_were(stage: str, shipped: Manifest) -> None:
    of_stage: list[StageEntry] = [entry for entry in figures.entries(shipped) if entry.stage == stage]
    assert of_stage
    for entry in of_stage:
        assert msgspec.to_builtins(entry.metrics(KINDS[stage])) == entry.figures
