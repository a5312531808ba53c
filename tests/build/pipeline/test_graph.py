"""Stages run behind their inputs and only where something changed; what is asked once is made when it is asked."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from newsdesk.build.errors import RecipeError
from newsdesk.build.pipeline import graph
from newsdesk.build.pipeline.artifacts import Artifact, ArtifactStore
from newsdesk.build.pipeline.graph import BuildStage, Graph

HERE = "stages_of_the_test"


def numbers(folder: Path, say, *, value: int) -> dict:
    (folder / "number").write_text(str(value % 10))
    return {}


def total(folder: Path, say, *, first: Artifact, others: dict[str, Artifact]) -> dict:
    parts = [int((artifact / "number").read_text()) for artifact in (first, *others.values())]
    (folder / "number").write_text(str(sum(parts)))
    return {"parts": [*others], "total": sum(parts)}


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The store's words; stages' functions are found here, and their code has a digest that tests can set."""
    functions = {"numbers": numbers, "total": total}
    monkeypatch.setattr(graph.pkgutil, "resolve_name", lambda name: functions[name.partition(":")[2]])
    monkeypatch.setattr(graph, "Code", lambda: SimpleNamespace(digest=lambda module: CODE.get(module, "")))
    CODE.clear()
    return []


CODE: dict[str, str] = {}


def stages(**values: int) -> list[BuildStage]:
    return [
        BuildStage("numbers", f"{HERE}:numbers", of, settings={"value": value}, keyed=() if of == "asked" else None)
        for of, value in values.items()
    ]


def run(graph: Graph, folder: Path, lines: list[str], *wanted: str) -> tuple[dict[str, Artifact], list[str]]:
    """Return the artifacts, and the ids of the stages that ran."""
    lines.clear()
    made = graph.run(wanted, ArtifactStore(folder, lines.append))
    return made, [line.partition(":")[0] for line in lines if line.endswith(": running")]


def sum_of(*others: str, on_demand: tuple[str, ...] = ()) -> BuildStage:
    inputs = {"first": "numbers a"} | ({} if on_demand else {"others": {name: f"numbers {name}" for name in others}})
    asked = {"others": {name: f"numbers {name}" for name in on_demand}} if on_demand else {}
    return BuildStage("total", f"{HERE}:total", inputs=inputs, on_demand=asked)


def test_a_stage_and_what_it_needs_run_and_no_other(tmp_path: Path, lines: list[str]):
    whole = Graph([sum_of("b", "c"), *stages(a=1, b=2, c=3, d=4)])
    made, ran = run(whole, tmp_path, lines, "total")
    assert made["total"].figures == {"parts": ["b", "c"], "total": 6}
    assert sorted(ran) == ["numbers a", "numbers b", "numbers c", "total"]
    assert ran[-1] == "total"
    assert run(whole, tmp_path, lines, "total")[1] == []
    assert run(whole, tmp_path, lines, "numbers d")[1] == ["numbers d"]


def test_a_change_runs_what_hangs_on_it_as_far_as_results_change(tmp_path: Path, lines: list[str]):
    run(Graph([sum_of("b"), *stages(a=1, b=2)]), tmp_path, lines, "total")
    assert run(Graph([sum_of("b"), *stages(a=1, b=3)]), tmp_path, lines, "total")[1] == ["numbers b", "total"]
    assert run(Graph([sum_of("b"), *stages(a=1, b=13)]), tmp_path, lines, "total")[1] == ["numbers b"]  # the same file


def test_an_edit_of_its_code_runs_a_stage_again_unless_it_is_not_keyed(tmp_path: Path, lines: list[str]):
    whole = Graph([sum_of("asked"), *stages(a=1, asked=2)])
    run(whole, tmp_path, lines, "total")
    CODE[HERE] = "edited"
    assert run(whole, tmp_path, lines, "total")[1] == ["numbers a", "total"]


def test_files_and_the_machine_are_in_the_key(tmp_path: Path, lines: list[str]):
    file = tmp_path / "rows.csv"
    file.write_text("a")

    def declared(machine: str) -> Graph:
        return Graph(
            [
                BuildStage(
                    "numbers", f"{HERE}:numbers", settings={"value": 1}, files=(str(file),), environment=(machine,)
                )
            ]
        )

    run(declared("here"), tmp_path, lines, "numbers")
    file.write_text("b")
    assert run(declared("here"), tmp_path, lines, "numbers")[1] == ["numbers"]
    assert run(declared("there"), tmp_path, lines, "numbers")[1] == ["numbers"]


def test_what_is_asked_once_may_be_deleted_afterwards(tmp_path: Path, lines: list[str]):
    whole = Graph([sum_of(on_demand=("b", "c")), *stages(a=1, b=2, c=3)])
    made, ran = run(whole, tmp_path, lines, "total")
    assert made["total"].figures["total"] == 6
    assert ran == ["numbers a", "total", "numbers b", "numbers c"]
    for id in ("b", "c"):
        asked = Graph(stages(**{id: {"b": 2, "c": 3}[id]}))
        folder = run(asked, tmp_path, lines, f"numbers {id}")[0][f"numbers {id}"].path
        folder.rename(tmp_path / f"gone-{id}")
    assert run(whole, tmp_path, lines, "total")[1] == []
    other = Graph([sum_of(on_demand=("b", "c")), *stages(a=1, b=12, c=3)])
    assert run(other, tmp_path, lines, "total")[1] == ["total", "numbers b", "numbers c"]


def test_stages_that_wait_for_each_other_are_refused():
    waiting = [
        BuildStage("teach", f"{HERE}:teach", name, inputs={"teacher": f"teach {other}"})
        for name, other in (("student", "minilm"), ("minilm", "student"))
    ]
    with pytest.raises(RecipeError, match=r"members (student, minilm|minilm, student) wait for each other"):
        Graph(waiting)
