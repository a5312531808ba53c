"""A token tells of its bearer: the role, and that each subject is a caller of its own."""

from pathlib import Path
from typing import Any

import pytest

from newsdesk.server.gateway.auth import Roles
from newsdesk.server.gateway.keys import Role
from newsdesk.server.gateway.problems import Unauthenticated
from newsdesk.server.gateway.settings import GatewaySettings
from tests.server.gateway import gateways
from tests.server.gateway.gateways import SECRET, token


def roles(folder: Path, **settings: Any) -> Roles:
    return Roles(GatewaySettings(keys=folder / "keys.json", **settings))


def test_a_token_is_an_administrators_only_where_that_is_asked_for(tmp_path: Path) -> None:
    claims: dict[str, object] = {"sub": "somebody", "role": "admin"}
    with pytest.raises(Unauthenticated, match="expected a role, one of reader, operator; --jwt-admin"):
        roles(tmp_path).of_token(claims)
    assert roles(tmp_path, jwt_admin=True).of_token(claims).role is Role.admin
    assert roles(tmp_path).of_token(claims | {"role": "operator"}).role is Role.operator


def test_the_role_is_read_from_the_claim_that_is_named(tmp_path: Path) -> None:
    claims: dict[str, object] = {"sub": "somebody", "role": "operator", "https://desk.example/role": "reader"}
    assert roles(tmp_path, jwt_role_claim="https://desk.example/role").of_token(claims).role is Role.reader
    assert roles(tmp_path, jwt_role_claim="desk_role").of_token(claims).role is Role.reader  # without one
    with pytest.raises(Unauthenticated, match="desk_role is 'root'"):
        roles(tmp_path, jwt_role_claim="desk_role").of_token(claims | {"desk_role": "root"})


def test_each_subject_is_a_caller_of_its_own(tmp_path: Path) -> None:
    """However long they are alike."""
    subjects = ["a", "b", "x" * 80, "x" * 81, "x" * 80 + "y", "x" * 5000]
    ids = [roles(tmp_path).of_token({"sub": subject}).id for subject in subjects]
    assert len(set(ids)) == len(subjects)
    assert all(id.startswith("token:") and len(id) < 120 for id in ids)


def test_subjects_are_limited_each_by_itself_and_told_when_to_come_back(tmp_path: Path) -> None:
    """Whatever token of theirs they show; a key, and an address, count for themselves, too."""
    (tmp_path / "secret").write_text(SECRET)
    key = gateways.key(tmp_path, Role.reader)
    settings = {"jwt_secret_file": tmp_path / "secret", "auth": True, "rate_limit": "2/minute"}
    with gateways.gateway(tmp_path, [1, 1, 1], **settings) as client:

        def ask(credential: str) -> int:
            return client.get("/metrics", headers={"Authorization": f"Bearer {credential}"}).status_code

        statuses = [ask(token(sub=sub, jti=str(i))) for i in range(3) for sub in ("one", "other")]
        assert statuses == [200] * 4 + [429] * 2
        assert [ask(key) for _ in range(3)] == [200, 200, 429]
        refused = client.get("/metrics", headers={"Authorization": f"Bearer {token(sub='one')}"})
        assert 50 <= int(refused.headers["retry-after"]) <= 60
        assert refused.json()["type"] == "urn:newsdesk:problem:too-many-requests"
