"""The file of keys by itself: who is let in, what is kept, and what a reader of the file may rely on."""

import hashlib
import json
import re
import stat
import threading
from pathlib import Path

import pytest

from newsdesk.server.gateway import keys
from newsdesk.server.gateway.keys import Key, KeyFile, KeysError, Role

DAY = 86_400


@pytest.fixture
def file(tmp_path: Path) -> KeyFile:
    return KeyFile(tmp_path / "state" / "keys.json")


def test_a_key_is_found_by_its_text_alone(file: KeyFile) -> None:
    key, text = file.create("the archive", Role.operator, None)
    match = re.fullmatch(r"nd_([0-9a-f]{12})_[A-Za-z0-9_-]{43}", text)
    assert match
    assert key.id == match[1]
    assert (key.name, key.role, key.expires, key.revoked) == ("the archive", "operator", None, None)
    assert file.find(text, key.created) == key
    other, others_text = file.create("the archive", Role.reader, None)
    swapped = f"nd_{key.id}_{others_text.split('_', 2)[2]}"
    for wrong in (swapped, text[:-1], text + "a", text.upper(), "", "nd_", f"nd_{'0' * 12}_{'a' * 43}"):
        assert file.find(wrong, key.created) is None, wrong
    assert file.find(others_text, key.created) == other


def test_only_the_hash_is_kept_in_a_file_of_the_owners(file: KeyFile) -> None:
    key, text = file.create("a", Role.reader, 2)
    raw = file.path.read_text()
    assert text not in raw
    assert text.split("_", 2)[2] not in raw
    (entry,) = json.loads(raw)["keys"]
    assert entry["sha256"] == hashlib.sha256(text.encode()).hexdigest()
    assert entry["expires"] == key.created + 2 * DAY
    assert stat.S_IMODE(file.path.stat().st_mode) == 0o600
    names = sorted(path.name for path in file.path.parent.iterdir())
    assert names == [".keys.json.lock", "keys.json"]


def test_a_key_is_valid_until_the_moment_that_it_expires(file: KeyFile) -> None:
    key, text = file.create("a", Role.reader, 2)
    assert key.expires is not None
    assert key.state(key.expires - 0.001) == "valid"
    assert key.state(key.expires) == "expired"
    assert file.find(text, key.expires - 0.001) == key
    assert file.find(text, key.expires) is None


def test_a_revoked_key_is_let_in_nowhere_and_the_moment_stays(file: KeyFile, monkeypatch: pytest.MonkeyPatch) -> None:
    key, text = file.create("a", Role.reader, 2)
    _, others_text = file.create("b", Role.reader, None)
    revoked = file.revoke(key.id)
    assert revoked.revoked is not None
    assert revoked.revoked >= key.created
    assert key.expires is not None
    assert revoked.state(key.expires + 1) == "revoked"
    assert file.find(text, key.created) is None
    assert file.find(others_text, key.created)
    monkeypatch.setattr(keys.time, "time", lambda: revoked.revoked + 60)
    assert file.revoke(key.id) == revoked
    with pytest.raises(KeysError, match=r"there is no key '0123' in .*keys\.json: `newsdesk keys list` shows them"):
        file.revoke("0123")


@pytest.mark.parametrize("name", ["", "x" * 65, "a\n", "a/b", "a;b"])
def test_a_name_that_would_not_print_is_refused(file: KeyFile, name: str) -> None:
    with pytest.raises(KeysError) as refused:
        file.create(name, Role.reader, None)
    assert str(refused.value) == f"name is {name!r}, expected 1 to 64 letters, digits, spaces or .@-_"
    assert not file.path.exists()


@pytest.mark.parametrize("name", ["x", "x" * 64, "Zoë's".replace("'", " "), "a.b@c-d_e f"])
def test_a_name_of_letters_digits_and_a_few_signs_is_taken(file: KeyFile, name: str) -> None:
    assert file.create(name, Role.reader, None)[0].name == name


@pytest.mark.parametrize(("days", "taken"), [(0, False), (-1, False), (0.5, True), (36_500, True), (36_500.5, False)])
def test_days_are_more_than_none_and_at_most_a_hundred_years(file: KeyFile, days: float, taken: bool) -> None:
    if taken:
        key, _ = file.create("a", Role.reader, days)
        assert key.expires == key.created + days * DAY
        return
    with pytest.raises(KeysError) as refused:
        file.create("a", Role.reader, days)
    assert str(refused.value) == f"days is {days}, expected more than 0 and at most 36500"


def test_what_another_process_writes_is_read_and_what_is_gone_is_nobody(file: KeyFile) -> None:
    assert file.keys() == {}
    first, _ = KeyFile(file.path).create("a", Role.reader, None)
    assert [*file.keys()] == [first.id]
    second, _ = KeyFile(file.path).create("b", Role.admin, None)
    assert [*file.keys()] == [first.id, second.id]  # the oldest first
    assert file.keys()[second.id] == second
    assert file.keys() is file.keys()  # unchanged, it is not read again
    raw = file.path.read_bytes()
    file.path.unlink()
    assert file.keys() == {}
    file.path.write_bytes(raw)
    assert [*file.keys()] == [first.id, second.id]


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"[]",
        b'{"kys": []}',
        b'{"keys": 3}',
        b'{"keys": [{"id": "a"}]}',
        b'{"keys": [{"id": "a", "name": "a", "role": "king", "sha256": "", "created": 0, "expires": null}]}',
    ],
)
def test_a_file_of_something_else_is_an_error_that_names_it(file: KeyFile, raw: bytes) -> None:
    file.path.parent.mkdir()
    file.path.write_bytes(raw)
    with pytest.raises(KeysError, match=r"keys\.json: not a file of keys \(.+\)\. Restore it, or remove it"):
        file.keys()
    with pytest.raises(KeysError, match="not a file of keys"):
        file.create("a", Role.reader, None)
    assert file.path.read_bytes() == raw


def test_many_writers_lose_no_key(file: KeyFile) -> None:
    made: list[Key] = []
    threads = [
        threading.Thread(target=lambda: made.append(KeyFile(file.path).create("a", Role.reader, None)[0]))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert file.keys() == {key.id: key for key in made}
    assert len(made) == 8


def test_what_a_writer_left_half_written_is_passed_over(file: KeyFile) -> None:
    file.path.parent.mkdir()
    (file.path.parent / ".keys.json.partial").write_text("half")
    key, _ = file.create("a", Role.reader, None)
    assert [*file.keys()] == [key.id]


def test_each_role_may_do_what_the_ones_below_it_may() -> None:
    assert Role.reader < Role.operator < Role.admin
    assert [role.name for role in Role] == ["reader", "operator", "admin"]
