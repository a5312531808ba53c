"""The code of a stage is the closure of its imports: an edit anywhere in it changes the digest, and elsewhere not."""

from pathlib import Path

import pytest

from newsdesk.build import recipe
from newsdesk.build.errors import BuildError
from newsdesk.build.pipeline.declaration import declare
from newsdesk.build.pipeline.digests import Code

FILES = {
    "__init__.py": "",
    "stage.py": (
        "from typing import TYPE_CHECKING\nfrom ours.tools import saw\nif TYPE_CHECKING:\n    import ours.types\n"
    ),
    "types.py": "from ours import far",
    "far.py": "",
    "tools/__init__.py": "from ours import far",
    "tools/saw.py": "import os\nfrom .blade import EDGE\n\ndef cut():\n    from ours.deep import oil as grease\n",
    "tools/blade.py": "EDGE = 1",
    "deep.py": "import ours.settings.all\noil = 1",
    "settings/__init__.py": "",
    "settings/all.py": "",
}


@pytest.fixture
def code(tmp_path: Path) -> Code:
    for name, text in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    return Code({"ours": tmp_path}, unread=["ours.settings"])


def test_the_closure_follows_imports_within_functions_and_relative_ones(code: Code):
    """Not those for type checkers, nor a package on the way to a module, nor what is to be left unread."""
    assert code.closure("ours.stage") == ["ours.deep", "ours.stage", "ours.tools.blade", "ours.tools.saw"]
    assert code.closure("ours.tools") == ["ours.far", "ours.tools"]


def test_an_edit_far_down_changes_the_digest(code: Code, tmp_path: Path):
    before = code.digest("ours.stage")
    (tmp_path / "far.py").write_text("other = 1")
    assert Code({"ours": tmp_path}, unread=["ours.settings"]).digest("ours.stage") == before
    (tmp_path / "tools" / "blade.py").write_text("EDGE = 2")
    assert Code({"ours": tmp_path}, unread=["ours.settings"]).digest("ours.stage") != before


def test_prose_and_layout_change_no_digest(code: Code, tmp_path: Path):
    before = code.digest("ours.stage")
    (tmp_path / "tools" / "blade.py").write_text('"""A blade."""\n\nEDGE   = 1  # sharp\n"""Its edge."""\n')
    (tmp_path / "deep.py").write_text("import ours.settings.all\n\n\noil = (1)\n")
    assert Code({"ours": tmp_path}, unread=["ours.settings"]).digest("ours.stage") == before
    (tmp_path / "deep.py").write_text("import ours.settings.all\noil = '1'\n")
    assert Code({"ours": tmp_path}, unread=["ours.settings"]).digest("ours.stage") != before


def test_a_module_that_is_not_there_is_refused(code: Code):
    with pytest.raises(BuildError, match=r"no module 'ours\.nothing'"):
        code.digest("ours.nothing")


def test_closures_hold_what_lists_by_hand_missed():
    """An edit of these reused a stale artifact; a fit outlives an edit, unless it is asked for."""
    code = Code()

    def of(name: str, member: str, strict: bool = False) -> set[str]:
        stage = declare(recipe.load("compact"), strict=strict).graph.stages[f"{name} {member}"]
        roots = stage.roots if stage.keyed is None else stage.keyed
        return {module.removeprefix("newsdesk.") for root in roots for module in code.closure(root)}

    assert {"server.runtime.casing", "build.compile.qdq", "build.compile.half"} <= of("quantise", "minilm")
    assert {"build.members.encoders", "build.compile.rewrite"} <= of("export", "minilm")
    assert "build.members.encoders" not in of("quantise", "minilm")
    assert {"server.runtime.casing", "server.runtime.engines.openvino"} <= of("compile", "minilm")
    assert "build.members.encoders" in of("verify", "minilm")
    assert of("train", "minilm") == set()
    assert {"build.training.fitting", "build.data.views"} <= of("train", "minilm", strict=True)
    judge = declare(recipe.load("compact")).graph.stages["judge"]
    assert "newsdesk.server.runtime.calibrate" in code.closure(judge.roots[0])
