from pathlib import Path

import pytest

from newsdesk.server.serving import logs


def test_a_large_log_is_kept_once_and_begun_anew(tmp_path: Path) -> None:
    """Whoever appends to it goes on in the same file."""
    log = tmp_path / "gateway.log"
    with log.open("ab", buffering=0) as appending:
        appending.write(b"first\n")
        log.chmod(0o600)
        logs.rotate(log, 6)
        assert log.read_bytes() == b"first\n"
        for name in b"second", b"third":
            appending.write(name)
            logs.rotate(log, 3)
            assert log.read_bytes() == b""
        appending.write(b"last")
    assert log.read_bytes() == b"last"
    assert (tmp_path / "gateway.log.1").read_bytes() == b"third"
    assert (tmp_path / "gateway.log.1").stat().st_mode & 0o077 == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["gateway.log", "gateway.log.1"]


def test_a_log_that_cannot_be_copied_is_bounded_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("shutil.copy2", full)
    log = tmp_path / "gateway.log"
    log.write_bytes(b"0123")
    logs.rotate(log, 3)
    assert log.read_bytes() == b""
    logs.rotate(tmp_path / "none", 3)
