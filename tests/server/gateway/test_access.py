"""Every route × every kind of caller; and callers that are not who they say."""

import base64
import json
import threading
import time
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from fastapi import FastAPI
from fastapi.routing import APIWebSocketRoute
from starlette.routing import Route, WebSocketRoute
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from newsdesk.server.gateway import application
from newsdesk.server.gateway.keys import KeyFile, Role
from tests.holding import until
from tests.server.gateway import gateways
from tests.server.gateway.conftest import Served
from tests.server.gateway.gateways import SECRET, token

PUBLIC, READER, OPERATOR, ADMIN = 0, Role.reader, Role.operator, Role.admin
ROUTES = {
    "GET /": PUBLIC,
    "GET /page/{name}": PUBLIC,
    "GET /openapi.json": PUBLIC,
    "GET /health/live": PUBLIC,
    "GET /health/ready": PUBLIC,
    "GET /v2/health/live": PUBLIC,
    "GET /v2/health/ready": PUBLIC,
    "GET /metrics": READER,
    "GET /v1/metrics/live": READER,
    "POST /graphql": READER,
    "GET /graphql": READER,
    "WS /graphql": READER,
    "WS /v1/stream": READER,
    "WS /v1/models/{model}/stream": READER,
    "POST /v1/classify": READER,
    "POST /v1/classify/file": READER,
    "POST /v1/jobs": READER,
    "GET /v1/jobs": READER,
    "GET /v1/jobs/{id}": READER,
    "GET /v1/jobs/{id}/result": READER,
    "DELETE /v1/jobs/{id}": READER,
    "POST /v1/feedback": READER,
    "POST /v1/models/{model}/feedback": READER,
    "GET /v1/labels": READER,
    "GET /v1/models": READER,
    "GET /v1/models/{model}": READER,
    "GET /v1/models/{model}/labels": READER,
    "POST /v1/models/{model}/classify": READER,
    "POST /v1/models/{model}/classify/file": READER,
    "GET /v2/models/stats": READER,
    "GET /v2": READER,
    "GET /v2/models/{model}": READER,
    "GET /v2/models/{model}/ready": READER,
    "GET /v2/models/{model}/config": READER,
    "GET /v2/models/{model}/stats": READER,
    "POST /v2/models/{model}/infer": READER,
    "GET /v2/models/{model}/versions/{version}": READER,
    "GET /v2/models/{model}/versions/{version}/ready": READER,
    "GET /v2/models/{model}/versions/{version}/config": READER,
    "GET /v2/models/{model}/versions/{version}/stats": READER,
    "POST /v2/models/{model}/versions/{version}/infer": READER,
    "POST /v2/repository/index": OPERATOR,
    "POST /v2/repository/models/{model}/load": OPERATOR,
    "POST /v2/repository/models/{model}/unload": OPERATOR,
    "POST /v2/repository/models/{model}/rollback": OPERATOR,
    "GET /v2/repository/models/{model}/canary": OPERATOR,
    "POST /v2/repository/models/{model}/canary/promote": OPERATOR,
    "POST /v2/repository/models/{model}/canary/withdraw": OPERATOR,
    "GET /v1/keys": ADMIN,
    "DELETE /v1/keys/{id}": ADMIN,
}
CALLERS = {"nobody": 0, "reader": READER, "operator": OPERATOR, "admin": ADMIN}


def every_route(router: Any) -> Iterator[str]:
    """Yield all that a router answers, documented or not, with what is included in it."""
    for route in router.routes:
        if isinstance(route, WebSocketRoute | APIWebSocketRoute):
            yield f"WS {route.path}"
        elif isinstance(route, Route):
            yield from (f"{method} {route.path}" for method in (route.methods or {"GET"}) - {"HEAD"})
        else:
            yield from every_route(getattr(route, "original_router", route))


def test_the_table_has_every_route(reader: httpx.Client, tmp_path: Path) -> None:
    """So that none is added without saying, here, for whom it is."""
    app: Any = application.create(gateways.launch(tmp_path), bool)
    while not isinstance(app, FastAPI):
        app = app._app
    assert sorted(every_route(app)) == sorted(ROUTES)
    paths = reader.get("/openapi.json").json()["paths"]
    assert {f"{method.upper()} {path}" for path, methods in paths.items() for method in methods} <= set(ROUTES)


