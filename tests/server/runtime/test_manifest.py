import hashlib
import json
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from newsdesk.server.runtime import cascade, manifest
from newsdesk.server.runtime.errors import ManifestError
from newsdesk.server.runtime.manifest import Member
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
    ("changes", "complaint"),
    [
        ({"schema": 99}, "schema 99, but this newsdesk reads schema 2"),
        ({"labels": ["one"]}, "$.labels"),
        ({"members": []}, "$.members"),
        ({"colour": "red"}, "colour"),
        ({"target": 3}, "$.target"),
        ({"cascade": []}, "no level"),
        ({"cascade": [_alone("other", 4)]}, "no member 'other'"),
        ({"cascade": [_alone("tiny", 3)]}, "thresholds for 3 labels, expected 4"),
        ({"windows": {"rule": "first"}}, "first"),
        ({"code": [{"path": "model.py", "sha256": "0" * 64}]}, "code names model.py, expected model.py and config"),
    ],
)
def test_a_manifest_that_does_not_hold_is_refused_with_the_place(tmp_path: Path, changes: dict, complaint: str) -> None:
    tiny.write(tmp_path)
    _edit(tmp_path, **changes)
    with pytest.raises(ManifestError, match=re.escape(complaint)):
        manifest.load(tmp_path)


def _renamed(member: Member) -> dict[str, Any]:
    return msgspec.to_builtins(msgspec.structs.replace(member, name="other"))


@pytest.mark.parametrize(
    ("kind", "length", "expected"),
    [
        ("encoder", 0, "8 or more tokens for an encoder"),
        ("encoder", 7, "8 or more tokens for an encoder"),
        ("encoder", 8, ""),
        ("ngrams", 0, ""),
        ("ngrams", 1, "0 for n-grams, which are read whole"),
        ("ngrams", 512, "0 for n-grams, which are read whole"),
    ],
)
def test_a_member_reads_eight_tokens_or_n_grams_without_end(
    kind: str, length: int, expected: str, tmp_path: Path
) -> None:
    member = msgspec.to_builtins(tiny.write(tmp_path).members[0]) | {"kind": kind, "max_length": length}
    if not expected:
        assert msgspec.convert(member, Member).max_length == length
        return
    with pytest.raises(msgspec.ValidationError) as refused:
        msgspec.convert(member, Member)
    assert str(refused.value) == f"member tiny: max_length {length}, expected {expected}"


def test_a_member_is_not_calibrated_by_length(tmp_path: Path) -> None:
    by_length = {"kind": "temperature_by_length", "bounds": [20], "temperatures": [1.0, 2.0]}
    member = msgspec.to_builtins(tiny.write(tmp_path).members[0]) | {"calibrator": by_length}
    with pytest.raises(msgspec.ValidationError) as refused:
        msgspec.convert(member, Member)
    assert str(refused.value) == "member tiny: its calibrator goes by length, expected one that levels alone need not"


def test_members_have_names_of_their_own_and_all_are_asked(tmp_path: Path) -> None:
    made = tiny.write(tmp_path)
    member = msgspec.to_builtins(made.members[0])
    _edit(tmp_path, members=[member, member])
    with pytest.raises(ManifestError, match="not a manifest: members tiny, tiny: each needs a name of its own"):
        manifest.load(tmp_path)
    _edit(tmp_path, members=[member, _renamed(made.members[0]), {**member, "name": "another"}])
    with pytest.raises(ManifestError, match=r"no level of the cascade asks another, other; leave out who is not asked"):
        manifest.load(tmp_path)


def _spread(labels: int) -> dict[str, Any]:
    return {"labels": [2] + [0] * (labels - 1), "confidence": [0] * 9 + [2]}


def test_the_reference_has_the_labels_of_the_model(tmp_path: Path) -> None:
    tiny.write(tmp_path)
    for labels in 4, 3:
        qualities = dict.fromkeys(("fast", "balanced", "best"), _spread(labels))
        _edit(tmp_path, reference={"words": [2] + [0] * 10, "unknown": [2] + [0] * 9, **qualities})
        if labels == 4:
            manifest.load(tmp_path)
    with pytest.raises(ManifestError, match=r"the reference has 3 labels, expected 4"):
        manifest.load(tmp_path)


def test_the_manifest_is_written_for_people_too(tmp_path: Path) -> None:
    tiny.write(tmp_path)
    assert (tmp_path / manifest.FILE).read_text().splitlines()[:3] == ["{", ' "schema": 2,', ' "name": "ag_news",']
    assert not (tmp_path / f"{manifest.FILE}.partial").exists()


def test_what_triton_runs_is_checked_before_it_runs(tmp_path: Path) -> None:
    """The manifest names it; without one that can be read, `load` says why."""
    manifest.check_code(tmp_path)  # no manifest
    (tmp_path / manifest.FILE).write_text("{")
    manifest.check_code(tmp_path)
    made = tiny.write(tmp_path)
    manifest.check_code(tmp_path)  # an older one, which names no code
    for name in (manifest.ENTRY, manifest.CONFIG):
        (tmp_path / name).write_text(f"# {name}")
    code = manifest.code(tmp_path)
    assert [(file.path, file.sha256) for file in code] == [
        (name, hashlib.sha256(f"# {name}".encode()).hexdigest()) for name in ("model.py", "config.pbtxt")
    ]
    manifest.save(msgspec.structs.replace(made, code=code), tmp_path)
    manifest.check_code(tmp_path)
    assert manifest.load(tmp_path).files()[-2:] == code
    (tmp_path / "model.py").write_text("print('not what was built')")
    for check in (manifest.check_code, manifest.load):
        with pytest.raises(ManifestError, match=rf"model\.py: sha256 is .*the manifest says {code[0].sha256}"):
            check(tmp_path)
    _edit(tmp_path, code=[{"path": "model.py", "sha256": "0" * 64}, {"path": "other.py", "sha256": "0" * 64}])
    with pytest.raises(ManifestError, match=r"code names model\.py, other\.py, expected model\.py and config\.pbtxt"):
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
    (tmp_path / made.members[0].tokenizer.path).unlink()
    with pytest.raises(ManifestError, match=r"tokenizer\.json: cannot be read"):
        manifest.load(tmp_path)
    (tmp_path / manifest.FILE).write_text("{")
    with pytest.raises(ManifestError, match="not a manifest"):
        manifest.load(tmp_path)
