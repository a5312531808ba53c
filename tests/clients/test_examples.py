"""Every example runs as it says, each a client of another kind, against a real Triton and a real gateway."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.clients.triton_process import Ports

EXAMPLES = Path(__file__).parents[2] / "clients" / "examples"


def run(name: str, *arguments: object) -> list[str]:
    program = "sh" if name.endswith(".sh") else sys.executable
    command = [program, str(EXAMPLES / name), *map(str, arguments)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout.splitlines()


@pytest.fixture
def front(gateway: str) -> str:
    """The gateway's http:// URL."""
    return gateway.removeprefix("gateway+")


@pytest.mark.parametrize("scheme", ["grpc", "http"])
def test_sync(triton: Ports, scheme: str) -> None:
    assert run("sync.py", triton.grpc_url if scheme == "grpc" else triton.http_url) == [
        "Sci/Tech (60.0%), answered by stand-in+careful",
        "  stand-in by itself: Sci/Tech",
        "  careful by itself: World",
        "Sports",
        "text 1 is refused: empty, expected at least one visible character",
    ]


def test_tasks(triton: Ports) -> None:
    assert sorted(line.split()[0] for line in run("tasks.py", triton.grpc_url)) == [
        "Sci/Tech",
        "Sci/Tech",  # "Shares" is no keyword of the stand-in's
        "Sports",
        "World",
    ]


def test_file(triton: Ports, tmp_path: Path) -> None:
    path = tmp_path / "articles.txt"
    path.write_text("the match\n\nshares\n")
    assert run("file.py", path, triton.grpc_url) == ["Sports\tthe match", "refused\t", "Business\tshares"]


def test_gateway(gateway: str) -> None:
    assert run("gateway.py", gateway) == ["Sci/Tech"]


def test_curl(front: str, triton: Ports) -> None:
    classified, *rows, inferred = run("curl.sh", front, triton.http_url)
    first, second = json.loads(classified)["items"]
    assert (first["label"], first["answered_by"], len(first["probabilities"])) == ("Sci/Tech", "stand-in+careful", 2)
    assert second["error"].startswith("empty")
    assert [json.loads(row)["label"] for row in rows] == ["World", "Sci/Tech"]
    assert json.loads(inferred)["outputs"][0]["data"] == ["Sports"]


@pytest.mark.parametrize("http", ["triton", "gateway"])
def test_kserve(front: str, triton: Ports, http: str) -> None:
    """KServe's REST client, before Triton and before the gateway, which passes its protocol on; and its gRPC client."""
    url = front if http == "gateway" else triton.http_url
    assert run("kserve_client.py", url, f"127.0.0.1:{triton.grpc}") == ["REST Sci/Tech Sports", "gRPC Sci/Tech Sports"]


def test_graphql(front: str) -> None:
    assert run("graphql_client.py", front) == ["Sci/Tech", "empty, expected at least one visible character"]


def test_websocket(front: str) -> None:
    assert run("websocket_client.py", front.replace("http://", "ws://")) == ["0 Sci/Tech", "1 Sports"]


def test_every_example_has_a_test() -> None:
    tested = {name for name in Path(__file__).read_text().split('"') if name.endswith((".py", ".sh"))}
    assert {file.name for file in EXAMPLES.iterdir() if file.is_file()} <= tested
