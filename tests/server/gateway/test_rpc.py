"""The gateway over gRPC: Triton's own client unchanged, and the doors and rules of its HTTP side."""

import json
import queue
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
import pytest
import tritonclient.grpc as triton
from tritonclient.grpc import service_pb2, service_pb2_grpc
from tritonclient.utils import InferenceServerException

from newsdesk.clients import AccessDenied, Client
from newsdesk.server.contract import MAX_BATCH
from newsdesk.server.gateway import inference
from newsdesk.server.gateway.keys import Role
from newsdesk.server.serving.gateway import Gateway, GatewayError
from tests.holding import Hold, until
from tests.launching import free_ports
from tests.server.gateway import gateways
from tests.server.gateway.conftest import Served
from tests.server.gateway.rpcs import INFER, SERVICE, Front, bearer, headers, refused, request, typed
from tests.service.requests import oip, tensor


def test_tritonclient_unchanged(front: Front) -> None:
    known = headers(front.key)
    with triton.InferenceServerClient(front.address) as client:
        assert client.is_server_live()
        assert client.is_server_ready()
        assert client.is_model_ready("ag_news", headers=known)
        assert client.get_server_metadata(headers=known).name == "triton"
        assert client.get_model_metadata("ag_news", headers=known).versions == ["1"]
        assert client.get_model_config("ag_news", headers=known).config.max_batch_size == 64
        assert client.get_inference_statistics("ag_news", headers=known).model_stats
        for packing in None, "gzip", "deflate":
            answer = client.infer(
                "ag_news",
                [tensor(["shares 5000", "match 1"])],
                request_id="mine",
                headers=known,
                compression_algorithm=packing,
            )
            assert answer.as_numpy("LABEL").ravel().tolist() == [b"Business", b"Sports"]
            assert answer.as_numpy("PROBABILITIES").dtype == np.float32
            assert answer.get_response().id == "mine"
        with pytest.raises(InferenceServerException, match="text 1: empty"):
            client.infer("ag_news", [tensor(["shares", ""])], headers=known)
        with pytest.raises(InferenceServerException, match=r"UNAUTHENTICATED.*A key or token is needed"):
            client.infer("ag_news", [tensor(["shares"])])


def test_the_same_answer_as_tritons_own_and_as_over_http(served: Served, front: Front, stub: Any) -> None:
    asked = request("shares 5000", "match 7", id="mine")
    asked.outputs.add(name="PROBABILITIES").parameters["classification"].int64_param = 2
    asked.outputs.add(name="LABEL")
    with grpc.insecure_channel(f"127.0.0.1:{served.server.ports[1]}") as channel:
        direct = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        assert stub("ModelInfer", asked) == direct.ModelInfer(asked)
        assert stub("ModelInfer", typed("shares 1")) == direct.ModelInfer(typed("shares 1"))
        config = service_pb2.ModelConfigRequest(name="ag_news")
        assert stub("ModelConfig", config) == direct.ModelConfig(config)
        sent = request("shares", id="in a stream")
        assert [*direct.ModelStreamInfer(iter([sent]))] == [*stub("ModelStreamInfer", iter([sent]))]
    answer = front.http.post(INFER, content=oip(["shares 5000"])).json()
    by_http = next(output["data"] for output in answer["outputs"] if output["name"] == "PROBABILITIES")
    raw = stub("ModelInfer", request("shares 5000"))
    place = [output.name for output in raw.outputs].index("PROBABILITIES")
    assert np.frombuffer(raw.raw_output_contents[place], np.float32).tolist() == pytest.approx(by_http)


@pytest.mark.parametrize("method", ["ModelInfer", "ModelConfig", "ServerMetadata", "ModelReady", "LogSettings"])
def test_every_door_asks(front: Front, stub: Any, method: str) -> None:
    kinds = {"ModelInfer": request("shares"), "LogSettings": service_pb2.LogSettingsRequest()}
    message = kinds.get(method) or getattr(service_pb2, f"{method}Request")()
    for key in "", f"nd_{'0' * 12}_{'x' * 43}", "no token":
        code, _, trailers = refused(lambda key=key: stub(method, message, key=key))
        assert (code, trailers["newsdesk-problem"]) == ("UNAUTHENTICATED", "unauthenticated")
        assert trailers["x-request-id"]


