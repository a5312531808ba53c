"""Several members behind one model: qualities share batches, members are asked in turn, and Prometheus is told."""

import contextlib
import json
import re
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc
from tritonclient.utils import InferenceServerException

from benchmarks import servers
from newsdesk.clients import Client, TextRefused
from newsdesk.server.contract import MAX_TEXT_BYTES, QUALITIES, Quality
from newsdesk.server.runtime import manifest
from newsdesk.server.runtime.cascade import DEFAULT
from newsdesk.server.runtime.classifier import Classifier
from newsdesk.server.runtime.unsure import STEPS, Unsure
from newsdesk.server.scoring.answers import ScoringModel
from tests import tiny
from tests.holding import until
from tests.server.scoring import jobs
from tests.service import requests

MEMBERS = ["bag", "tiny", "keen"]
TEXTS = [
    text + " said" * (i % 3)
    for i, text in enumerate(
        ["goal", "goal match", "goal match goal", "minister", "market robot", "shares market", "software", "nothing"]
        * 3
    )
]
TARGET = "onnxruntime:fp32,keen=openvino:int8"
SHARE = 0.2
NOBODY = [2.0] * (STEPS - 1)
UNSURE = Unsure(score="entropy", share=0.02, fast=[*NOBODY, 1.0], balanced=[*NOBODY, 0.8], best=[*NOBODY, 0.2])
"""By its own share nobody is marked. By SHARE, which is served, those are of whom nothing is known (1.39 nats), and
others by the quality."""


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_model(tmp_path_factory.mktemp("models"), lambda folder: tiny.write_cascade(folder, UNSURE))


