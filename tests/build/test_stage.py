"""A stage runs once, resumes where it was cut off, lands atomically and is refused when it was touched."""

import json
from pathlib import Path

import pytest

from newsdesk.build.errors import BuildError
from newsdesk.build.stage import ENTRY, Workshop, sha256


class Worker:
    """Writes a file a call, and counts the calls."""

    def __init__(self, text: str = "result") -> None:
        self.text, self.calls = text, 0

    def __call__(self, folder: Path) -> dict:
        self.calls += 1
        (folder / "result.txt").write_text(self.text)
        return {"calls": self.calls}


@pytest.fixture
def shop(tmp_path: Path) -> Workshop:
    said: list[str] = []
    return Workshop(tmp_path / "artefacts", said.append)


def test_an_unchanged_stage_is_not_run_again(shop: Workshop):
    work = Worker()
    first = shop.run("fit", work, settings={"epochs": 1})
    again = Workshop(shop.root, shop.say).run("fit", work, settings={"epochs": 1})
    assert work.calls == 1
    assert again == first
    assert shop.say.__self__[-1].startswith("fit: unchanged")


def test_settings_inputs_files_and_code_make_the_key(shop: Workshop, tmp_path: Path):
    rows = tmp_path / "rows.csv"
    rows.write_text("a")
    work = Worker()
    source = shop.run("read", Worker("one"))
    keys = {shop.run("fit", work, settings=settings).entry["key"] for settings in (1, 2)}
    keys.add(shop.run("fit", work, settings=1, inputs={"rows": source}).entry["key"])
    keys.add(
        shop.run("fit", work, settings=1, inputs={"rows": shop.run("read", Worker("two"), settings=2)}).entry["key"]
    )
    keys.add(shop.run("fit", work, settings=1, files=(str(rows),)).entry["key"])
    rows.write_text("b")
    keys.add(shop.run("fit", work, settings=1, files=(str(rows),)).entry["key"])
    keys.add(shop.run("fit", work, settings=1, code=("newsdesk.build.data.splits",)).entry["key"])
    assert len(keys) == work.calls == 7


def test_a_stage_that_came_to_the_same_leaves_what_follows_unchanged(shop: Workshop):
    follow = Worker()
    for settings in (1, 2):
        source = shop.run("read", Worker("the same"), settings=settings)
        shop.run("fit", follow, inputs={"rows": source})
    assert follow.calls == 1


def test_a_stage_that_was_cut_off_resumes_and_lands_whole(shop: Workshop):
    def cut_off(folder: Path) -> dict:
        (folder / "scratch").mkdir()
        (folder / "scratch" / "step-1").write_text("done")
        raise KeyboardInterrupt

    def resumed(folder: Path) -> dict:
        assert (folder / "scratch" / "step-1").read_text() == "done"
        return Worker()(folder)

    with pytest.raises(KeyboardInterrupt):
        shop.run("fit", cut_off)
    assert not [*shop.root.glob(f"fit/*/{ENTRY}")]
    assert [folder.suffix for folder in shop.root.glob("fit/*")] == [".partial"]
    artefact = shop.run("fit", resumed)
    assert shop.say.__self__[-2] == "fit: resuming"
    assert sorted(path.name for path in artefact.path.iterdir()) == [ENTRY, "result.txt"]
    assert [*shop.root.glob("fit/*")] == [artefact.path]


def test_a_touched_artefact_is_refused(shop: Workshop):
    artefact = shop.run("fit", Worker())
    (artefact / "result.txt").write_text("tampered")
    with pytest.raises(BuildError, match=r"result.txt is not what was built \(sha256\). Delete .* and rebuild"):
        shop.run("fit", Worker())


def test_the_entry_says_what_made_it_from_what_and_what_came_out(shop: Workshop):
    source = shop.run("read", Worker("rows"))
    artefact = shop.run("fit", Worker(), settings={"epochs": 1}, inputs={"rows": source}, name="tiny")
    entry = json.loads((artefact / ENTRY).read_text())
    assert entry["stage"] == "fit"
    assert entry["name"] == "tiny"
    assert entry["inputs"] == {"rows": source.content}
    assert entry["files"] == {"result.txt": sha256(artefact / "result.txt")}
    assert entry["figures"] == {"calls": 1}
    assert {"python", "numpy", "torch", "nncf"} <= set(entry["packages"])
    assert entry["machine"]


def test_an_edit_of_its_code_runs_a_stage_again(shop: Workshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(tmp_path)
    work = Worker()
    keys = []
    for source in ("LIMIT = 1", "LIMIT = 2", "LIMIT = 1"):
        (tmp_path / "code_of_the_stage.py").write_text(source)
        keys.append(shop.run("fit", work, code=("code_of_the_stage",)).entry["key"])
    assert work.calls == 2
    assert keys[0] == keys[2] != keys[1]
    with pytest.raises(BuildError, match="no module 'code_of_nobody'"):
        shop.run("fit", work, code=("code_of_nobody",))
