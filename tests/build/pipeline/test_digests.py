"""The code of a stage is the closure of its imports: an edit anywhere in it changes the digest, and elsewhere not."""

import hashlib
from pathlib import Path

import pytest

from newsdesk.build import recipe
from newsdesk.build.errors import BuildError
from newsdesk.build.pipeline import digests
from newsdesk.build.pipeline.declaration import declare
from newsdesk.build.pipeline.digests import Code, of_file, of_json

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


def test_digests_by_hand(code: Code, tmp_path: Path):
    """Keys that were made before stay right: sha256, of JSON sorted and cut to 16 digits, of code without its prose."""
    (tmp_path / "data").write_bytes(b"rows")
    assert of_file(tmp_path / "data") == hashlib.sha256(b"rows").hexdigest()
    assert of_json({"b": 1, "a": [2]}) == hashlib.sha256(b'{"a": [2], "b": 1}').hexdigest()[:16]
    (tmp_path / "far.py").write_text('"""Far."""\nclass A:\n    """A."""\n    x = 1\ndef f():\n    """Do."""\n')
    source = hashlib.sha256(b"class A:\n    x = 1\n\ndef f():\n    pass").hexdigest()
    assert code.source("ours.far") == source
    assert code.digest("ours.far") == of_json({"ours.far": source})


def test_dots_climb_from_the_modules_own_package(tmp_path: Path):
    """From a module as from a package's own file; a star, and what is none of ours, lead nowhere else."""
    for name, text in {
        "__init__.py": "",
        "a.py": "",
        "b/__init__.py": "from . import c\nfrom .. import a\nimport os, ours.d",
        "b/c.py": "from ..d import *\nfrom ...elsewhere import e\ndef f():\n    from .. import a",
        "d.py": "if TYPE_CHECKING:\n    import ours.f\nimport ours.a\nimport oursother",
        "f.py": "",
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    code = Code({"other": tmp_path / "b", "ours": tmp_path})
    assert code.imports("ours.b") == {"ours.b.c", "ours.a", "ours.d"}
    assert code.imports("ours.b.c") == {"ours.a", "ours.d"}
    assert code.imports("ours.d") == {"ours.a"}
    assert code.closure("ours.b") == ["ours.a", "ours.b", "ours.b.c", "ours.d"]


def test_a_package_that_is_not_there_is_refused_with_the_remedy(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(digests, "PACKAGES", ("newsdesk.nothing",))
    with pytest.raises(BuildError) as refused:
        Code()
    assert str(refused.value) == (
        "no package 'newsdesk.nothing' to take the stages' code from; install newsdesk: pip install -e ."
    )


def test_a_module_that_is_not_there_is_refused(code: Code):
    with pytest.raises(
        BuildError,
        match=r"^no module 'ours\.nothing' to take a stage's code from; expected one of newsdesk\.build, newsd",
    ):
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