@pytest.fixture(scope="module")
def cascade_server(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[servers.Server]:
    state = str(tmp_path_factory.mktemp("state"))
    options = ["--target", TARGET, "--state", state, "--unsure-share", str(SHARE)]
    with servers.newsdesk("--model-repository", str(repository), *options) as running:
        yield running


@pytest.fixture
def client(cascade_server: servers.Server) -> Iterator[tritonclient.grpc.InferenceServerClient]:
    with tritonclient.grpc.InferenceServerClient(f"127.0.0.1:{cascade_server.grpc_port}") as connection:
        yield connection


@pytest.fixture(scope="module")
def here(repository: Path) -> Classifier:
    folder = repository / "ag_news" / "1"
    return Classifier(manifest.load(folder), folder, unsure_share=SHARE)


def _metrics(server: servers.Server) -> dict[str, float]:
    """Return every sample of newsdesk's families, "name{labels}" without model and version."""
    with urllib.request.urlopen(f"http://127.0.0.1:{server.metrics_port}/metrics", timeout=10) as response:
        lines = re.findall(r"^newsdesk_(\w+){(.*)} (\S+)$", response.read().decode(), re.MULTILINE)
    samples = {}
    for name, labels, value in lines:
        kept = sorted(label for label in re.findall(r'\w+="[^"]*"', labels) if not re.match("model|version", label))
        samples[f"{name}{{{','.join(kept)}}}"] = float(value)
    return samples


def _settled(server: servers.Server) -> dict[str, float]:
    """Return the samples when each backend process has handed its counts over, as it does with a request.

    Those that make it do so here are refused, and count as failures{quality} alone; the supervisor's are balanced.
    """
    client = tritonclient.grpc.InferenceServerClient(f"127.0.0.1:{server.grpc_port}")

    def refused(_: int) -> None:
        with contextlib.suppress(InferenceServerException):
            client.infer("ag_news", [requests.tensor(["x"]), requests.quality(["worst"])])

    rounds: list[float] = []
    while len(rounds) < 3 or len(set(rounds[-3:])) > 1:
        time.sleep(0.6)
        with ThreadPoolExecutor(16) as threads:
            list(threads.map(refused, range(64)))
        samples = _metrics(server)
        asked = re.compile(r'quality="(fast|best)"|kind="(text|engine)"')
        rounds.append(sum(value for name, value in samples.items() if asked.search(name)))
    return samples


def test_the_members_stand_in_the_configuration_in_the_order_of_the_output(
    client: tritonclient.grpc.InferenceServerClient,
) -> None:
    assert client.get_model_config("ag_news").config.parameters["members"].string_value.split(",") == MEMBERS
    (shape,) = [
        output["shape"]
        for output in client.get_model_metadata("ag_news", as_json=True)["outputs"]
        if output["name"] == "MEMBER_PROBABILITIES"
    ]
    assert shape == ["-1", "3", "4"]


@pytest.mark.parametrize("asked", [None, "fast", "balanced", "best", "mixed"])
def test_the_answers_are_the_cascades(
    client: tritonclient.grpc.InferenceServerClient, here: Classifier, asked: str | None
) -> None:
    places = (
        np.arange(len(TEXTS)) % 3 if asked == "mixed" else np.full(len(TEXTS), QUALITIES.index(asked or "balanced"))
    )
    inputs = [requests.tensor(TEXTS)]
    if asked:
        inputs.append(requests.quality([QUALITIES[place] for place in places]))
    result, expected = client.infer("ag_news", inputs), here.classify(TEXTS, places)
    np.testing.assert_allclose(result.as_numpy("PROBABILITIES"), expected.probabilities, atol=1e-5)
    assert [name.decode() for name in result.as_numpy("ANSWERED_BY").ravel()] == [
        here.levels[level] for level in expected.levels
    ]
    members = result.as_numpy("MEMBER_PROBABILITIES")
    np.testing.assert_allclose(members, expected.members, atol=1e-5)
    skipped = members == -1
    assert (skipped.all(-1) == skipped.any(-1)).all()
    for row, name in zip(skipped.all(-1), result.as_numpy("ANSWERED_BY").ravel(), strict=True):
        assert [member for member, absent in zip(MEMBERS, row, strict=True) if not absent] == name.decode().split("+")


@pytest.mark.parametrize("asked", QUALITIES)
def test_answers_say_how_uncertain_they_are_and_which_are_not_sure(
    client: tritonclient.grpc.InferenceServerClient, here: Classifier, asked: str
) -> None:
    places = np.full(len(TEXTS), QUALITIES.index(asked))
    names = "UNCERTAINTY", "UNSURE"
    wanted = [tritonclient.grpc.InferRequestedOutput(name) for name in names]
    inputs = [requests.tensor(TEXTS), requests.quality([asked] * len(TEXTS))]
    result, expected = client.infer("ag_news", inputs, outputs=wanted), here.classify(TEXTS, places)
    uncertainty, unsure = map(result.as_numpy, names)
    np.testing.assert_allclose(uncertainty, here.uncertainty(expected), atol=1e-5)
    np.testing.assert_allclose(uncertainty[:, 0], uncertainty[:, 1:].sum(-1), atol=1e-6)
    assert unsure.dtype == np.bool_
    assert unsure.ravel().tolist() == here.unsure(expected, places).tolist()
    assert unsure[[i for i, text in enumerate(TEXTS) if text.startswith("nothing")]].all()
    assert not unsure.all()
    alone = client.infer("ag_news", inputs[:1], outputs=wanted[:1])
    assert [output.name for output in alone.get_response().outputs] == ["UNCERTAINTY"]


def test_requests_of_different_quality_share_batches(
    cascade_server: servers.Server, client: tritonclient.grpc.InferenceServerClient
) -> None:
    """One client library always gives QUALITY: beside requests without it Triton would batch none of them."""

    def counts() -> tuple[int, int]:
        (stats,) = client.get_inference_statistics("ag_news").model_stats
        return stats.inference_count, stats.execution_count

    before = counts()
    with Client(f"grpc://127.0.0.1:{cascade_server.grpc_port}") as sdk, ThreadPoolExecutor(32) as threads:
        asked = [*QUALITIES, None]
        answers = list(threads.map(lambda i: sdk.classify(TEXTS[i % 24], quality=asked[i % 4]), range(1200)))
    assert {answer.answered_by for answer in answers[2::4]} == {"bag+tiny+keen"}
    until(lambda: counts()[0] - before[0] >= 1200)  # Triton counts an answer after it has sent it
    texts, runs = np.subtract(counts(), before)
    assert texts < 1250
    assert texts / runs >= 2


def test_every_request_of_a_mixed_crowd_gets_its_own_answer(
    cascade_server: servers.Server, client: tritonclient.grpc.InferenceServerClient, here: Classifier
) -> None:
    """Requests of each quality, of none, of a bad one and of a bad text, 32 at a time; and the metrics count them."""
    asked: list[str | None] = [*QUALITIES, None, "worst", "bad text"]

    def infer(i: int) -> tuple[str, list[list[float]]]:
        quality, text = asked[i % 6], TEXTS[i % len(TEXTS)]
        inputs = [requests.tensor(["" if quality == "bad text" else text])]
        if quality not in (None, "bad text"):
            inputs.append(requests.quality([quality]))
        try:
            result = client.infer("ag_news", inputs)
        except InferenceServerException as error:
            return error.message(), []
        return result.as_numpy("ANSWERED_BY")[0, 0].decode(), result.as_numpy("PROBABILITIES").tolist()

    before = _settled(cascade_server)
    with ThreadPoolExecutor(32) as threads:
        answers = list(threads.map(infer, range(600)))
    levels: Counter[str] = Counter()
    for i, (level, probabilities) in enumerate(answers):
        if i % 6 >= 4:
            assert level.startswith("newsdesk refused 1 of 1 " + ("qualities", "texts")[i % 6 - 4]), level
            continue
        place = i % 6 if i % 6 < 3 else DEFAULT
        expected = here.classify([TEXTS[i % len(TEXTS)]], np.array([place]))
        assert level == here.levels[expected.levels[0]]
        np.testing.assert_allclose(probabilities, expected.probabilities, atol=1e-5)
        levels[f'answers_total{{quality="{QUALITIES[place]}",stage="{level}"}}'] += 1
    after = _settled(cascade_server)

    def grown(name: str) -> float:
        return after[name] - before[name]

    for name, count in levels.items():
        assert 0 <= grown(name) - count <= 20, name  # the supervisor asks as well
    assert grown('failures_total{kind="text"}') == 100
    assert grown('failures_total{kind="quality"}') >= 100
    assert grown('failures_total{kind="engine"}') == 0
    (texts, batches, seconds), (last, _, _) = (
        [grown(f'stage_{what}_total{{stage="{level}"}}') for what in ("texts", "batches", "seconds")]
        for level in ("bag", "bag+tiny+keen")
    )
    assert 400 <= texts < 450
    assert batches < texts
    assert seconds > 0
    at_the_end = sum(count for name, count in levels.items() if 'stage="bag+tiny+keen"' in name)
    assert 0 <= last - at_the_end <= 20


def test_a_text_that_a_member_fails_on_fails_alone(
    cascade_server: servers.Server, client: tritonclient.grpc.InferenceServerClient, here: Classifier
) -> None:
    """One member computes NaN for it; who never asks that member is answered, and so are the others of the batch."""
    before = _settled(cascade_server)
    bad = f"goal match goal {tiny.POISON}"

    def infer(i: int) -> str:
        text = TEXTS[i % len(TEXTS)] if i % 4 else bad
        try:
            result = client.infer("ag_news", [requests.tensor([text]), requests.quality(["best"])])
        except InferenceServerException as error:
            return f"{error.status()} {error.message()}"
        return result.as_numpy("LABEL")[0, 0].decode()

    expected = here.classify(TEXTS, np.full(len(TEXTS), QUALITIES.index("best"))).probabilities.argmax(-1)
    with ThreadPoolExecutor(16) as threads:
        for i, label in enumerate(threads.map(infer, range(80))):
            wanted = tiny.LABELS[expected[i % len(TEXTS)]]
            assert label == (wanted if i % 4 else "StatusCode.INTERNAL newsdesk computed no finite answer")
    fast = client.infer("ag_news", [requests.tensor([bad]), requests.quality(["fast"])])
    assert fast.as_numpy("ANSWERED_BY").ravel().tolist() == [b"bag"]
    assert _settled(cascade_server)['failures_total{kind="engine"}'] - before['failures_total{kind="engine"}'] == 20


@pytest.mark.parametrize("quality", QUALITIES)
def test_score_answers_as_the_server(
    cascade_server: servers.Server, repository: Path, tmp_path: Path, quality: Quality
) -> None:
    """`newsdesk score` computes in a process of its own, in other batches."""
    texts = [*TEXTS, "", "x" * (MAX_TEXT_BYTES + 1), "match\ud800", "goal " * 100]
    rows = tmp_path / "in.jsonl"
    rows.write_text("".join(json.dumps({"id": place, "text": text}) + "\n" for place, text in enumerate(texts)))
    model = ScoringModel(repository / "ag_news" / "1", TARGET, 1, SHARE, quality)
    jobs.score(rows, tmp_path / "out.jsonl", model, uncertainty=True)
    with Client(f"grpc://127.0.0.1:{cascade_server.grpc_port}") as client:
        expected = client.classify(texts, quality=quality, uncertainty=True)
    scored = jobs.read(tmp_path / "out.jsonl")
    assert [row["id"] for row in scored] == list(range(len(texts)))
    for row, item in zip(scored, expected, strict=True):
        if isinstance(item, TextRefused):
            assert row["error"]
            assert "label" not in row
            continue
        assert (row["label"], row["answered_by"], row["windows"], row["unsure"]) == (
            item.label, item.answered_by, item.windows, item.unsure,
        )  # fmt: skip
        assert row["probabilities"] == pytest.approx(item.probabilities, abs=1e-6)
        assert list(row["uncertainty"].values()) == pytest.approx(item.uncertainty, abs=1e-6)
