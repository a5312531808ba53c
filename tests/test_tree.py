"""The tree stays small: a clone is quick, and a machine that is lent for minutes takes it whole."""

import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[1]
MIB = 1 << 20


def test_shipped_weights_and_the_tree_keep_to_their_sizes():
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout.decode()
    sizes = {name: path.stat().st_size for name in listed.split("\0") if (path := ROOT / name).is_file()}
    weights = sum(size for name, size in sizes.items() if ".onnx" in name)
    assert 0 < weights <= 48 * MIB
    assert max(sizes.values()) <= 25 * MIB
    assert sum(sizes.values()) < 52 * MIB
