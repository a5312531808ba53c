"""Triton's own clients against the gateway, and what operators may do through it."""

import gzip
import json
import time
from types import MappingProxyType
from typing import Any

import httpx
import numpy as np
import pytest
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException

from newsdesk.server.gateway import inference
from newsdesk.server.gateway.rollouts import tensors
from newsdesk.server.gateway.routes.oip import _answered
from newsdesk.server.gateway.triton import Reply
from tests.launching import LABELS
from tests.server.gateway import gateways
from tests.server.gateway.conftest import Served
from tests.service.requests import oip, tensor

INFER = "/v2/models/ag_news/infer"
SHARES = oip(["shares 5000"])


def outputs(answer: httpx.Response) -> dict[str, Any]:
    assert answer.status_code == 200, answer.text
    return {output["name"]: output["data"] for output in answer.json()["outputs"]}


def test_tritonclient(served: Served) -> None:
    """Binary tensors both ways, compressed and not."""
    headers = MappingProxyType({"Authorization": f"Bearer {served.keys['reader']}"})
    with triton.InferenceServerClient(served.url.removeprefix("http://")) as client:
        assert client.is_server_live()
        assert client.is_server_ready()
        assert client.is_model_ready("ag_news", headers=headers)
        assert client.get_server_metadata(headers=headers)["name"] == "triton"
        assert client.get_model_metadata("ag_news", headers=headers)["versions"] == ["1"]
        assert client.get_model_config("ag_news", headers=headers)["max_batch_size"] == 64
        assert client.get_inference_statistics("ag_news", headers=headers)["model_stats"]
        for algorithm in None, "gzip", "deflate":
            answer = client.infer(
                "ag_news",
                [tensor(["shares 5000", "match 1"], triton)],
                headers=dict(headers),  # it writes to them
                request_compression_algorithm=algorithm,
                response_compression_algorithm=algorithm,
            )
            assert answer.as_numpy("LABEL").ravel().tolist() == [b"Business", b"Sports"]
            assert answer.as_numpy("PROBABILITIES").shape == (2, 4)
            assert answer.as_numpy("PROBABILITIES").dtype == np.float32
        with pytest.raises(InferenceServerException, match="text 1: empty"):
            client.infer("ag_news", [tensor(["shares", ""], triton)], headers=dict(headers))
        with pytest.raises(InferenceServerException, match="A key or token is needed"):
            client.infer("ag_news", [tensor(["shares"], triton)])
        with pytest.raises(InferenceServerException, match="needs the role operator"):
            client.unload_model("ag_news", headers=headers)
        with pytest.raises(InferenceServerException, match="Not Found"):
            client.get_system_shared_memory_status(headers=headers)


def test_the_same_answers_as_by_rest(reader: httpx.Client) -> None:
    passed = outputs(reader.post(INFER, content=SHARES))
    (item,) = reader.post("/v1/classify", json={"text": "shares 5000"}).json()["items"]
    assert passed["LABEL"] == [item["label"]]
    assert dict(zip(LABELS, passed["PROBABILITIES"], strict=True)) == pytest.approx(item["probabilities"], abs=1e-6)


def test_an_answer_that_is_passed_through_is_one_of_the_model(reader: httpx.Client) -> None:
    """For readiness and for the circuit breaker: the prober has no reason to ask meanwhile."""
    began = time.monotonic()
    while time.monotonic() < began + 2:
        asked = time.monotonic()
        assert reader.post(INFER, content=SHARES).status_code == 200
        since = reader.get("/health/ready").json()["last_answer_seconds"]
        assert since < time.monotonic() - asked + 0.01  # it is rounded
        time.sleep(0.02)


def test_many_on_one_connection(reader: httpx.Client) -> None:
    for i in range(50):
        assert outputs(reader.post(INFER, content=oip([f"shares {i}"])))["LABEL"] == ["Business"]


