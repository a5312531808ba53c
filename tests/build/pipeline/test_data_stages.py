"""The stages from sources to rows, whole: what reaches training is what may, and a change of code cleans anew."""

import json
from pathlib import Path

import msgspec
import pytest

from newsdesk.build.data import tables
from newsdesk.build.data.rows import Row
from newsdesk.build.pipeline.artifacts import Artifact, ArtifactStore
from newsdesk.build.pipeline.declaration import declare
from newsdesk.build.pipeline.digests import Code
from newsdesk.build.recipe import Recipe, Split, convert

TRAIN = [
    ("The ferry sails at noon", "harbour"),
    ("The soup is &amp;quot;hot&amp;quot;", "kitchen"),
    ("A pilot boards the tanker", "harbour"),
    ('the SOUP is "hot"', "kitchen"),
    ("Onions fry slowly", "kitchen"),
]
TEST = [
    ("The soup is \u00ad&quot;hot&quot;", "kitchen"),
    ("A pilot   boards the tanker", "harbour"),
    ("Fog", "harbour"),
]


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    for part, rows in (("train", TRAIN), ("test", TEST)):
        lines = [json.dumps({"text": text, "label": label}) for text, label in rows]
        (tmp_path / f"{part}.jsonl").write_text("\n".join(lines))
    files = {part: {"file": str(tmp_path / f"{part}.jsonl")} for part in ("train", "test")}
    return convert({"name": "own", "data": files, "members": [{"name": "m", "base": "b"}]})


def made(folder: Path, recipe: Recipe, stage: str, say=print) -> Artifact:
    return declare(recipe).graph.run([stage], ArtifactStore(folder / "artifacts", say))[stage]


def test_texts_of_the_test_rows_leave_the_training_rows(recipe: Recipe, tmp_path: Path) -> None:
    """As they read when cleaned, whatever their case; what leaves is counted, and the test rows stay."""
    artifact = made(tmp_path, recipe, "clean")
    assert tables.read(artifact / "train.parquet") == [Row("The ferry sails at noon", 0), Row("Onions fry slowly", 1)]
    assert tables.read(artifact / "test.parquet") == [
        Row('The soup is "hot"', 1),
        Row("A pilot boards the tanker", 0),
        Row("Fog", 0),
    ]
    assert artifact.figures["train"]["findings"]["dropped_in_test"] == {"rows": 3, "first": [2, 3, 4]}


@pytest.mark.parametrize(
    ("module", "stages_run"),
    [
        ("newsdesk.build.data.sources", {"read", "clean"}),
        ("newsdesk.build.data.cleaning", {"clean"}),
        ("newsdesk.server.runtime.text", {"clean", "split"}),
        ("newsdesk.server.runtime.lookalikes", {"clean", "split"}),
        ("newsdesk.build.data.splits", {"split"}),
        ("newsdesk.build.data.views", {"split"}),
        ("newsdesk.clients.rows.reader", {"read", "clean"}),
        ("newsdesk.clients.rows.streams", {"read", "clean"}),
        ("newsdesk.build.training.fitting", set()),
    ],
)
def test_an_edit_of_a_stages_code_runs_it_again(
    module: str, stages_run: set[str], recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rows come out as they were, so that no stage behind is run again but for its own code."""
    recipe = msgspec.structs.replace(recipe, split=Split(validation_rows=2))
    printed: list[str] = []
    # Ten rows of each label, a fifth of which may validate.
    lines = [
        json.dumps({"text": f"{label} {i}", "label": label}) for i in range(10) for label in ("harbour", "kitchen")
    ]
    Path(recipe.data.train.file).write_text("\n".join(lines))

    def built() -> set[str]:
        printed.clear()
        made(tmp_path, recipe, "split", printed.append)
        return {line.partition(":")[0] for line in printed if line.endswith(": running")}

    assert built() == {"read", "clean", "split"}
    assert built() == set()
    source = Code.source
    monkeypatch.setattr(Code, "source", lambda self, name: "edited" if name == module else source(self, name))
    assert built() == stages_run
