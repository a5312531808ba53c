"""Work that nobody waits for is dropped before it is computed."""

import contextlib
import json
import re
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import tritonclient.grpc
from tritonclient.utils import InferenceServerException

from newsdesk.clients import Client
from newsdesk.clients.errors import DeadlineExceeded
from tests.holding import until
from tests.launching import MODEL, Server, write_repository
from tests.service.requests import oip, tensor

SLOW = MODEL.replace(
    "responses = []",
    """import os, time
        responses = []
        for request in requests:
            self.seen += pb_utils.get_input_tensor_by_name(request, "TEXT").as_numpy().ravel().tolist()
        if b"slow" in self.seen[-1]:
            folder = self.seen[-1].decode().partition(" ")[2]
            open(f"{folder}/computing", "w").close()
            until = time.monotonic() + 30
            while not os.path.exists(f"{folder}/released") and time.monotonic() < until:
                time.sleep(0.01)
        self.about = json.dumps([text.decode() for text in self.seen])""",
).replace(
    "import newsdesk.server.runtime as ensemble", "self.seen = []\n        import newsdesk.server.runtime as ensemble"
)


@contextlib.contextmanager
def busy(slow: Server, folder: Path, threads: ThreadPoolExecutor) -> Iterator[None]:
    """Keep the backend process busy, and see its answer at the end."""
    computing = threads.submit(slow.classify, f"slow {folder}")
    until((folder / "computing").exists)
    try:
        yield
        time.sleep(0.3)  # three times the deadlines
    finally:
        (folder / "released").touch()
    assert computing.result()[0] == 200


def waiting(slow: Server) -> int:
    """Return how many requests stand in Triton's queue."""
    with urllib.request.urlopen(f"http://127.0.0.1:{slow.ports[2]}/metrics", timeout=10) as response:
        metrics = response.read().decode()
    return sum(map(int, re.findall(r"^nv_inference_pending_request_count{.*} (\d+)$", metrics, re.MULTILINE)))


@pytest.fixture
def slow(launch: Callable[..., Server], tmp_path: Path) -> Server:
    """One backend process, which is busy with the text "slow <folder>" until there is a file "released" in it."""
    options = ["--target", "openvino:int8", "--instances", "1", "--no-gateway"]
    server = launch(write_repository(tmp_path / "models", SLOW), options=options)
    server.until("Ctrl-C stops it")
    return server


def test_what_nobody_waits_for_is_not_computed(slow: Server, tmp_path: Path) -> None:
    """B 20. A gRPC client that cancels, vanishes or has a deadline of its own; over HTTP, where Triton 24.10 does not
    see a client go, the request's `timeout` in microseconds."""
    with (
        tritonclient.grpc.InferenceServerClient(f"127.0.0.1:{slow.ports[1]}") as client,
        ThreadPoolExecutor(8) as threads,
    ):
        with busy(slow, tmp_path, threads):
            kept = threads.submit(slow.classify, "kept")
            refused = threads.submit(client.infer, "ag_news", [tensor(["late"])], timeout=100_000)
            body = json.loads(oip(["late over HTTP"])) | {"parameters": {"timeout": 100_000}}
            late = threads.submit(slow.ask, "/v2/models/ag_news/infer", body)
            until(lambda: waiting(slow) >= 3)
            with pytest.raises(InferenceServerException):
                client.infer("ag_news", [tensor(["deadline"])], client_timeout=0.1)
            before = waiting(slow)
            cancelled = client.async_infer("ag_news", [tensor(["cancelled"])], lambda result, error: None)
            until(lambda: waiting(slow) > before)
            cancelled.cancel()
        assert isinstance(refused.exception(), InferenceServerException)
        assert late.result()[0] == 503
        assert kept.result()[0] == 200
        seen = json.loads(slow.classify("about")[1]["ANSWERED_BY"][0])
    assert {f"slow {tmp_path}", "kept"} <= set(seen)
    assert not {"late", "deadline", "late over HTTP", "cancelled"} & set(seen)


def test_the_sdk_says_how_long_it_waits(slow: Server, tmp_path: Path) -> None:
    with Client(f"http://127.0.0.1:{slow.ports[0]}", retries=0) as client, ThreadPoolExecutor(1) as threads:
        client.classify("first")
        with busy(slow, tmp_path, threads), pytest.raises(DeadlineExceeded):
            client.classify("given up", timeout=0.2)
        seen = json.loads(slow.classify("about")[1]["ANSWERED_BY"][0])
    assert "first" in seen
    assert "given up" not in seen