@pytest.mark.parametrize("length", ["-1", "0", "99999999", "abc", "1" * 40, "10"])
def test_a_wrong_json_length_breaks_nothing(reader: httpx.Client, length: str) -> None:
    """A 8."""
    answer = reader.post(INFER, content=SHARES, headers={"Inference-Header-Content-Length": length})
    assert answer.status_code < 500
    assert outputs(reader.post(INFER, content=SHARES))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        oip(["a"], [-1, 1]),
        oip([None]),
        oip(["a"], datatype=3),
        oip(["a"])[:-2],
        b"null",
        b"[1]",
        b'{"inputs": 5}',
        oip(["a", "b"], [1]),
        oip(["a"], [1]),
        oip([5]),
        b"\xff" * 100,
    ],
)
def test_wrong_bodies_are_refused(reader: httpx.Client, body: bytes) -> None:
    """A 1, 6, 7."""
    answer = reader.post(INFER, content=body)
    assert answer.status_code == 400
    assert "error" in answer.json()
    assert outputs(reader.post(INFER, content=SHARES))


def asking(outputs: Any = None, **more: Any) -> bytes:
    """Return a good request that wants `outputs`, with more members."""
    body = json.loads(SHARES) | ({} if outputs is None else {"outputs": outputs}) | more
    return json.dumps(body).encode()


def binary(head: dict[str, Any], *texts: bytes) -> tuple[bytes, dict[str, str]]:
    """Return a request whose one text is binary, and its header."""
    data = b"".join(len(text).to_bytes(4, "little") + text for text in texts)
    tensor = {"name": "TEXT", "shape": [len(texts), 1], "datatype": "BYTES"}
    tensor["parameters"] = {"binary_data_size": len(data)}
    written = json.dumps({"inputs": [tensor]} | head).encode()
    return written + data, {"Inference-Header-Content-Length": str(len(written))}


def test_members_that_nobody_knows_are_left_out(reader: httpx.Client) -> None:
    """KServe's client says `model_name` in the body."""
    assert outputs(reader.post(INFER, content=asking(model_name="ag_news")))["LABEL"] == ["Business"]


@pytest.mark.parametrize("name", ["LABEL", "ANSWERED_BY", "WINDOWS", "MEMBER_PROBABILITIES", "NOTHING"])
def test_classes_are_had_of_outputs_with_labels_alone(reader: httpx.Client, name: str) -> None:
    """Triton divides by the number of labels, 0, and ends."""
    wanted = [{"name": name, "parameters": {"classification": 1}}]
    body, header = binary({"outputs": wanted}, b"shares")
    for answer in reader.post(INFER, content=asking(wanted)), reader.post(INFER, content=body, headers=header):
        assert (answer.status_code, answer.headers["content-type"]) == (400, "application/problem+json")
        assert answer.json()["detail"].endswith("which only outputs with labels have: PROBABILITIES.")
    wanted = [{"name": "PROBABILITIES", "parameters": {"classification": 1}}]
    assert outputs(reader.post(INFER, content=asking(wanted)))["PROBABILITIES"][0].endswith(":2:Business")


def test_the_first_of_two_members_of_a_name_is_not_passed_on(reader: httpx.Client) -> None:
    """Triton would read the first, the gateway reads the last: what was read is what is passed on."""
    wanted = b'"outputs":[{"name":"LABEL","parameters":{"classification":1}}],"outputs":[{"name":"LABEL"}]'
    answer = reader.post(INFER, content=SHARES[:-1] + b"," + wanted + b"}")
    assert outputs(answer) == {"LABEL": ["Business"]}


