import json
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from newsdesk.server.runtime import cascade, manifest
from newsdesk.server.runtime.errors import ManifestError
from tests import tiny


def test_round_trip(tmp_path: Path) -> None:
    made = tiny.write(tmp_path)
    assert manifest.load(tmp_path) == made


def _edit(folder: Path, **changes: object) -> None:
    path = folder / manifest.FILE
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def _alone(member: str, labels: int) -> Any:
    return msgspec.to_builtins(cascade.alone(member, labels))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"schema": 99}, "schema 99, but this newsdesk reads schema 2"),
        ({"labels": ["one"]}, "$.labels"),
        ({"members": []}, "$.members"),
        ({"colour": "red"}, "colour"),
        ({"target": 3}, "$.target"),
        ({"cascade": []}, "no stage"),
        ({"cascade": [_alone("other", 4)]}, "no member 'other'"),
        ({"cascade": [_alone("tiny", 3)]}, "thresholds for 3 labels, expected 4"),
        ({"windows": {"rule": "first"}}, "first"),
        ({"code": [{"path": "model.py", "sha256": "0" * 64}]}, "code names model.py, expected model.py and config"),
    ],
)
def test_a_manifest_that_does_not_hold_is_refused_with_the_place(tmp_path: Path, changes: dict, said: str) -> None:
    tiny.write(tmp_path)
    _edit(tmp_path, **changes)
    with pytest.raises(ManifestError, match=re.escape(said)):
        manifest.load(tmp_path)


def test_a_path_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    tiny.write(tmp_path)
    path = tmp_path / manifest.FILE
    path.write_text(path.read_text().replace("tiny/tokenizer.json", "../tokenizer.json"))
    with pytest.raises(ManifestError, match=r"members\[0\]\.reader\.path"):
        manifest.load(tmp_path)


def test_a_changed_file_is_refused_with_both_sums_and_the_remedy(tmp_path: Path) -> None:
    made = tiny.write(tmp_path)
    graph = made.members[0].graphs["int8"]
    (tmp_path / graph.path).write_bytes(b"not what was built")
    with pytest.raises(ManifestError, match=rf"{graph.path}.*sha256 is .*{graph.sha256}.*newsdesk build"):
        manifest.load(tmp_path)


def test_a_missing_file_and_a_missing_or_broken_manifest_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="No such file"):
        manifest.load(tmp_path)
    made = tiny.write(tmp_path)
    (tmp_path / made.members[0].reader.path).unlink()
    with pytest.raises(ManifestError, match=r"tokenizer\.json: cannot be read"):
        manifest.load(tmp_path)
    (tmp_path / manifest.FILE).write_text("{")
    with pytest.raises(ManifestError, match="not a manifest"):
        manifest.load(tmp_path)
