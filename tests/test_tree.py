"""The tree stays small: a clone is quick, and a machine lent for minutes takes it whole. And all of its tests run."""

import subprocess
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MIB = 1 << 20


def test_shipped_weights_and_the_tree_keep_to_their_sizes():
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout.decode()
    sizes = {name: path.stat().st_size for name in listed.split("\0") if (path := ROOT / name).is_file()}
    weights = sum(size for name, size in sizes.items() if ".onnx" in name)
    assert 0 < weights <= 48 * MIB
    assert max(sizes.values()) <= 25 * MIB
    assert sum(sizes.values()) < 52 * MIB


def test_no_mark_of_a_merge_is_left():
    marks = ["git", "grep", "-nIE", "^(<{7}|={7}|>{7})( |$)"]
    listed = subprocess.run(marks, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (listed.returncode, listed.stdout, listed.stderr) == (1, "", "")


def test_no_folder_of_tests_is_passed_over(pytestconfig: pytest.Config):
    """pytest skips folders by their names, "build" among them, and says nothing."""
    passed_over = pytestconfig.getini("norecursedirs")
    folders = {
        folder for file in Path(__file__).parent.rglob("test_*.py") for folder in file.relative_to(ROOT).parts[:-1]
    }
    assert folders >= {"build", "clients", "server", "service"}
    assert not [folder for folder in folders if any(fnmatch(folder, pattern) for pattern in passed_over)]


def test_workers_share_no_folder(request: pytest.FixtureRequest):
    """Groups that pytest-xdist does not know of are no error: a folder's server was started by every worker."""
    in_a_worker = hasattr(request.config, "workerinput")
    assert request.node.nodeid.endswith("@test_tree.py") == in_a_worker
