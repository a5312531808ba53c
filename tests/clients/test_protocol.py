"""The contract over the bare protocol, byte for byte, as clients that are not ours speak it."""

import asyncio
import json
import subprocess
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.grpc.aio
import tritonclient.http
import tritonclient.http.aio
from tritonclient.utils import InferenceServerException

from tests.clients.triton_process import Ports

ROW = [0.10211999714374542, 0.6000300049781799, 0.17020000517368318, 0.12764999270439149]


def tensor(protocol: Any, texts: list[str]) -> Any:
    tensor_input = protocol.InferInput("TEXT", [len(texts), 1], "BYTES")
    tensor_input.set_data_from_numpy(np.array([text.encode() for text in texts], dtype=object).reshape(-1, 1))
    return tensor_input


def infer(protocol: Any, address: str, texts: list[str], **options: Any) -> Any:
    with protocol.InferenceServerClient(address) as client:
        return client.infer("ag_news", [tensor(protocol, texts)], **options)


async def infer_async(protocol: Any, address: str, texts: list[str], **options: Any) -> Any:
    async with protocol.aio.InferenceServerClient(address) as client:
        return await client.infer("ag_news", [tensor(protocol, texts)], **options)


@pytest.fixture(params=["http", "grpc", "http.aio", "grpc.aio"])
def ask(request: pytest.FixtureRequest, triton: Ports) -> Any:
    """Return (texts, classes) → the result of one of tritonclient's four clients."""
    protocol = tritonclient.http if request.param.startswith("http") else tritonclient.grpc
    port = triton.http if request.param.startswith("http") else triton.grpc

    def ask(texts: list[str], classes: int = 0) -> Any:
        options: dict[str, Any] = {}
        if classes:
            options["outputs"] = [protocol.InferRequestedOutput("PROBABILITIES", class_count=classes)]
        if request.param.endswith("aio"):
            return asyncio.run(infer_async(protocol, f"127.0.0.1:{port}", texts, **options))
        return infer(protocol, f"127.0.0.1:{port}", texts, **options)

    return ask


@pytest.mark.parametrize("count", [1, 2, 16])
def test_tritonclient_gets_the_documented_shapes(ask: Any, count: int) -> None:
    result = ask(["a match 1"] * count)
    assert result.as_numpy("LABEL").tolist() == [[b"Sports"]] * count
    assert result.as_numpy("ANSWERED_BY").tolist() == [[b"stand-in"]] * count
    probabilities = result.as_numpy("PROBABILITIES")
    assert probabilities.dtype == np.float32
    assert probabilities.tolist() == [ROW] * count


def test_label_names_come_with_the_classification_extension(ask: Any) -> None:
    assert ask(["a match 1"], classes=2).as_numpy("PROBABILITIES").tolist() == [
        [b"0.600030:1:Sports", b"0.170200:2:Business"]
    ]


def test_tritonclient_gets_the_refusal(ask: Any) -> None:
    with pytest.raises(InferenceServerException) as caught:
        ask(["match", "", " "])
    assert caught.value.message() == (
        "newsdesk refused 2 of 3 texts. text 1: empty, expected at least one visible character; "
        "text 2: empty, expected at least one visible character"
    )
    assert caught.value.status() in ("400", "StatusCode.INVALID_ARGUMENT")


def curl(ports: Ports, body: str, *options: str) -> tuple[int, str]:
    url = f"{ports.http_url}/v2/models/ag_news/infer"
    answer = subprocess.run(
        ["curl", "-sS", "-m", "10", "-w", "\n%{http_code}", *options, "--data-binary", body, url],
        check=True,
        capture_output=True,
        text=True,
        timeout=20,
    )
    text, _, status = answer.stdout.rpartition("\n")
    return int(status), text


def test_curl_with_json(triton: Ports) -> None:
    request = {"inputs": [{"name": "TEXT", "datatype": "BYTES", "shape": [1, 1], "data": ["a match 1"]}]}
    status, answer = curl(triton, json.dumps(request))
    assert status == 200
    response = json.loads(answer)
    *response["outputs"], members, uncertainty, unsure = response["outputs"]  # whoever names no outputs gets all
    assert (uncertainty["name"], uncertainty["shape"]) == ("UNCERTAINTY", [1, 3])
    assert unsure == {"name": "UNSURE", "datatype": "BOOL", "shape": [1, 1], "data": [False]}
    assert (members["name"], members["shape"], members["data"][4:]) == ("MEMBER_PROBABILITIES", [1, 2, 4], [-1] * 4)
    assert response == {
        "model_name": "ag_news",
        "model_version": "1",
        "outputs": [
            {"name": "LABEL", "datatype": "BYTES", "shape": [1, 1], "data": ["Sports"]},
            {"name": "PROBABILITIES", "datatype": "FP32", "shape": [1, 4], "data": ROW},
            {"name": "ANSWERED_BY", "datatype": "BYTES", "shape": [1, 1], "data": ["stand-in"]},
            {"name": "WINDOWS", "datatype": "INT32", "shape": [1, 1], "data": [1]},
        ],
    }


@pytest.mark.parametrize(
    ("shape", "texts", "words"),
    [
        ([1], ["match"], "requires a batch dimension"),
        ([1], ["match", "match"], "requires a batch dimension"),
        ([1, 1], ["match", "match"], "unexpected number of string elements 2"),
        ([2, 1], ["match"], "expected 2 string elements"),
        ([65, 1], ["match"] * 65, "batch-size must be <= 64"),
        ([1, 1], [""], "newsdesk refused 1 of 1 texts. text 0: empty"),
    ],
)
def test_a_wrong_request_is_told_what_is_wrong(triton: Ports, shape: list[int], texts: list[str], words: str) -> None:
    request = {"inputs": [{"name": "TEXT", "datatype": "BYTES", "shape": shape, "data": texts}]}
    status, answer = curl(triton, json.dumps(request))
    assert status == 400
    assert words in json.loads(answer)["error"]


@pytest.mark.parametrize("length", ["-1", "100000", "18446744073709551616"])
def test_a_wrong_header_length_spares_the_server(triton: Ports, length: str) -> None:
    status, _ = curl(triton, '{"inputs": []}', "-H", f"Inference-Header-Content-Length: {length}")
    assert status >= 400
    assert curl(triton, '{"inputs":[{"name":"TEXT","datatype":"BYTES","shape":[1,1],"data":["match"]}]}')[0] == 200
