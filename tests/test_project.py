"""A project has more than code: files that others read by their form, and names that stay true."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT, SETUPTOOLS = PYPROJECT["project"], PYPROJECT["tool"]["setuptools"]


@pytest.mark.parametrize(
    ("schema", "file"),
    [("vendor.citation-file-format", "CITATION.cff"), ("vendor.github-workflows", ".github/workflows/ci.yml")],
)
def test_they_keep_to_their_schemas(schema: str, file: str) -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema, ROOT / file]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_the_workflow_calls_the_script_that_anybody_can() -> None:
    assert "- run: .ci/run" in (ROOT / ".github" / "workflows" / "ci.yml").read_text()


def test_every_folder_of_code_is_installed() -> None:
    """An editable install has all of them, whatever the list says; another one does not."""
    code = (file for part in ("build", "clients", "server") for file in (ROOT / part).rglob("__init__.py"))
    folders = {".".join(("newsdesk", *file.parent.relative_to(ROOT).parts)) for file in code}
    assert set(SETUPTOOLS["packages"]) == folders


def test_version_and_licence_are_the_same_everywhere() -> None:
    citation = (ROOT / "CITATION.cff").read_text()
    assert f"version: {PROJECT['version']}\n" in citation
    assert f"## {PROJECT['version']}\n" in (ROOT / "CHANGELOG.md").read_text()
    assert PROJECT["license"] == "Apache-2.0"
    assert "license: Apache-2.0\n" in citation
    assert (ROOT / "LICENSE").read_text().split()[:4] == ["Apache", "License", "Version", "2.0,"]
    terms = (ROOT / "model_repository" / "LICENSE.md").read_text()
    assert "non-commercial use only" in " ".join(terms.split())


def test_only_serving_asks_for_numpy_below_2() -> None:
    def takes(lines: list[str], version: str) -> bool:
        asked = [requirement for requirement in map(Requirement, lines) if requirement.name == "numpy"]
        return bool(asked) and all(requirement.specifier.contains(version) for requirement in asked)

    assert takes(PROJECT["dependencies"], "1.26.0")
    assert takes(PROJECT["dependencies"], "2.4.6")
    assert not takes(PROJECT["optional-dependencies"]["serve"], "2.0.0")


def test_make_help_lists_every_target() -> None:
    phony = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert phony is not None
    command = ["make", "--no-print-directory", "help"]
    alone = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}  # `make test` calls this
    output = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, env=alone).stdout
    assert [line.split()[1] for line in output.splitlines()] == sorted(
        phony[1].split(), key=lambda name: output.index(f"make {name} ")
    )


def test_contributing_names_what_is_there() -> None:
    named = set(re.findall(r"`([\w.-]+(?:/[\w.-]*)+)`", (ROOT / "CONTRIBUTING.md").read_text()))
    assert len(named) > 25
    assert [path for path in sorted(named) if not (ROOT / path).exists()] == []


def test_imports_run_down_through_the_rooms_and_in_no_circle() -> None:
    """The rules are in pyproject.toml, under tool.importlinter."""
    command = [Path(sys.executable).with_name("lint-imports"), "--no-cache", "--no-logo"]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def promises(page: Path, heading: str) -> list[str]:
    """Return the rows of the table under a heading."""
    table = page.read_text().partition(heading)[2].partition("\n## ")[0]
    return [line for line in table.splitlines() if line.startswith("| ")][1:]


@pytest.mark.parametrize(
    ("page", "heading", "least"),
    [("SECURITY.md", "## What an attack found", 25), ("docs/production.md", "# Production", 15)],
)
def test_promises_name_tests_that_there_are(page: str, heading: str, least: int) -> None:
    """Each line of the table names the tests that show it."""
    lines = promises(ROOT / page, heading)
    assert len(lines) > least
    for line in lines:
        named = re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", line)
        assert named, line
        for file, test in named:
            assert re.search(rf"^(async )?def {test}\(", (ROOT / file).read_text(), re.MULTILINE), f"{file}::{test}"
