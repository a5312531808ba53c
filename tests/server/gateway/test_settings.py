import importlib.util
import re
import socket
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from newsdesk.server.gateway.keys import Role
from newsdesk.server.gateway.settings import GatewaySettings, GatewaySettingsError
from newsdesk.server.serving import advisories, gateway
from newsdesk.server.serving.preflight import Check
from newsdesk.server.serving.settings import Settings, SettingsError, with_gateway
from tests.launching import free_ports
from tests.server.gateway import gateways


def settings(folder: Path, **options: Any) -> Settings:
    return with_gateway(
        Settings(model_repository=folder, state=folder), **{"port": free_ports()[0], "grpc_port": 0} | options
    )


def checks_of(folder: Path, **options: Any) -> dict[str, Check]:
    return {check.name: check for check in gateway.check(settings(folder, **options))}


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"port": 0}, "--gateway-port (NEWSDESK_GATEWAY_PORT) is '0'"),
        ({"max_texts": 0}, "--max-texts (NEWSDESK_MAX_TEXTS) is '0'; expected more than 0"),
        ({"request_timeout": -1.0}, "--request-timeout"),
        ({"hedge_share": 0.5}, "--hedge-share (NEWSDESK_HEDGE_SHARE) is '0.5'; expected a share of 0 (none) to 0.1"),
        ({"hedge_share": float("nan")}, "--hedge-share"),
        ({"rate_limit": "many"}, "--rate-limit (NEWSDESK_RATE_LIMIT) is 'many'; expected requests over time"),
        ({"request_timeout": float("nan")}, "--request-timeout (NEWSDESK_REQUEST_TIMEOUT) is 'nan'"),
        ({"request_timeout": float("inf")}, "--request-timeout (NEWSDESK_REQUEST_TIMEOUT) is 'inf'"),
        ({"rate_storage": "mysql://x"}, "--rate-storage"),
        ({"rate_storage": "mysql://u:sesame@x"}, "--rate-storage (NEWSDESK_RATE_STORAGE) is 'mysql://…@x'"),
        (
            {"rate_storage": "redis://:sesame@x:port/0"},
            "--rate-storage (NEWSDESK_RATE_STORAGE) is 'redis://…@x:port/0'",
        ),
        ({"rate_storage": "redis://"}, "--rate-storage"),
        ({"rate_limit": "0/minute"}, "--rate-limit (NEWSDESK_RATE_LIMIT) is '0/minute'"),
        ({"jwks": "file:///etc/passwd"}, "--jwks (NEWSDESK_JWKS) is 'file:///etc/passwd'; expected an https URL"),
        ({"jwks": "http://id.example/keys"}, "--jwks"),
        ({"jwks": "/nowhere/keys.json"}, "--jwks"),
        ({"jwks": "https://id.example/keys"}, "--jwt-issuer (NEWSDESK_JWT_ISSUER) and --jwt-audience"),
        ({"jwks": "https://id.example/keys", "jwt_issuer": "https://id.example"}, "--jwt-audience (NEWSDESK_JWT_AU"),
        ({"jwks": "https://id.example/keys", "jwt_audience": "newsdesk"}, "--jwt-issuer (NEWSDESK_JWT_ISSUER)"),
        ({"jwt_role_claim": ""}, "--jwt-role-claim"),
        ({"allowed_host": ("https://desk.example",)}, "--allowed-host"),
        ({"cors_origin": ("*",)}, "--cors-origin"),
        ({"cors_origin": ("https://a.example/",)}, "--cors-origin"),
    ],
)
def test_values_that_cannot_be_used(tmp_path: Path, options: dict[str, Any], says: str) -> None:
    with pytest.raises(GatewaySettingsError) as refused:
        GatewaySettings(keys=tmp_path / "keys.json", **options)
    assert says in str(refused.value)


def test_the_host_is_that_of_triton_and_may_be_another(tmp_path: Path) -> None:
    assert settings(tmp_path).gateway.host == "127.0.0.1"  # type: ignore[union-attr]
    assert settings(tmp_path, host="0.0.0.0").gateway.local_url.startswith("http://127.0.0.1:")  # type: ignore[union-attr]
    with pytest.raises(SettingsError, match="--gateway-host"):
        settings(tmp_path, host="no such host")


