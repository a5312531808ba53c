"""Refused callers stand in the log and in the audit log: from where, with which key, and no secret."""

from pathlib import Path

import pytest

from newsdesk.server.gateway.keys import Role
from newsdesk.server.gateway.logs import AuditLog
from tests.server.gateway import gateways
from tests.server.gateway.gateways import SECRET, token


def test_refusals_are_logged_and_audited(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(SECRET)
    reader, gone = gateways.key(tmp_path, Role.reader), gateways.key(tmp_path, Role.admin, days=1e-9)
    forged, expired = f"nd_{'0' * 12}_{'x' * 43}", token(exp=1)
    shown = {
        "": ("GET", "/v1/labels", 401),
        forged: ("GET", "/v1/labels", 401),
        gone: ("GET", "/v1/keys", 401),
        reader: ("POST", "/v2/repository/models/ag_news/load", 403),
        expired: ("POST", "/v1/classify", 401),
        token(sub="somebody"): ("DELETE", "/v1/keys/000000000000", 403),
    }
    with gateways.gateway(tmp_path, [1, 1, 1], auth=True, jwt_secret_file=tmp_path / "secret") as client:
        for credential, (method, path, status) in shown.items():
            headers = {"Authorization": f"Bearer {credential}"} if credential else {}
            assert client.request(method, path, headers=headers).status_code == status
    audited = gateways.logged(tmp_path / "audit.jsonl")
    logged = [line for line in gateways.logged(tmp_path / "gateway.log") if line["event"] == "request"]
    for lines in audited, logged:
        assert [line["status"] for line in lines] == [401, 401, 401, 403, 401, 403]
        assert {line["address"] for line in lines} == {"127.0.0.1"}
        assert [line.get("key") for line in lines[:3]] == [None, "0" * 12, gone.split("_")[1]]
        assert [line.get("caller") for line in lines[3:]] == [f"key:{reader.split('_')[1]}", None, "token:somebody"]
    assert [(line["action"], line["method"]) for line in audited] == [("refused", shown[secret][0]) for secret in shown]
    assert "needs the role operator" in audited[3]["outcome"]
    assert audited[3]["route"] == "/v2/repository/models/{model}/load"
    written = (tmp_path / "audit.jsonl").read_text() + (tmp_path / "gateway.log").read_text()
    secrets = [
        part for secret in shown for part in (secret.split("_")[-1], secret.rsplit(".", 1)[-1]) if len(part) > 12
    ]
    assert len(secrets) > 6
    assert not [secret for secret in secrets if secret in written]


def test_nobody_who_is_turned_away_fills_the_audit_log(tmp_path: Path) -> None:
    """The first of many are written, then now and then one, with the number of those that are missing."""
    with gateways.gateway(tmp_path, [1, 1, 1], auth=True) as client:
        for _ in range(200):
            assert client.get("/v1/labels").status_code == 401
    audited = gateways.logged(tmp_path / "audit.jsonl")
    assert 30 <= len(audited) < 60
    assert len(audited) + sum(line.get("unwritten_before", 0) for line in audited) <= 200
    assert len(gateways.logged(tmp_path / "gateway.log")) == 200


def test_an_audit_log_that_cannot_be_written_stops_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A full disk must not keep a leaked key valid: the entry is in the log instead."""
    (tmp_path / "audit.jsonl").mkdir()
    AuditLog(tmp_path / "audit.jsonl").write(action="revoke", key="0123")
    (record,) = caplog.records
    assert (record.levelname, record.fields["entry"]["key"]) == ("ERROR", "0123")  # type: ignore[attr-defined]