@pytest.mark.parametrize("caller", CALLERS)
def test_every_route_for_every_caller(served: Served, caller: str) -> None:
    """A key and a token of each role open what the role may, and nothing else."""
    credentials = [{}]
    if caller != "nobody":
        by_token = {"Authorization": f"Bearer {token(role=caller)}"}
        credentials = [{"Authorization": f"Bearer {served.keys[caller]}"}, {"X-API-Key": served.keys[caller]}, by_token]
    with gateways.client(served.url) as client:
        for route, least in ROUTES.items():
            if route.endswith("/live") and route != "GET /health/live" and CALLERS[caller] >= least > PUBLIC:
                continue  # it never ends; test_live reads it
            method, path = route.split(" ")
            path = path.format(model="nobodys", version="1", id="000000000000", name="style.css")
            for headers in credentials:
                answer = asked(client, method, path, headers)
                about = f"{route} for {caller}: {answer.status_code} {answer.text}"
                if CALLERS[caller] >= least:
                    assert answer.status_code in (200, 400, 404, 415), about
                elif caller == "nobody":
                    assert answer.status_code == 401, about
                    assert answer.headers["www-authenticate"] == 'Bearer realm="newsdesk"'
                else:
                    assert answer.status_code == 403, about
                    assert least.name in answer.json()["detail"]


def asked(client: httpx.Client, method: str, path: str, headers: dict[str, str]) -> httpx.Response:
    """Return the answer; of a WebSocket that of the handshake, with 200 where it opens."""
    if method != "WS":
        return client.request(method, path, headers=headers)
    try:
        with connect(str(client.base_url.join(path)).replace("http:", "ws:"), additional_headers=headers, proxy=None):
            return httpx.Response(200)
    except InvalidStatus as refused:
        response = refused.response
        return httpx.Response(
            response.status_code, headers=list(response.headers.raw_items()), content=bytes(response.body)
        )


def test_without_authentication_everybody_reads_and_nobody_manages(open_gateway: httpx.Client) -> None:
    assert open_gateway.post("/v1/classify", json={"text": "shares"}).status_code == 200
    assert open_gateway.post("/v2/repository/index").status_code == 403
    assert open_gateway.get("/v1/keys").status_code == 403
    wrong = open_gateway.get("/v1/labels", headers={"X-API-Key": "nd_wrong"})
    assert wrong.status_code == 401  # not taken for nobody


def unsigned(**claims: Any) -> str:
    return token("", "none", **claims)


def tampered(original: str) -> str:
    head, body, signature = original.split(".")
    payload = json.loads(base64.urlsafe_b64decode(body + "=="))
    payload["role"] = "admin"
    return ".".join([head, base64.urlsafe_b64encode(json.dumps(payload).encode()).decode().rstrip("="), signature])


@pytest.mark.parametrize(
    ("authorization", "says"),
    [
        ("Bearer nd_000000000000_" + "x" * 43, "unknown, expired or revoked"),
        ("Bearer nd_", "unknown, expired or revoked"),
        ("Bearer", "A key or token is needed"),
        ("Bearer a.b.c", "The token is refused"),
        ("Bearer " + "x" * 5000, "The token is refused"),
        ("Basic dXNlcjpwYXNz", "expected Bearer"),
        (lambda: f"Bearer {token(exp=time.time() - 60)}", "expired"),
        (lambda: f"Bearer {token(nbf=time.time() + 600)}", "not yet valid"),
        (lambda: f"Bearer {token(exp=None)}", "exp"),
        (lambda: f"Bearer {token(sub=None)}", "sub"),
        (lambda: f"Bearer {token('another secret, which is long enough, too')}", "Signature"),
        (lambda: f"Bearer {tampered(token())}", "Signature"),
        (lambda: f"Bearer {unsigned()}", "algorithm"),
        (lambda: f"Bearer {token(2 * SECRET, 'HS512')}", "algorithm"),
        (lambda: f"Bearer {token(role='root')}", "role"),
        (lambda: f"Bearer {token(role=['admin'])}", "role"),
    ],
)
def test_forged_expired_and_foreign_credentials(served: Served, authorization: Any, says: str) -> None:
    header = authorization if isinstance(authorization, str) else authorization()
    answer = httpx.get(f"{served.url}/v1/labels", headers={"Authorization": header})
    assert answer.status_code == 401, answer.text
    assert says in answer.json()["detail"]


