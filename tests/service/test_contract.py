"""The served model keeps its promises (field notes 01, 02, 05, 07, 10, 12, 16)."""

import asyncio
import json
import subprocess

import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.grpc.aio
import tritonclient.http
from tritonclient.utils import InferenceServerException

from benchmarks.servers import Server
from newsdesk.server.runtime import manifest
from newsdesk.server.serving.settings import default_repository
from tests.headlines import HEADLINES, TEXTS
from tests.service import requests

SHIPPED = manifest.load(default_repository() / "ag_news" / "1")
MEMBERS = [member.name for member in SHIPPED.members]
DOUBTS = [("UNCERTAINTY", "FP32", ["-1", "3"]), ("UNSURE", "BOOL", ["-1", "1"])] if SHIPPED.unsure else []
"""Models of builds before there were these have neither."""
LABELS = ["World", "Sports", "Business", "Sci/Tech"]


def test_metadata_and_configuration(grpc: tritonclient.grpc.InferenceServerClient) -> None:
    metadata = grpc.get_model_metadata("ag_news", as_json=True)
    assert [(t["name"], t["datatype"], t["shape"]) for t in metadata["inputs"]] == [
        ("TEXT", "BYTES", ["-1", "1"]),
        ("QUALITY", "BYTES", ["-1", "1"]),
    ]
    assert [(t["name"], t["datatype"], t["shape"]) for t in metadata["outputs"]] == [
        ("LABEL", "BYTES", ["-1", "1"]),
        ("PROBABILITIES", "FP32", ["-1", "4"]),
        ("ANSWERED_BY", "BYTES", ["-1", "1"]),
        ("WINDOWS", "INT32", ["-1", "1"]),
        ("MEMBER_PROBABILITIES", "FP32", ["-1", str(len(MEMBERS)), "4"]),
        *DOUBTS,
    ]
    config = grpc.get_model_config("ag_news").config
    assert config.backend == "python"
    assert [tensor.optional for tensor in config.input] == [False, True]
    assert config.parameters["members"].string_value.split(",") == MEMBERS
    assert config.max_batch_size >= 64
    assert config.HasField("dynamic_batching")
    assert config.dynamic_batching.max_queue_delay_microseconds == 0
    assert config.dynamic_batching.default_queue_policy.max_queue_size > 0
    assert not config.model_transaction_policy.decoupled  # field note 16: no BLS, nothing decoupled
    (probabilities,) = [output for output in config.output if output.name == "PROBABILITIES"]
    assert probabilities.label_filename == "labels.txt"


def test_the_labels_file_holds_the_labels_in_order() -> None:
    assert (default_repository() / "ag_news" / "labels.txt").read_text().split("\n") == [*LABELS, ""]


@pytest.mark.parametrize("n", [1, 2, 16, 64])
def test_shapes_and_order(grpc: tritonclient.grpc.InferenceServerClient, n: int) -> None:
    texts = [TEXTS[i % len(TEXTS)] for i in range(n)]
    result = grpc.infer("ag_news", [requests.tensor(texts)])
    assert result.as_numpy("LABEL").shape == (n, 1)
    assert result.as_numpy("ANSWERED_BY").shape == (n, 1)
    assert result.as_numpy("WINDOWS").tolist() == [[1]] * n
    assert result.as_numpy("MEMBER_PROBABILITIES").shape == (n, len(MEMBERS), 4)
    probabilities = result.as_numpy("PROBABILITIES")
    assert probabilities.shape == (n, 4)
    assert probabilities.dtype == np.float32
    np.testing.assert_allclose(probabilities.sum(-1), 1, atol=1e-5)
    named = [LABELS[i].encode() for i in probabilities.argmax(-1)]
    assert result.as_numpy("LABEL").ravel().tolist() == named
    alone = [requests.labels(grpc, [text])[0].encode() for text in texts[:24]]
    assert named[:24] == alone


def test_it_knows_the_news(grpc: tritonclient.grpc.InferenceServerClient) -> None:
    answers = requests.labels(grpc, TEXTS)
    right = sum(answer == label for answer, (_, label) in zip(answers, HEADLINES, strict=True))
    assert right >= 21, list(zip(answers, HEADLINES, strict=True))


def test_every_client_gets_the_same_answer(server: Server, http: tritonclient.http.InferenceServerClient) -> None:
    text = "Wall Street bears claw back into the black"
    over_http = http.infer("ag_news", [requests.tensor([text], tritonclient.http)])
    expected = over_http.as_numpy("PROBABILITIES").ravel()
    assert over_http.as_numpy("LABEL").ravel().tolist() == [b"Business"]

    with tritonclient.grpc.InferenceServerClient(f"127.0.0.1:{server.grpc_port}") as client:
        over_grpc = requests.probabilities(client, [text]).ravel()

    async def infer() -> np.ndarray:
        async with tritonclient.grpc.aio.InferenceServerClient(f"127.0.0.1:{server.grpc_port}") as client:
            result = await client.infer("ag_news", [requests.tensor([text])])
            return result.as_numpy("PROBABILITIES").ravel()

    url = f"http://127.0.0.1:{server.http_port}/v2/models/ag_news/infer"
    curl = subprocess.run(
        ["curl", "--silent", "--fail", url, "--data", requests.oip([text]).decode()], capture_output=True, check=True
    )
    by_name = {output["name"]: output["data"] for output in json.loads(curl.stdout)["outputs"]}
    assert by_name["LABEL"] == ["Business"]
    for probabilities in over_grpc, asyncio.run(infer()), by_name["PROBABILITIES"]:
        np.testing.assert_allclose(probabilities, expected, atol=1e-6)


