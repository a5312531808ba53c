"""The list of mutation tests and its page name what exists, and the page's shares are its numbers'."""

import re

import pytest

from tests.mutation import HERE, LEFT_OUT, MODULES, PAGE

LINES = [line for line in PAGE.read_text().splitlines() if line.startswith("| `")]
ROWS = [[cell.strip(" `") for cell in line.split("|")[1:-1]] for line in LINES]


@pytest.mark.parametrize("module", MODULES)
def test_every_module_and_its_tests_exist(module: str) -> None:
    assert (HERE / module).is_file()
    for tests in MODULES[module]:
        file, _, test = tests.partition("::")
        assert f"def {test or 'test_'}" in (HERE / file).read_text()


def test_what_is_left_out_exists() -> None:
    files = {HERE / tests.partition("::")[0] for module in MODULES.values() for tests in module}
    names = [name for file in files for name in re.findall(r"def (test_\w+)", file.read_text())]
    assert [part for part in LEFT_OUT.split(" or ") if not any(part.strip() in name for name in names)] == []


def test_every_row_is_of_a_module_of_the_list_once() -> None:
    modules = [row[0] for row in ROWS]
    assert len(modules) > 30
    assert len(set(modules)) == len(modules)
    assert set(modules) <= MODULES.keys()


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_a_row_says_its_share_and_why_what_survives_is_no_fault(row: list[str]) -> None:
    _, mutants, caught, share, remark = row
    assert share == f"{int(caught) / int(mutants):.0%}"
    assert remark or caught == mutants
