"""Streams of inferences over gRPC: their order, their errors, and their end with the key."""

import queue
from typing import Any

import tritonclient.grpc as triton

from newsdesk.server.gateway.keys import Role
from tests.server.gateway import gateways
from tests.server.gateway.rpcs import Front, bearer, headers, refused, request
from tests.service.requests import tensor


def test_a_stream_answers_in_order_and_goes_on_after_an_error(stub: Any) -> None:
    sent = [request(f"shares {i}" if i != 5 else "", id=f"{i}") for i in range(100)]
    answers = list(stub("ModelStreamInfer", iter(sent)))
    assert [answer.infer_response.id for answer in answers] == [f"{i}" for i in range(100)]
    assert [place for place, answer in enumerate(answers) if answer.error_message] == [5]
    assert "text 0: empty" in answers[5].error_message


def test_tritonclients_stream(front: Front) -> None:
    got: queue.Queue[Any] = queue.Queue()
    with triton.InferenceServerClient(front.address) as client:
        client.start_stream(lambda result, error: got.put((result, error)), headers=headers(front.key))
        client.async_stream_infer("ag_news", [tensor(["match"])], enable_empty_final_response=True)
        result, error = got.get(timeout=20)
        client.stop_stream()
    assert error is None
    assert result.as_numpy("LABEL").ravel().tolist() == [b"Sports"]
    assert result.get_response().parameters["triton_final_response"].bool_param


def test_a_revoked_key_ends_its_stream(front: Front) -> None:
    key = gateways.key(front.folder, Role.reader)
    sending: queue.Queue[Any] = queue.Queue()
    stub, _ = front.stub()
    stream = stub.ModelStreamInfer(iter(sending.get, None), metadata=bearer(key), timeout=30)
    sending.put(request("shares"))
    assert not next(stream).error_message
    assert gateways.newsdesk_keys(
        "revoke", key.split("_")[1], "--keys", str(front.folder / "keys.json")
    ).exit_code == 0  # fmt: skip
    assert refused(lambda: next(stream))[0] == "UNAUTHENTICATED"
    sending.put(None)