def test_no_message_of_a_stranger_is_received(front: Front) -> None:
    """Whoever shows no key is turned away before what he sends has come."""
    with grpc.insecure_channel(front.address) as channel:
        sending = queue.Queue[bytes | None]()
        call = channel.stream_unary(SERVICE + "ModelInfer")
        ended = call.future(iter(sending.get, None), timeout=10)  # which sends nothing
        assert ended.code() is grpc.StatusCode.UNAUTHENTICATED
        sending.put(None)


def test_keys_go_by_both_headers_and_roles_count(front: Front) -> None:
    stub, _ = front.stub()
    assert stub.ModelInfer(request("shares"), metadata=(("x-api-key", front.key),)).outputs
    load = service_pb2.RepositoryModelLoadRequest(model_name="ag_news")
    code, details, _ = refused(lambda: stub.RepositoryModelLoad(load, metadata=bearer(front.key)))
    assert (code, details) == ("PERMISSION_DENIED", "This needs the role operator, and the caller is reader.")
    code, details, _ = refused(lambda: stub.RepositoryModelLoad(load, metadata=bearer(front.operator)))
    assert (code, "over HTTP" in details) == ("UNIMPLEMENTED", True)
    for method in "SystemSharedMemoryRegister", "CudaSharedMemoryStatus", "TraceSetting", "LogSettings":
        message = getattr(service_pb2, f"{method}Request")()
        call = getattr(stub, method)
        assert refused(lambda call=call, message=message: call(message, metadata=bearer(front.operator)))[0] == (
            "UNIMPLEMENTED"
        )
    page = (*bearer(front.key), ("origin", "https://elsewhere.example"))
    assert refused(lambda: stub.ModelInfer(request("shares"), metadata=page))[0] == "PERMISSION_DENIED"
    audited = [
        entry for entry in gateways.logged(front.folder / "audit.jsonl") if "RepositoryModelLoad" in entry["route"]
    ]
    (entry,) = audited
    assert entry["caller"] == f"key:{front.key.split('_')[1]}"
    assert (entry["status"], entry["address"]) == (403, "127.0.0.1")


def test_calls_stand_in_log_and_metrics_as_requests_do(front: Front) -> None:
    stub, known = front.stub()
    stub.ModelInfer(request("shares"), metadata=(*known, ("x-request-id", "one-of-mine")))
    lines = [line for line in gateways.logged(front.folder / "gateway.log") if line.get("request_id") == "one-of-mine"]
    (line,) = lines
    assert (line["route"], line["status"], line["caller"]) == (
        f"{SERVICE}ModelInfer", 200, f"key:{front.key.split('_')[1]}",
    )  # fmt: skip
    assert (
        f'newsdesk_gateway_requests_total{{model="ag_news",route="{SERVICE}ModelInfer",status="200"}}'
        in front.http.get("/metrics").text
    )


def broken(**more: Any) -> service_pb2.ModelInferRequest:
    """Return a good request, changed."""
    made = request("shares")
    for name, value in more.items():
        if name == "shape":
            made.inputs[0].shape[:] = value
        elif name == "raw":
            made.raw_input_contents[:] = value
        elif name == "classified":
            made.outputs.add(name=value).parameters["classification"].int64_param = 1
        else:
            setattr(made.inputs[0], name, value)
    return made


def with_parameter(name: str, **value: Any) -> service_pb2.ModelInferRequest:
    made = request("shares")
    made.inputs[0].parameters[name].CopyFrom(service_pb2.InferParameter(**value))
    return made


def small_numbers() -> service_pb2.ModelInferRequest:
    made = service_pb2.ModelInferRequest(model_name="ag_news")
    made.inputs.add(name="TEXT", datatype="INT8", shape=[1, 1]).contents.int_contents.append(300)
    return made


