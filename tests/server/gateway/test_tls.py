"""Both ports of the gateway over TLS, by the SDK, curl and tritonclient, against an authority of the tests' own."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException
from typer.testing import CliRunner

from newsdesk.clients import Client, ServerUnavailable
from newsdesk.clients.cli.app import app
from newsdesk.server.gateway.certificates import Certificates
from newsdesk.server.gateway.keys import Role
from newsdesk.server.gateway.settings import GatewaySettings, GatewaySettingsError
from newsdesk.server.serving.gateway import Gateway
from tests.certificates import Authority
from tests.holding import until
from tests.launching import free_ports, write_repository
from tests.server.gateway import gateways
from tests.server.gateway.conftest import Served
from tests.service.requests import tensor

SCHEMES = "gateway+https", "https", "grpcs"
INFER = "/v2/models/ag_news/infer"


@dataclass
class Encrypted:
    """A gateway that wants a key, and of its callers a certificate that `authority` signed."""

    process: Gateway
    ports: tuple[int, int]
    authority: Authority
    folder: Path
    key: str

    def url(self, scheme: str) -> str:
        return f"{scheme}://127.0.0.1:{self.ports[scheme == 'grpcs']}"

    def client(self, scheme: str, authority: Authority, own: tuple[Path, Path] | None) -> Client:
        files: dict[str, Any] = {"cert_file": own[0], "key_file": own[1]} if own else {}
        return Client(
            self.url(scheme), api_key=self.key, ca_file=authority.file, timeout=5, retries=0, **files
        )  # fmt: skip

    def answers(self, scheme: str, authority: Authority, own: tuple[Path, Path] | None) -> bool:
        with self.client(scheme, authority, own) as client:
            try:
                return client.classify("match").label == "Sports"
            except ServerUnavailable:
                return False


@pytest.fixture
def encrypted(served: Served, tmp_path: Path) -> Iterator[Encrypted]:
    write_repository(tmp_path)
    authority, ports = Authority(tmp_path / "authority.pem"), free_ports()
    cert, key = authority.issue(tmp_path / "files")
    files = {"tls_cert": cert, "tls_key": key, "tls_client_ca": authority.file}
    launch = gateways.launch(
        tmp_path, served.server.ports, port=ports[0], grpc_port=ports[1], auth=True, **files
    )  # fmt: skip
    process = Gateway(launch, tmp_path / "gateway.log")
    process.start()
    try:
        gateways.until_listening(process)
        yield Encrypted(process, (ports[0], ports[1]), authority, tmp_path, gateways.key(tmp_path, Role.reader))
    finally:
        process.ask_to_stop()
        process.wait()


@pytest.fixture
def own(encrypted: Encrypted) -> tuple[Path, Path]:
    return encrypted.authority.issue(encrypted.folder / "caller", "caller")


def curl(encrypted: Encrypted, *arguments: str | Path) -> tuple[int, str]:
    """Return curl's exit code and what it printed; the key is no argument."""
    program = shutil.which("curl")
    if program is None:
        pytest.skip("curl is no Python package: apt-get install curl")
    header = encrypted.folder / "header"
    header.write_text(f"Authorization: Bearer {encrypted.key}")
    command = [program, "-sS", "-H", f"@{header}", "--max-time", "20", *map(str, arguments)]
    ran = subprocess.run([*command, f"{encrypted.url('https')}/v1/labels"], capture_output=True, text=True, check=False)
    return ran.returncode, ran.stdout


def test_sdk_curl_and_tritonclient_over_mutual_tls(encrypted: Encrypted, own: tuple[Path, Path]) -> None:
    for scheme in SCHEMES:
        assert encrypted.answers(scheme, encrypted.authority, own)
        assert not encrypted.answers(scheme, encrypted.authority, None)
    stranger = Authority(encrypted.folder / "stranger.pem", "a stranger")
    other = stranger.issue(encrypted.folder / "caller", "other")
    for scheme in SCHEMES:
        assert not encrypted.answers(scheme, encrypted.authority, other)
        assert not encrypted.answers(scheme, stranger, own)
    trusted = "--cacert", encrypted.authority.file
    code, printed = curl(encrypted, *trusted, "--cert", own[0], "--key", own[1])
    assert (code, "Business" in printed) == (0, True)
    assert curl(encrypted, *trusted)[0] != 0
    files = {"ssl": True, "root_certificates": str(encrypted.authority.file)}
    mutual = {"private_key": str(own[1]), "certificate_chain": str(own[0])}
    known = {"authorization": f"Bearer {encrypted.key}"}
    address = f"127.0.0.1:{encrypted.ports[1]}"
    with triton.InferenceServerClient(address, **files, **mutual) as client:
        answer = client.infer("ag_news", [tensor(["shares"])], headers=known)
        assert answer.as_numpy("LABEL").ravel().tolist() == [b"Business"]
    with triton.InferenceServerClient(address, **files) as client, pytest.raises(InferenceServerException):
        client.infer("ag_news", [tensor(["shares"])], headers=known, client_timeout=3)
    with pytest.raises(httpx.HTTPError):
        httpx.get(f"http://127.0.0.1:{encrypted.ports[0]}/health/live", trust_env=False)


