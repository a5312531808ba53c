"""The recipe: read, changed by dotted keys, refused with the place of what is wrong."""

from pathlib import Path

import pytest

from newsdesk.build import recipe
from newsdesk.build.errors import RecipeError


def test_the_shipped_recipe():
    compact = recipe.load("compact")
    assert compact.labels == ["World", "Sports", "Business", "Sci/Tech"]
    assert compact.data.train.hub == "fancyzhx/ag_news"
    assert compact.quantise.max_accuracy_loss == 0.001
    assert compact.quantise.min_agreement == 0.995
    assert compact.repository.variants == ["int8"]
    assert "non-commercial" in compact.card.terms


def test_base_is_compact_and_one_more():
    compact, base = recipe.load("compact"), recipe.load("base")
    assert base.members[:-1] == compact.members
    assert base.members[-1].name == "mpnet"
    assert (compact.teaching, base.labels) == (None, compact.labels)
    assert [teacher.name for teacher in base.teaching.teachers] == ["mpnet", "e5"]
    assert (base.card.title, base.card.terms) == ("newsdesk: AG News, with MPNet", compact.card.terms)


def test_who_teaches_whom():
    distil = {"members.minilm.distil": {"weight": 0.5}}
    compact = recipe.load("compact", distil)
    assert {member.name: compact.teachers(member) for member in compact.members} == {
        "student": ["minilm", "e5"],
        "minilm": ["e5"],
        "e5": [],
    }
    named = recipe.load("compact", {"members.student.distil.teachers": ["e5"]})
    assert {member.name: named.teachers(member) for member in named.members} == {
        "student": ["e5"],
        "minilm": [],
        "e5": [],
    }
    taught = recipe.load("base")
    assert [taught.teachers(member) for member in taught.members] == [[], [], [], []]  # `teaching` does


def test_folders_stand_in_for_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    bases = tmp_path / "bases"
    (bases / "all-MiniLM-L6-v2").mkdir(parents=True)
    monkeypatch.setenv("NEWSDESK_DATA", str(tmp_path))
    monkeypatch.setenv("NEWSDESK_BASES", str(bases))
    local = recipe.load("compact")
    assert local.data.train.file == str(tmp_path / "ag_news/train.csv.gz")
    assert local.data.train.hub == ""
    assert local.data.outside["BBC, headlines"].file == str(tmp_path / "other/bbc.csv.gz")
    assert local.split.validation_where["kind"] == ["full"]
    assert [member.base for member in local.members[1:]] == [
        str(bases / "all-MiniLM-L6-v2"),
        "intfloat/multilingual-e5-small",  # not in the folder: the hub's
    ]
    own = recipe.load("compact", {"data.train": {"file": "mine.csv"}})
    assert own.data.train.file == "mine.csv"
    monkeypatch.setenv("NEWSDESK_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(RecipeError, match=r"NEWSDESK_DATA is '.*nowhere', which is no folder"):
        recipe.load("compact")


def test_changes_reach_tables_lists_and_new_places():
    changed = recipe.load(
        "compact",
        {
            "members.minilm.train.epochs": 1,
            "members.1.base": "elsewhere",
            "data.train": {"file": "rows.csv"},
            "data.test": None,
            "verify.rows": 7,
        },
    )
    assert changed.members[1].train.epochs == 1
    assert changed.members[1].base == "elsewhere"
    assert changed.members[1].train.learning_rate == 1e-4
    assert changed.data.train.file == "rows.csv"
    assert changed.data.test is None
    assert changed.verify.rows == 7


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"members.minilm.train.epochs": -1},
            r"recipe compact.toml: Expected `float` > 0.0.*\[1\].train.epochs",
        ),
        ({"members.1.trian.epochs": 1}, r"unknown field `trian`"),
        ({"members.5.base": "x"}, "nothing stands at 'members.5.base'"),
        ({"members.first.base": "x"}, "nothing stands at 'members.first.base'"),
        ({"name.first": "x"}, "nothing stands at 'name.first'"),
        ({"members": []}, "length >= 1"),
        ({"data.train": {"file": "rows.csv", "hub": "someone/rows"}}, "either `hub` or `file`"),
        ({"repository.variants": ["int4"]}, "int4"),
        ({"quantise.smooth_quant_alphas": []}, "length >= 1"),
        ({"ensemble": {"combiners": ["vote"]}}, "vote"),
        ({"ensemble": {"epsilon": 0}}, r"ensemble.epsilon"),
        ({"ensemble": {"confidence": 1}}, r"ensemble.confidence"),
        ({"repository.model": "../elsewhere"}, "expected letters of a to z, digits, _ and -"),
        ({"repository.model": "v1.2"}, "the model's name is 'v1.2', expected letters"),
        ({"repository.model": "stats"}, "has taken; expected another"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(changes: dict, message: str):
    with pytest.raises(RecipeError, match=message):
        recipe.load("compact", changes)


def test_an_unknown_recipe_names_those_there_are():
    with pytest.raises(RecipeError, match=r"no recipe 'compct'.*one of: .*compact"):
        recipe.load("compct")


def test_a_recipe_by_path_and_one_that_is_no_toml(tmp_path: Path):
    own = tmp_path / "own.toml"
    own.write_text('name = "own"\ndata.train.file = "rows.csv"\nmembers = [{ name = "a", base = "b" }]\n')
    assert recipe.load(str(own)).members[0].name == "a"
    own.write_text("name = ")
    with pytest.raises(RecipeError, match=r"own\.toml: Invalid value"):
        recipe.load(str(own))


def test_cycles_are_a_cosines() -> None:
    assert recipe.Train(schedule="cosine", cycles=2).cycles == 2
    with pytest.raises(ValueError, match='2 cycles of the schedule "linear"; expected schedule = "cosine"'):
        recipe.Train(cycles=2)
