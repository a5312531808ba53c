"""Malformed protocol by a bounded fuzz: a clean error or an answer, and the next is answered (notes 06 to 08)."""

import json
import struct

import grpc
from hypothesis import given, settings
from hypothesis import strategies as st
from tritonclient.grpc import service_pb2

from benchmarks.servers import Server
from tests.headlines import TEXTS
from tests.service import requests

GOOD = TEXTS[13]
METHOD = "/inference.GRPCInferenceService/ModelInfer"
LENGTHS = st.one_of(
    st.integers(-(2**63), 2**64), st.sampled_from([-1, 0, 1, 2**31 - 1, 2**31, 2**32, 2**63 - 1]), st.integers(0, 300)
)


def valid_grpc() -> bytes:
    text = GOOD.encode()
    request = service_pb2.ModelInferRequest(
        model_name="ag_news", raw_input_contents=[struct.pack("<I", len(text)) + text]
    )
    request.inputs.add(name="TEXT", datatype="BYTES", shape=[1, 1])
    return request.SerializeToString()


def mutated(data: st.DataObject, body: bytes) -> bytes:
    """Return the body with one to four places changed, cut out or added to."""
    made = bytearray(body)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, max(0, len(made) - 1)))
        match data.draw(st.sampled_from(["change", "cut", "insert", "truncate"])):
            case "change" if made:
                made[at] = data.draw(st.integers(0, 255))
            case "cut":
                del made[at : at + data.draw(st.integers(1, 30))]
            case "insert":
                made[at:at] = data.draw(st.binary(max_size=20))
            case "truncate":
                del made[at:]
    return bytes(made)


def outcome(infer: grpc.UnaryUnaryMultiCallable, body: bytes) -> tuple[grpc.StatusCode, str]:
    try:
        infer(body, timeout=20)
    except grpc.RpcError as error:
        return error.code(), error.details()
    return grpc.StatusCode.OK, "answered"


@settings(max_examples=150)
@given(data=st.data())
def test_raw_bytes_over_grpc(server: Server, data: st.DataObject) -> None:
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        infer = channel.unary_unary(METHOD)  # no serialiser: bytes as they are
        code, message = outcome(infer, mutated(data, valid_grpc()))
        assert code not in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED), message
        assert message
        answer = service_pb2.ModelInferResponse.FromString(infer(valid_grpc(), timeout=20))
    assert b"Business" in b"".join(answer.raw_output_contents)


@settings(max_examples=100)
@given(shape=st.lists(LENGTHS.filter(lambda n: -(2**63) <= n < 2**63), max_size=4), size=st.integers(0, 2**32 - 1))
def test_shapes_and_sizes_that_lie_over_grpc(server: Server, shape: list[int], size: int) -> None:
    """The text's own length prefix, and the tensor's shape."""
    request = service_pb2.ModelInferRequest(model_name="ag_news")
    request.raw_input_contents.append(struct.pack("<I", size) + GOOD.encode())
    request.inputs.add(name="TEXT", datatype="BYTES", shape=shape)
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        infer = channel.unary_unary(METHOD)
        code, message = outcome(infer, request.SerializeToString())
        true = shape == [1, 1] and size == len(GOOD.encode())
        assert code == (grpc.StatusCode.OK if true else grpc.StatusCode.INVALID_ARGUMENT), message
        assert infer(valid_grpc(), timeout=20)


@settings(max_examples=100)
@given(head=LENGTHS, size=LENGTHS)
def test_lengths_that_lie_in_a_binary_request_over_http(server: Server, head: int, size: int) -> None:
    """The header's length of the JSON part, and the JSON's size of the binary part."""
    text = GOOD.encode()
    raw = struct.pack("<I", len(text)) + text
    tensor = {"name": "TEXT", "shape": [1, 1], "datatype": "BYTES", "parameters": {"binary_data_size": size}}
    body = json.dumps({"inputs": [tensor]}).encode() + raw
    status, _ = requests.post(server.http_port, body, {"Inference-Header-Content-Length": str(head)})
    assert status in (200, 400, 500)
    status, answer = requests.post(server.http_port, requests.oip([GOOD]))
    assert status == 200
    assert b'"Business"' in answer