def test_only_what_is_asked_for_comes_back(grpc: tritonclient.grpc.InferenceServerClient) -> None:
    wanted = [tritonclient.grpc.InferRequestedOutput(name) for name in ("WINDOWS", "LABEL")]
    result = grpc.infer("ag_news", [requests.tensor(TEXTS[:3])], outputs=wanted)
    assert sorted(output.name for output in result.get_response().outputs) == ["LABEL", "WINDOWS"]


def test_the_end_of_a_long_article_is_read(grpc: tritonclient.grpc.InferenceServerClient) -> None:
    """Nothing is cut: three quarters of sport behind a quarter of business, far beyond any member's maximum length."""
    business, sports = (
        " ".join(text for text, label in HEADLINES if label == wanted) for wanted in ("Business", "Sports")
    )
    long = " ".join([business] * 5 + [sports] * 15)
    result = grpc.infer("ag_news", [requests.tensor([long, TEXTS[0]]), requests.quality(["best"] * 2)])
    assert result.as_numpy("LABEL").ravel().tolist() == [b"Sports", b"World"]
    windows = result.as_numpy("WINDOWS").ravel()
    assert windows[0] >= 5
    assert windows[1] == 1


@pytest.mark.parametrize("quality", ["fast", "balanced", "best"])
def test_every_quality_is_answered(grpc: tritonclient.grpc.InferenceServerClient, quality: str) -> None:
    result = grpc.infer("ag_news", [requests.tensor(TEXTS), requests.quality([quality] * len(TEXTS))])
    named = result.as_numpy("LABEL").ravel().tolist()
    right = sum(answer.decode() == label for answer, (_, label) in zip(named, HEADLINES, strict=True))
    assert right >= 20


def test_no_quality_means_balanced(grpc: tritonclient.grpc.InferenceServerClient) -> None:
    tensor = requests.tensor(TEXTS)
    without = grpc.infer("ag_news", [tensor])
    balanced = grpc.infer("ag_news", [tensor, requests.quality(["balanced"] * len(TEXTS))])
    for name in "PROBABILITIES", "ANSWERED_BY", "MEMBER_PROBABILITIES":
        assert without.as_numpy(name).tolist() == balanced.as_numpy(name).tolist()


def test_classification_extension_names_the_classes(grpc: tritonclient.grpc.InferenceServerClient) -> None:
    """Field note 10: labels appear only when classes are asked for, as "probability:index:label"."""
    wanted = tritonclient.grpc.InferRequestedOutput("PROBABILITIES", class_count=2)
    result = grpc.infer("ag_news", [requests.tensor([TEXTS[12]])], outputs=[wanted])
    best, second = (text.decode().split(":") for text in result.as_numpy("PROBABILITIES").ravel())
    assert best[1:] == ["2", "Business"]
    assert 0.5 < float(best[0]) <= 1
    assert second[2] in LABELS


def test_one_dimensional_input_is_refused_with_the_shape_expected(
    grpc: tritonclient.grpc.InferenceServerClient,
) -> None:
    tensor = tritonclient.grpc.InferInput("TEXT", [1], "BYTES")
    tensor.set_data_from_numpy(np.array([b"a text"], np.object_))
    with pytest.raises(InferenceServerException, match=r"\[-1,1\].*\[1\]"):
        grpc.infer("ag_news", [tensor])


def test_more_texts_than_the_shape_says_are_refused_with_counts(server: Server) -> None:
    status, body = requests.post(server.http_port, requests.oip(["one", "two"], [1, 1]))
    assert status == 400
    assert b"2" in body
    assert b"1" in body


def test_a_batch_over_the_maximum_is_refused_with_the_maximum(
    grpc: tritonclient.grpc.InferenceServerClient,
) -> None:
    most = grpc.get_model_config("ag_news").config.max_batch_size
    with pytest.raises(InferenceServerException, match=f"must be <= {most}"):
        grpc.infer("ag_news", [requests.tensor(["text"] * (most + 1))])


def test_the_perf_analyzer_input_is_answered(grpc: tritonclient.grpc.InferenceServerClient) -> None:
    """Note 12: each entry of the file that docs/benchmarks.md gives to perf_analyzer names TEXT, and is answered."""
    entries = json.loads((default_repository().parent / "benchmarks" / "perf_analyzer.json").read_text())["data"]
    assert len(entries) >= 32
    for entry in entries:
        (text,) = entry["TEXT"]
        assert requests.labels(grpc, [text])[0] in LABELS