def test_keys_are_created_listed_expired_and_revoked(served: Served) -> None:
    state = ["--state", str(served.server.state)]
    made = gateways.newsdesk_keys("create", "desk of the tests", "--role", "reader", *state)
    key = made.stdout.strip()
    assert made.exit_code == 0
    assert key not in (served.server.state / "keys.json").read_text()
    assert (served.server.state / "keys.json").stat().st_mode & 0o077 == 0
    with gateways.client(served.url, key) as client, served.client("admin") as admin:
        assert client.get("/v1/labels").status_code == 200
        wrong = key[:-1] + ("a" if key[-1] != "a" else "b")
        assert client.get("/v1/labels", headers={"Authorization": f"Bearer {wrong}"}).status_code == 401
        listed = admin.get("/v1/keys").json()["keys"]
        (entry,) = [entry for entry in listed if entry["name"] == "desk of the tests"]
        assert (entry["role"], entry["state"], "sha256" in entry) == ("reader", "valid", False)
        assert "desk of the tests" in gateways.newsdesk_keys("list", *state).stdout
        revoked = gateways.newsdesk_keys("revoke", entry["id"], "--json", *state)
        assert json.loads(revoked.stdout)["state"] == "revoked"
        assert client.get("/v1/labels").status_code == 401
        other = gateways.key(served.server.state, Role.reader)
        assert admin.delete(f"/v1/keys/{other.split('_')[1]}").json()["state"] == "revoked"
        assert client.get("/v1/labels", headers={"Authorization": f"Bearer {other}"}).status_code == 401
        short = {"Authorization": f"Bearer {gateways.key(served.server.state, Role.reader, days=0.3 / 86400)}"}
        until(lambda: client.get("/v1/labels", headers=short).status_code == 401)
    for wrong_use in (
        ["create"],
        ["list", "x"],
        ["revoke", "nobody"],
        ["create", "x", "--days", "-1"],
        ["create", "\n"],
    ):
        failed = gateways.newsdesk_keys(*wrong_use, *state)
        assert failed.exit_code == 2
        assert "expected" in failed.stderr or "no key" in failed.stderr