@pytest.mark.parametrize(
    ("message", "says"),
    [
        (broken(shape=[2, 1]), "1 elements: shape and data disagree"),
        (broken(shape=[0, 1]), "not an inference request"),
        (broken(shape=[2**31, 1]), "not an inference request"),
        (broken(datatype="STRING"), "not an inference request"),
        (broken(raw=[b"\xff\xff\xff\xff"]), "end within an element"),
        (broken(raw=[]), "0 elements"),
        (broken(raw=[b"", b""]), "2 raw_input_contents for 1 inputs"),
        (broken(classified="LABEL"), "which only outputs with labels have: PROBABILITIES"),
        (with_parameter("shared_memory_region", string_param="a"), "'shared_memory_region'"),
        (request("x" * 300_000), "text 0: 300000 bytes, expected at most 262144"),
        (typed("shares", datatype="FP32"), "has bytes_contents, expected fp32_contents"),
        (small_numbers(), "holds 300 to 300, expected INT8"),
    ],
)
def test_what_triton_had_better_not_see_is_refused(stub: Any, message: Any, says: str) -> None:
    code, details, trailers = refused(lambda: stub("ModelInfer", message))
    assert (code, trailers["newsdesk-problem"]) == ("INVALID_ARGUMENT", "malformed")
    assert says in details
    assert stub("ModelInfer", request("shares")).outputs


def test_limits(front: Front, stub: Any) -> None:
    assert refused(lambda: stub("ModelInfer", request(*["x" * 30_000] * 40)))[0] == "RESOURCE_EXHAUSTED"
    bomb = request(*["x" * 250_000] * 20)
    assert refused(lambda: stub("ModelInfer", bomb, compression=grpc.Compression.Gzip))[0] == "RESOURCE_EXHAUSTED"
    code, details, _ = refused(lambda: stub("ModelInfer", typed(*["x"] * 100_000)))
    assert (code, "at most" in details) == ("INVALID_ARGUMENT", True)
    with grpc.insecure_channel(front.address) as channel:
        raw = channel.unary_unary(SERVICE + "ModelInfer")
        code, details, _ = refused(lambda: raw(b"\xff" * 10, metadata=bearer(front.key)))
    assert (code, details) == ("INVALID_ARGUMENT", "The message is not a ModelInferRequest.")
    for name, code in ("nothing", "NOT_FOUND"), ("../x", "NOT_FOUND"):
        other = request("shares")
        other.model_name = name
        assert refused(lambda other=other: stub("ModelInfer", other))[0] == code


# In a process of its own: its messages have the names of tritonclient's.
KSERVE = """
import asyncio, sys
from kserve import InferenceGRPCClient, InferInput, InferRequest

async def ask():
    wanted = InferRequest("ag_news", [InferInput("TEXT", [2, 1], "BYTES", ["shares", "match"])])
    headers = (("authorization", "Bearer " + sys.stdin.read()),)
    return await InferenceGRPCClient(sys.argv[1]).infer(wanted, headers=headers)

(labels,) = [output for output in asyncio.run(ask()).outputs if output.name == "LABEL"]
print(b" ".join(labels.as_numpy().ravel()).decode())
"""


def test_kserves_client_unchanged(front: Front) -> None:
    program = [sys.executable, "-c", KSERVE, front.address]
    ran = subprocess.run(program, input=front.key, capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout) == (0, "Business Sports\n"), ran.stderr


def test_the_sdk_shows_its_key(front: Front) -> None:
    with Client(f"grpc://{front.address}", api_key=front.key) as client:
        assert [answer.label for answer in client.classify(["shares", "match"])] == ["Business", "Sports"]  # type: ignore[union-attr]
    with Client(f"grpc://{front.address}", api_key="", retries=0) as client, pytest.raises(AccessDenied):
        client.classify("shares")


def posted(front: Front, path: str, body: bytes) -> socket.socket:
    """Return a connection over which a request was sent whole."""
    connection = socket.create_connection(("127.0.0.1", front.http.base_url.port or 0))
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {front.key}\r\n"
    head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    connection.sendall(head.encode() + body)
    return connection