def test_commands_trust_and_show_the_certificates_of_their_options(
    encrypted: Encrypted, own: tuple[Path, Path]
) -> None:
    def run(command: str, scheme: str, *arguments: str | Path, **variables: str) -> Any:
        environment = {"NEWSDESK_URL": encrypted.url(scheme), "NEWSDESK_API_KEY": encrypted.key, **variables}
        return CliRunner(env=environment).invoke(app, [command, *map(str, arguments)])

    options = "--tls-ca", encrypted.authority.file, "--tls-cert", own[0], "--tls-key", own[1]
    for scheme in SCHEMES:
        assert run("classify", scheme, "match", *options).stdout.startswith("Sports"), scheme
    assert "ag_news  version" in run("models", "gateway+https", *options).stdout
    by_variables = dict(zip(("TLS_CA", "CLIENT_CERT", "CLIENT_KEY"), map(str, options[1::2]), strict=True))
    named = {f"NEWSDESK_{name}": value for name, value in by_variables.items()}
    assert run("classify", "grpcs", "match", **named).stdout.startswith("Sports")
    without = run("models", "gateway+https", *options[:2])
    assert (without.exit_code, "does not answer" in without.stderr) == (2, True)
    missing = run("classify", "https", "match", "--tls-ca", encrypted.folder / "none.pem")
    assert (missing.exit_code, "none.pem" in re.sub(r"[^\w.]", "", missing.stderr)) == (2, True)  # in a box
    alone = run("classify", "https", "match", "--tls-cert", own[0])
    assert (alone.exit_code, "--tls-key" in alone.stderr) == (2, True)


def test_the_supervisor_sees_it_live_though_it_shows_no_certificate(encrypted: Encrypted) -> None:
    assert encrypted.process.live()
    until(lambda: encrypted.process._pulse.answered)  # type: ignore[union-attr]
    assert encrypted.process.watch() == ""
    log = (encrypted.folder / "gateway.log").read_text()
    assert '"level":"error"' not in log
    variables = {"NEWSDESK_GATEWAY_PORT": str(encrypted.ports[0]), "NEWSDESK_TLS_CERT": "some"}
    probe = [sys.executable, "-m", "newsdesk.server.serving.health", "/health/ready"]
    assert subprocess.run(probe, env=os.environ | variables, check=False).returncode == 0
    away = variables | {"NEWSDESK_GATEWAY_PORT": "1"}
    assert subprocess.run(probe, env=os.environ | away, check=False).returncode == 1


def test_files_that_change_are_taken_up_without_a_restart(encrypted: Encrypted, own: tuple[Path, Path]) -> None:
    """By another authority, for the gateway and its callers alike; a half-written change is passed over."""
    files = encrypted.folder / "files"
    with encrypted.client("https", encrypted.authority, own) as staying:
        assert staying.classify("match")
        after = Authority(encrypted.folder / "after.pem", "another authority")
        cert, key = after.issue(encrypted.folder / "new")
        caller = after.issue(encrypted.folder / "caller", "renewed")
        os.replace(cert, files / "newsdesk.pem")
        until(lambda: "cannot be used, the last ones are used on" in (encrypted.folder / "gateway.log").read_text())
        assert all(encrypted.answers(scheme, encrypted.authority, own) for scheme in SCHEMES)
        os.replace(key, files / "newsdesk.key")
        encrypted.authority.file.with_name("before.pem").write_bytes(encrypted.authority.file.read_bytes())
        os.replace(after.file, encrypted.authority.file)
        after.file = encrypted.authority.file
        for scheme in SCHEMES:
            until(lambda scheme=scheme: encrypted.answers(scheme, after, caller))
            assert not encrypted.answers(scheme, after, own)
        assert staying.classify("match")  # on the connection that it has
    assert encrypted.process.running


def test_files_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "authority.pem")
    cert, key = authority.issue(tmp_path)
    other = authority.issue(tmp_path, "other")[1]

    def settings(**files: Path) -> GatewaySettings:
        return GatewaySettings(keys=tmp_path / "keys.json", **files)

    for files, says in (
        ({"tls_cert": cert}, "--tls-cert .*expected --tls-key .*beside it"),
        ({"tls_key": key}, "--tls-key .*expected --tls-cert .*beside it"),
        ({"tls_client_ca": authority.file}, "--tls-client-ca .*beside it"),
    ):
        with pytest.raises(GatewaySettingsError, match=says):
            settings(**files)
    for files, says in (
        ({"tls_cert": cert, "tls_key": other}, r"other\.key .*cannot be used.*its own key"),
        ({"tls_cert": cert, "tls_key": tmp_path / "none"}, "none cannot be read"),
        ({"tls_cert": cert, "tls_key": key, "tls_client_ca": key}, "authorities in --tls-client-ca"),
    ):
        with pytest.raises(GatewaySettingsError, match=says):
            Certificates(settings(**files))