def test_the_comparison_tells_no_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is given, one digest is compared, with hmac.compare_digest."""
    store = KeyFile(tmp_path / "keys.json")
    _, key = store.create("one", Role.reader, None)
    compared: list[tuple[str, str]] = []

    def compare(a: str, b: str) -> bool:
        compared.append((a, b))
        return a == b

    monkeypatch.setattr("newsdesk.server.gateway.keys.hmac.compare_digest", compare)
    for credential in key, key[:-1] + "-", "nd_000000000000_" + "x" * 43, "nd_", "":
        store.find(credential, time.time())
    assert len(compared) == 5
    assert all(len(a) == len(b) == 64 for a, b in compared)


def test_a_broken_key_file_closes_the_gateway(served: Served, tmp_path: Path) -> None:
    key = gateways.key(tmp_path, Role.reader)
    with gateways.gateway(tmp_path, served.server.ports, auth=True) as client:
        headers = {"X-API-Key": key}
        assert client.get("/v1/labels", headers=headers).status_code == 200
        (tmp_path / "keys.json").write_text("{")
        assert client.get("/v1/labels", headers=headers).status_code == 503


def test_tokens_of_public_keys(served: Served, tmp_path: Path) -> None:
    """JWKS beside a secret: each key under its own algorithm; a public key is never taken for a secret."""
    keys = {"rsa": rsa.generate_private_key(65537, 2048), "ec": ec.generate_private_key(ec.SECP256R1())}
    algorithms = {"rsa": jwt.algorithms.RSAAlgorithm, "ec": jwt.algorithms.ECAlgorithm}
    published = [
        json.loads(algorithms[kid].to_jwk(key.public_key())) | {"kid": kid, "alg": alg, "use": "sig"}
        for (kid, key), alg in zip(keys.items(), ("RS256", "ES256"), strict=True)
    ]
    (tmp_path / "jwks.json").write_text(json.dumps({"keys": published}))
    pem = (
        keys["rsa"]
        .public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    stranger = rsa.generate_private_key(65537, 2048)
    its_own = json.loads(algorithms["rsa"].to_jwk(stranger.public_key()))
    (tmp_path / "secret").write_text(SECRET)
    claims = {"iss": "https://id.example", "aud": "newsdesk", "role": "operator"}
    confused = base64.urlsafe_b64encode(b'{"alg":"HS256","kid":"rsa"}').decode().rstrip("=")
    body = token(keys["rsa"], "RS256", **claims).split(".")[1]
    confused += f".{body}"
    forged = jwt.algorithms.HMACAlgorithm(jwt.algorithms.HMACAlgorithm.SHA256).sign(confused.encode(), pem)
    tokens = {
        token(keys["rsa"], "RS256", {"kid": "rsa"}, **claims): 200,
        token(keys["ec"], "ES256", {"kid": "ec"}, **claims): 200,
        token(stranger, "RS256", {"kid": "rsa"}, **claims): 401,
        token(stranger, "RS256", {"kid": "unknown"}, **claims): 401,
        token(keys["rsa"], "RS256", **claims): 401,  # which of the two keys?
        token(keys["rsa"], "PS256", {"kid": "rsa"}, **claims): 401,
        token(keys["rsa"], "RS256", {"kid": "rsa"}, **claims | {"aud": "others"}): 401,
        token(keys["rsa"], "RS256", {"kid": "rsa"}, **claims | {"iss": "https://evil.example"}): 401,
        token(SECRET, "HS256", **claims): 200,  # that of the file
        token("", "none", {"kid": "rsa"}, **claims): 401,
        token(stranger, "RS256", {"kid": "rsa", "jwk": its_own, "jku": "https://evil.example"}, **claims): 401,
        f"{confused}.{base64.urlsafe_b64encode(forged).decode().rstrip('=')}": 401,
    }
    settings = {
        "jwks": str(tmp_path / "jwks.json"),
        "jwt_secret_file": tmp_path / "secret",
        "jwt_issuer": "https://id.example",
        "jwt_audience": "newsdesk",
    }
    with gateways.gateway(tmp_path, served.server.ports, auth=True, **settings) as client:
        statuses = [
            client.get("/v1/labels", headers={"Authorization": f"Bearer {signed}"}).status_code for signed in tokens
        ]
    assert statuses == list(tokens.values())


def test_public_keys_are_fetched_and_an_absent_provider_is_said_so(served: Served, tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    published = json.loads(jwt.algorithms.ECAlgorithm.to_jwk(key.public_key())) | {"kid": "one", "alg": "ES256"}
    (tmp_path / "keys").write_text(json.dumps({"keys": [published]}))
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
    issued = {"iss": "https://id.example", "aud": "newsdesk"}
    bearer = {"Authorization": f"Bearer {token(key, 'ES256', {'kid': 'one'}, **issued)}"}
    expected = {"jwt_issuer": issued["iss"], "jwt_audience": issued["aud"]}
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as provider:
        threading.Thread(target=provider.serve_forever, daemon=True).start()
        where = f"http://127.0.0.1:{provider.server_port}/keys"
        with gateways.gateway(tmp_path, served.server.ports, auth=True, jwks=where, **expected) as client:
            assert client.get("/v1/labels", headers=bearer).status_code == 200
            provider.shutdown()
            assert client.get("/v1/labels", headers=bearer).status_code == 200  # they are kept
    with gateways.gateway(tmp_path, served.server.ports, auth=True, jwks=where, **expected) as client:
        answer = client.get("/v1/labels", headers=bearer)
    assert answer.status_code == 503
    assert "identity provider" in answer.json()["detail"]