def test_who_is_asked_and_when_it_does_not_start(tmp_path: Path) -> None:
    assert checks_of(tmp_path)["access"].level == "ok"
    assert checks_of(tmp_path, auth=True)["access"].level == "problem"
    assert checks_of(tmp_path, host="0.0.0.0")["access"].level == "problem"
    assert checks_of(tmp_path, host="0.0.0.0", insecure=True)["access"].level == "warning"
    gateways.key(tmp_path, Role.reader, days=1e-9)
    assert checks_of(tmp_path, host="0.0.0.0")["access"].level == "problem"  # an expired one opens nothing
    gateways.key(tmp_path, Role.reader)
    assert "1 keys" in checks_of(tmp_path, host="0.0.0.0")["access"].found
    (tmp_path / "secret").write_text("short")
    short = checks_of(tmp_path, auth=True, jwt_secret_file=tmp_path / "secret")["access"]
    assert (short.level, "at least 32 random bytes" in short.found) == ("problem", True)
    (tmp_path / "secret").write_text("x" * 32)
    assert "HS256" in checks_of(tmp_path, auth=True, jwt_secret_file=tmp_path / "secret")["access"].found
    (tmp_path / "keys.json").write_text("[]")
    assert checks_of(tmp_path)["access"].level == "problem"


def test_triton_stays_on_loopback_until_it_is_exposed_which_is_a_warning(tmp_path: Path) -> None:
    gateways.key(tmp_path, Role.reader)
    there = Settings(model_repository=tmp_path, state=tmp_path, host="0.0.0.0")
    assert (there.triton_host, there.metrics_host) == ("127.0.0.1", "127.0.0.1")
    assert replace(there, host="::").triton_host == "::1"
    assert with_gateway(there).gateway.host == "0.0.0.0"  # type: ignore[union-attr]
    port = free_ports()[0]
    assert {check.level for check in gateway.check(with_gateway(there, port=port, grpc_port=0))} == {"ok"}
    (nobody,) = gateway.check(there)
    assert (nobody.level, "--expose triton" in nobody.remedy) == ("warning", True)
    exposed = Settings(model_repository=tmp_path, state=tmp_path, host="0.0.0.0", expose=("triton",))
    assert (exposed.triton_host, exposed.local_host) == ("0.0.0.0", "127.0.0.1")
    for settings in exposed, with_gateway(exposed, port=port, grpc_port=0):
        last = gateway.check(settings)[-1]
        assert (last.level, "ask nobody" in last.found) == ("warning", True)
        assert f"Triton 2.51 (24.10) has {len(advisories.UNFIXED)} open advisories" in last.found
        assert "SECURITY.md" in last.remedy
    with pytest.raises(SettingsError, match=r"--expose \(NEWSDESK_EXPOSE\) is 'all'; expected triton"):
        Settings(model_repository=tmp_path, state=tmp_path, expose=("all",))


def test_the_advisories_are_those_of_the_security_page() -> None:
    _, triton = (Path(__file__).parents[3] / "SECURITY.md").read_text().split("\n## Triton\n")
    assert sorted(re.findall(r"CVE-\d+-\d+", triton)) == sorted(advisories.UNFIXED)


def test_ports(tmp_path: Path) -> None:
    with pytest.raises(GatewaySettingsError, match=r"--gateway-grpc-port .*expected another port than --gateway-port"):
        settings(tmp_path, port=9000, grpc_port=9000)
    assert "--gateway-grpc-port" in checks_of(tmp_path, grpc_port=8001)["gateway"].remedy
    assert "one of Triton's" in checks_of(tmp_path, port=8001)["gateway"].found
    with socket.create_server(("127.0.0.1", 0)) as taken:
        check = checks_of(tmp_path, port=taken.getsockname()[1])["gateway"]
    assert check.level == "problem"
    assert "--gateway-port" in check.remedy
    assert "--no-gateway" in check.remedy


def test_a_missing_extra_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in ("fastapi", "jwt") else find(name))
    (check,) = gateway.check(settings(tmp_path))
    assert check.found == "the gateway needs fastapi, jwt, which are not installed"
    assert check.remedy == "pip install 'newsdesk[gateway]'. Or serve without it: --no-gateway."
    assert gateway.check(Settings(model_repository=tmp_path, state=tmp_path)) == []