@pytest.mark.parametrize(
    "body",
    [
        *(asking([{"name": "PROBABILITIES", "parameters": {"classification": count}}])
          for count in (-1, 0, 1.5, "1", True, 10**6 + 1, 2**40, 2**70)),
        asking([{"name": "LABEL", "parameters": {"shared_memory_region": "a"}}]),
        asking([{"name": "LABEL", "parameters": {"binary_data": 1}}]),
        asking([{"name": "LABEL", "more": 1}]),
        asking({"name": "LABEL"}),
        asking(parameters={"classification": 1}),
        asking(parameters={"priority": -1}),
        asking(parameters={"timeout": 2**63}),
        asking(parameters={"sequence_start": "yes"}),
        asking(parameters={"more": [1]}),
        oip(["a"], parameters={"shared_memory_region": "a", "shared_memory_byte_size": 9}),
        oip(["a"], parameters={"binary_data_size": 5}),
        oip(["a"], parameters={"binary_data_size": -5}),
        oip(["a"], [0, 1]),
        oip(["a"], [2**40, 1]),
        oip(["a"], [2**31 - 1, 1]),
        oip(["a"]).replace(b"[1, 1]", b"[]"),
        oip(["a"], [1] * 99),
        oip(["a"], datatype="STRING"),
        oip(["a"]).replace(b'["a"]', b'"a"'),
        b"[" * 200_000,
        SHARES[:-1] + b',"more":' + b"[" * 200_000,
        oip(["x" * 300_000]),
        asking(parameters={"sequence_id": "x" * 200}),
    ],
    ids=range(31),
)  # fmt: skip
def test_what_triton_had_better_not_see_is_refused(reader: httpx.Client, body: bytes) -> None:
    answer = reader.post(INFER, content=body)
    assert (answer.status_code, answer.headers["content-type"]) == (400, "application/problem+json"), answer.text
    assert outputs(reader.post(INFER, content=SHARES))


def test_binary_tensors_must_agree_with_their_head(reader: httpx.Client) -> None:
    good, header = binary({}, b"shares", b"match")
    assert outputs(reader.post(INFER, content=good, headers=header))["LABEL"] == ["Business", "Sports"]
    head = int(header["Inference-Header-Content-Length"])
    for body in good[:-1], good + b"x", good[:head] + b"\xff" * (len(good) - head), good.replace(b"[2, 1]", b"[3, 1]"):
        assert reader.post(INFER, content=body, headers=header).status_code == 400
    assert reader.post(INFER, content=good).status_code == 400
    long, header = binary({}, b"shares", b"x" * 300_000)
    answer = reader.post(INFER, content=long, headers=header)
    reason = "newsdesk refused 1 of 2 texts. text 1: 300000 bytes, expected at most 262144, send a shorter text"
    assert (answer.status_code, answer.json()["error"]) == (400, reason)


def test_what_is_internal_is_masked() -> None:
    """Messages that Triton and its Python backend write."""
    for internal, shown in (
        ("Unable to find shared memory region: 'newsdesk-8000-12-ab'", "Unable to find shared memory region: '…'"),
        ("Failed to open /dev/shm/triton_python_backend_shm_region_1: No", "Failed to open …: No"),
        ("error in /srv/a.b/model.py at 'psm_1a2b3c'", "error in … at '…'"),
    ):
        body = json.dumps({"error": internal}).encode()
        answered = _answered(Reply(500, {"content-type": "application/json"}, body))
        assert json.loads(bytes(answered.body)) == {"error": shown}
    plain = b'{"error":"newsdesk refused 1 of 1 texts. text 0: empty; model ag_news/1"}'
    assert _answered(Reply(400, {}, plain)).body == plain


def test_packed_bodies_meet_the_limits_unpacked(open_gateway: httpx.Client) -> None:
    bomb = gzip.compress(oip(["x" * 2**21]))
    for body, packing, status in (
        (bomb, "gzip", 413),
        (SHARES, "gzip", 400),
        (SHARES, "br", 415),
        (SHARES, "identity", 200),
    ):
        answer = open_gateway.post(INFER, content=body, headers={"Content-Encoding": packing})
        assert answer.status_code == status, answer.text


@pytest.mark.parametrize(
    "path",
    ["/v2/models/..%2f..%2fv2%2frepository/config", "/v2/models/a%20b", "/v2/models/../repository/index/config",
     "/v2/systemsharedmemory/status", "/v2/logging", "/v2/trace/setting", "/v2/models/%2e%2e/config"],
)  # fmt: skip
def test_nothing_else_is_passed_on(served: Served, path: str) -> None:
    with served.client("admin") as client:
        assert client.get(path).status_code == 404
        assert client.post(path).status_code in (404, 405)


