"""The packages of the images: each with its hashes, and of the versions that the project asks for."""

import re
import tomllib

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.docker.files import DOCKER, DOCKERFILES, ROOT, instructions

FILES = sorted(DOCKER.glob("requirements-*.txt"))
EXTRAS = {"3.11": ("serve", "gateway"), "3.12": ("ensemble", "gateway"), "cuda-12": (), "cuda-13": ()}
"""The extras of newsdesk that the image of each file installs."""


def pinned(name: str) -> dict[str, str]:
    """Return the versions of a file, each of which must have a hash."""
    text = re.sub(r"^#.*\n", "", (DOCKER / name).read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    pins = {}
    for line in text.splitlines():
        pin, *hashes = line.split()
        assert hashes, pin
        assert all(re.fullmatch(r"--hash=sha256:[0-9a-f]{64}", entry) for entry in hashes), pin
        package, version = pin.split("==")
        pins[canonicalize_name(package)] = version
    return pins


def asked(*extras: str) -> list[Requirement]:
    """Return what newsdesk asks for, with extras, that hold for Linux."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = [*project["dependencies"]] if extras else []
    for extra in extras:
        for line in project["optional-dependencies"][extra]:
            own = re.fullmatch(r"newsdesk\[(.*)\]", line)
            lines += project["optional-dependencies"][own[1]] if own else [line]
    return [Requirement(line) for line in lines]


def test_they_are_small_and_name_no_host() -> None:
    assert [file.stem.removeprefix("requirements-") for file in FILES] == sorted(EXTRAS)
    assert sum(file.stat().st_size for file in FILES) <= 80_000
    assert not [file for file in FILES if "://" in file.read_text() or "index" in file.read_text().split("\n")[0]]


@pytest.mark.parametrize("name", EXTRAS)
def test_each_package_has_a_hash_and_a_version_that_is_asked_for(name: str) -> None:
    """`make constraints` mends a failure here."""
    pins = pinned(f"requirements-{name}.txt")
    constraints = (DOCKER / "constraints.txt").read_text()
    named = dict(line.split("==") for line in constraints.splitlines() if "==" in line)
    assert {package: version for package, version in pins.items() if named.get(package, version) != version} == {}
    missing = [
        str(requirement)
        for requirement in asked(*EXTRAS[name])
        if not requirement.specifier.contains(pins.get(canonicalize_name(requirement.name), "0"), prereleases=True)
    ]
    assert missing == []
    if name == "3.11":
        assert pins.keys() - {"setuptools"} == named.keys()


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.name)
def test_an_image_takes_no_file_without_its_hash(dockerfile) -> None:  # type: ignore[no-untyped-def]
    (installs,) = (rest for word, rest in instructions(dockerfile) if word == "RUN" and "pip install" in rest)
    for command in installs.split("&&"):
        if "pip install" in command:
            assert "--require-hashes" in command or "--no-deps" in command