@pytest.mark.parametrize("door", ["gRPC", "HTTP", "REST"])
def test_what_nobody_waits_for_is_given_up_in_triton(served: Served, front: Front, hold: Hold, door: str) -> None:
    """Both backend processes are busy; others leave Triton's queue with their callers. Probes stand there, too."""

    def counted(name: str, label: str = "") -> float:
        lines = httpx.get(f"http://127.0.0.1:{served.server.ports[2]}/metrics", trust_env=False).text.splitlines()
        return sum(float(line.split()[-1]) for line in lines if line.startswith(name) and label in line)

    def given_up() -> float:
        return counted("nv_inference_request_failure", "CANCELED")

    stub, known = front.stub()
    before = given_up()
    full = [request(*[f"{hold.text} {i}"] * MAX_BATCH) for i in range(2)]  # no batch holds two of them
    busy = [stub.ModelInfer.future(whole, metadata=known) for whole in full]
    hold.until_computing(2)
    if door == "gRPC":
        calls = [stub.ModelInfer.future(request("shares"), metadata=known) for _ in range(10)]
        leave = [call.cancel for call in calls]
    else:
        sent = {"HTTP": (INFER, oip(["shares"])), "REST": ("/v1/classify", b'{"text": "shares"}')}[door]
        leave = [posted(front, *sent).close for _ in range(10)]
    until(lambda: counted("nv_inference_pending_request_count") >= 8)
    for go in leave:
        go()
    for _ in range(20):  # asked of Triton behind those who leave: it has heard of them before it goes on
        stub.ModelMetadata(service_pb2.ModelMetadataRequest(name="ag_news"), metadata=known)
    hold.release()
    assert all(future.result().outputs for future in busy)
    until(lambda: given_up() > before)


def test_a_port_that_is_taken_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        gateway = Gateway(gateways.launch(tmp_path, grpc_port=taken.getsockname()[1]), tmp_path / "gateway.log")
        gateway.start()
        with pytest.raises(GatewayError, match="ended with code 3"):
            gateways.until_listening(gateway)
        gateway.wait()
    assert "--gateway-grpc-port (NEWSDESK_GATEWAY_GRPC_PORT)" in (tmp_path / "gateway.log").read_text()


def test_rates_are_those_of_http(served: Served, tmp_path: Path) -> None:
    key, port = gateways.key(tmp_path, Role.reader), free_ports()[0]
    ours = {"auth": True, "grpc_port": port, "rate_limit": "3/minute"}
    with gateways.gateway(tmp_path, served.server.ports, **ours) as client:
        assert client.get("/v1/labels", headers=headers(key)).status_code == 200
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
            both = [request("shares"), request("match")]
            answers = list(stub.ModelStreamInfer(iter(both), metadata=bearer(key)))
            assert [bool(answer.error_message) for answer in answers] == [False, True]  # the stream itself counts, too
            code, details, trailers = refused(lambda: stub.ModelInfer(request("shares"), metadata=bearer(key)))
        assert (code, details) == ("RESOURCE_EXHAUSTED", "The limit of 3 per 1 minute is reached.")
        assert 30 <= int(trailers["retry-after"]) <= 60
        assert client.get("/v1/labels", headers=headers(key)).status_code == 429


def test_who_leaves_is_not_computed_for(front: Front, hold: Hold) -> None:
    """The deadline is passed on, and what waited for it is out of the queue, before the model has answered."""
    known = (*bearer(front.key), ("x-request-id", "who-leaves"))
    leaving = front.stub()[0].ModelInfer.future(request(hold.text), metadata=known, timeout=1)
    hold.until_computing()
    assert refused(leaving.result)[0] == "DEADLINE_EXCEEDED"
    until(lambda: gateways.queued(front.http, 0))
    lines = (line for line in gateways.logged(front.folder / "gateway.log") if line.get("request_id") == "who-leaves")
    assert [line["status"] in (499, 504) for line in lines] == [True]  # the caller left, or its time was over


def test_a_request_is_known_whatever_its_id_and_its_protocol() -> None:
    def by_http(**more: Any) -> bytes:
        return inference.content(*inference.read(json.dumps(json.loads(oip(["shares"])) | more).encode(), None, 9999))  # type: ignore[arg-type]

    from newsdesk.server.gateway.rpc import messages

    known = inference.content(*messages.read(request("shares", id="one"), 9999))
    assert known == by_http() == by_http(id="another", parameters={"timeout": 5})
    assert known == inference.content(*messages.read(typed("shares"), 9999))
    assert known != inference.content(*messages.read(request("match", id="one"), 9999))