def test_operators_manage_and_it_is_written_down(served: Served) -> None:
    audit = served.server.state / "log" / "audit.jsonl"
    load = "/v2/repository/models/ag_news/load"
    with served.client("operator") as client:
        (model,) = client.post("/v2/repository/index").json()
        assert (model["name"], model["state"]) == ("ag_news", "READY")
        loaded = client.post(load, headers={"X-Request-ID": "loading"})
        assert loaded.status_code == 200, loaded.text
        for smuggled in {"config": "{}"}, {"file:1/model.py": "aW1wb3J0IG9z"}, [1]:
            body = json.dumps({"parameters": smuggled})
            assert client.post(load, content=body, headers={"X-Request-ID": "smuggling"}).status_code == 403
        assert client.post(load, content=b"[").status_code == 400
    entries = gateways.logged(audit)
    (done,) = [entry for entry in entries if entry["request_id"] == "loading"]
    assert (done["action"], done["model"], done["role"], done["outcome"]) == ("load", "ag_news", "operator", "done")
    assert done["caller"] == f"key:{served.keys['operator'].split('_')[1]}"
    assert sum(entry["request_id"] == "smuggling" for entry in entries) == 3
    assert audit.stat().st_mode & 0o077 == 0


def as_grpc(body: bytes, header_length: str | None = None) -> Any:
    asked, binary = inference.read(body, header_length, 1000)
    assert asked is not None
    return tensors.whole(asked, binary, "ag_news", "2")


def test_texts_go_to_triton_over_grpc() -> None:
    """In a plain list or in rows of one, in JSON or binary, with all that is said beside them."""
    parameters = {"priority": 3, "binary_data_output": True}
    outputs = [{"name": "LABEL", "parameters": {"classification": 2, "binary_data": True}}]
    for data in ["a", "bé"], [["a"], ["bé"]]:
        tensor_input = {"name": "TEXT", "shape": [2, 1], "datatype": "BYTES", "data": data}
        message = as_grpc(
            json.dumps({"id": "mine", "inputs": [tensor_input], "outputs": outputs, "parameters": parameters}).encode()
        )
        assert (message.model_name, message.model_version, message.id) == ("ag_news", "2", "mine")
        assert [*message.raw_input_contents] == [b"\x01\0\0\0a\x03\0\0\0b\xc3\xa9"]
        assert [*message.inputs[0].shape] == [2, 1]
        assert message.parameters["priority"].int64_param == 3
        assert [*message.parameters] == ["priority"]
        assert message.outputs[0].parameters["classification"].int64_param == 2
        assert [*message.outputs[0].parameters] == ["classification"]
    sizes = {"TEXT": b"\x01\0\0\0a", "QUALITY": b"\x04\0\0\0fast"}
    inputs = [
        {"name": name, "shape": [1, 1], "datatype": "BYTES", "parameters": {"binary_data_size": len(data)}}
        for name, data in sizes.items()
    ]
    head = json.dumps({"inputs": inputs}).encode()
    assert [*as_grpc(head + b"".join(sizes.values()), str(len(head))).raw_input_contents] == [*sizes.values()]


@pytest.mark.parametrize(
    "body",
    [
        oip([1, 2], datatype="INT32"),
        oip(["a", ["b"]]),
        oip([["a", "b"]], [2, 1]),
        oip(["a", "b"], [1]),
        oip([5]),
        b'{"inputs":[{"name":"TEXT","shape":[1,1],"datatype":"BYTES","data":["a"]}],"parameters":{"own":'
        + str(2**63).encode()
        + b"}}",
    ],
)
def test_what_triton_may_read_otherwise_goes_over_http(body: bytes) -> None:
    assert as_grpc(body) is None


@pytest.mark.parametrize(
    ("accepted", "packing"),
    [
        ("gzip, deflate", "gzip"),
        ("deflate;q=0.5", "deflate"),
        ("gzip;q=0, deflate", "deflate"),
        ("gzip; q=0.0", None),
        ("br", None),
        ("", None),
    ],
)
def test_a_large_answer_is_packed_for_who_accepts_that(
    reader: httpx.Client, accepted: str, packing: str | None
) -> None:
    sent = {"Accept-Encoding": accepted}
    large = reader.post(INFER, content=oip([f"shares {i}" for i in range(60)]), headers=sent)
    assert large.headers.get("content-encoding") == packing
    assert outputs(large)["LABEL"] == ["Business"] * 60
    assert "content-encoding" not in reader.post(INFER, content=SHARES, headers=sent).headers
