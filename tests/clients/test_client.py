"""The two clients' answers, over both protocols of a real Triton."""

import asyncio
import dataclasses
import itertools
import json
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from newsdesk.clients import AsyncClient, Client, Prediction, TextRefused
from newsdesk.clients.options import Options
from newsdesk.clients.transports import ModelFacts, parse
from newsdesk.clients.triton_http import _infer_request
from tests.clients.texts import POISON, WORDS, numbered

Classify = Callable[..., Any]
EMPTY = "empty, expected at least one visible character"


@pytest.fixture(params=["blocking", "asyncio"])
def classify(request: pytest.FixtureRequest, any_url: str) -> Classify:
    """`classify` of a client of its own, of either kind."""

    async def classify_once(texts: Any, **options: Any) -> Any:
        async with AsyncClient(any_url, timeout=20) as client:
            return await client.classify(texts, **options)

    def classify(texts: Any, **options: Any) -> Any:
        if request.param == "asyncio":
            return asyncio.run(classify_once(texts, **options))
        with Client(any_url, timeout=20) as client:
            return client.classify(texts, **options)

    return classify


def test_one_text(classify: Classify) -> None:
    prediction = classify("a match 5000")
    expected = {"Sports": 0.75, "Business": 0.1063830, "Sci/Tech": 0.0797872, "World": 0.0638298}
    assert isinstance(prediction, Prediction)
    assert (prediction.index, prediction.label, prediction.answered_by) == (0, "Sports", "stand-in")
    assert prediction.probabilities == pytest.approx(expected, abs=1e-6)


def test_probabilities_are_ordered_and_whole(classify: Classify) -> None:
    prediction = classify("shares")
    shares = list(prediction.probabilities.values())
    assert shares == sorted(shares, reverse=True)
    assert sum(shares) == pytest.approx(1, abs=1e-6)
    assert next(iter(prediction.probabilities)) == prediction.label == "Business"
    assert prediction.probability == shares[0]


@pytest.mark.parametrize(("top_k", "count"), [(1, 1), (2, 2), (4, 4), (99, 4)])
def test_top_k(classify: Classify, top_k: int, count: int) -> None:
    whole = classify("a match")
    assert list(classify("a match", top_k=top_k).probabilities.items()) == list(whole.probabilities.items())[:count]


@pytest.mark.parametrize("count", [0, 1, 2, 16, 64, 65, 300])  # one request takes 64
def test_a_list_gives_a_list_of_its_length(classify: Classify, count: int) -> None:
    answers = classify([numbered(number)[0] for number in range(count)])
    assert [answer.index for answer in answers] == list(range(count))
    assert [answer.label for answer in answers] == [numbered(number)[1] for number in range(count)]


def test_order_of_1000_texts_of_mixed_length(classify: Classify) -> None:
    numbers = [(number * 7919) % 10_000 for number in range(1000)]
    answers = classify([numbered(number)[0] for number in numbers])
    assert [answer.probability for answer in answers] == pytest.approx([numbered(n)[2] for n in numbers], abs=1e-6)


@pytest.mark.parametrize("kind", [list, tuple, iter, lambda texts: np.array(texts, dtype=object), np.array])
def test_any_one_dimensional_collection(classify: Classify, kind: Callable[[list[str]], Any]) -> None:
    assert [answer.label for answer in classify(kind(list(WORDS)))] == list(WORDS.values())


def test_bad_texts_are_refused_at_their_places_and_the_others_answered(classify: Classify) -> None:
    bad: dict[int, tuple[str | bytes, str]] = {
        0: ("", EMPTY),
        3: (" \t\n ", EMPTY),
        4: (b"match \xff", "not UTF-8 (byte 6 is 0xff), send UTF-8"),
        63: ("match \ud800", "not UTF-8 (character 6 is the lone surrogate '\\ud800'), send UTF-8"),
        64: ("x" * 1_000_000, "1000000 bytes, expected at most 262144, send a shorter text"),
        150: (b"\xc3", "not UTF-8 (byte 0 is 0xc3), send UTF-8"),
    }
    texts: list[str | bytes] = [bad[index][0] if index in bad else f"match {index}" for index in range(151)]
    answers = classify(texts)
    assert [answer.index for answer in answers] == list(range(151))
    for index, answer in enumerate(answers):
        if index in bad:
            assert isinstance(answer, TextRefused)
            assert answer.reason == bad[index][1]
        else:
            assert answer.probability == pytest.approx(0.6 + 0.3 * index / 10_000, abs=1e-6)


def test_a_whole_batch_refused(classify: Classify) -> None:
    answers = classify([b"\xff" * (index + 1) for index in range(64)])
    assert all(answer.reason == "not UTF-8 (byte 0 is 0xff), send UTF-8" for answer in answers)
    assert [answer.index for answer in answers] == list(range(64))


@pytest.mark.parametrize("text", ["", "   ", b"\xff", "\udcff", "x" * 1_000_000])
def test_a_bad_text_alone_raises(classify: Classify, text: str | bytes) -> None:
    with pytest.raises(TextRefused, match=r"^text 0 is refused: .+"):
        classify(text)


def test_poison_is_answered_and_leaves_the_server_well(classify: Classify) -> None:
    assert [answer.label for answer in classify(list(POISON))] == ["Sports"] * len(POISON)
    assert [classify(text).label for text in POISON[:2]] == ["Sports"] * 2
    assert classify("shares").label == "Business"


@pytest.mark.parametrize("texts", [None, 3, ["match", None], [["match"]], [bytearray(b"match")]])
def test_what_is_no_text_is_a_type_error(classify: Classify, texts: Any) -> None:
    with pytest.raises(TypeError):
        classify(texts)


def test_top_k_below_one_is_a_value_error(classify: Classify) -> None:
    with pytest.raises(ValueError, match="top_k is 0, expected at least 1"):
        classify("match", top_k=0)


@pytest.mark.parametrize("texts", ["match", ["match"] * 100])
def test_a_quality_reaches_every_text(classify: Classify, texts: Any) -> None:
    for quality, level in ((None, "stand-in"), ("fast", "stand-in"), ("best", "stand-in+careful")):
        answers = classify(texts, quality=quality)
        assert {answer.answered_by for answer in (answers if isinstance(answers, list) else [answers])} == {level}


def test_a_wrong_quality_is_a_value_error(classify: Classify) -> None:
    with pytest.raises(ValueError, match="quality is 'finest', expected one of fast, balanced, best"):
        classify("match", quality="finest")


def test_members_are_told_only_when_asked_for(classify: Classify) -> None:
    assert classify("a match 5000").members is None
    quick = classify("a match 5000", members=True, top_k=1)
    assert quick.members == {"stand-in": classify("a match 5000").probabilities}
    both = classify(["a match 5000", ""], members=True, quality="best")[0]
    assert both.members == quick.members | {"careful": dict.fromkeys(WORDS.values(), 0.25)}


def test_what_is_not_sure_is_marked_and_how_uncertain_it_is_told_when_asked_for(classify: Classify) -> None:
    plain = classify(["match lol", "match", ""])
    assert [(answer.unsure, answer.uncertainty) for answer in plain[:2]] == [(True, None), (False, None)]
    assert [answer.uncertainty for answer in classify(["match", "lol"], uncertainty=True)] == [(0.75, 0.5, 0.25)] * 2


def test_the_windows_of_a_long_text_are_counted(classify: Classify) -> None:
    assert [answer.windows for answer in classify(["match", "match" + " " * 2500 + "x"])] == [1, 3]


def test_stream_is_lazy_and_in_order(client: Client) -> None:
    drawn = itertools.count()
    stream = client.stream(f"match {next(drawn)}" for _ in itertools.count())
    answers = list(itertools.islice(stream, 1000))
    stream.close()  # type: ignore[attr-defined]
    assert [answer.index for answer in answers] == list(range(1000))
    assert next(drawn) <= 1000 + 64 * 10


def test_async_stream(url: str) -> None:
    async def collect() -> list[Any]:
        async with AsyncClient(url) as client:
            return [answer async for answer in client.stream((numbered(n)[0] for n in range(500)), top_k=1)]

    assert [answer.label for answer in asyncio.run(collect())] == [numbered(number)[1] for number in range(500)]


def test_labels_in_the_models_order(client: Client) -> None:
    assert client.labels() == ("World", "Sports", "Business", "Sci/Tech")


def test_prediction_is_frozen_and_both_kinds_of_item_pickle(client: Client) -> None:
    prediction, refusal = client.classify(["match", ""])
    with pytest.raises(dataclasses.FrozenInstanceError):
        prediction.label = "World"  # type: ignore[misc, union-attr]
    assert pickle.loads(pickle.dumps(prediction)) == prediction
    copy = pickle.loads(pickle.dumps(refusal))
    assert (copy.index, copy.reason, str(copy)) == (1, EMPTY, str(refusal))


def test_connections_are_reused_and_opened_anew_after_close(client: Client) -> None:
    assert client.classify("match").label == "Sports"
    client.close()
    client.close()
    assert client.classify("match").label == "Sports"


@pytest.mark.parametrize(
    ("url", "netloc"),
    [
        ("grpc://[::1]", "[::1]:8001"),
        ("grpc://[::1]:9001", "[::1]:9001"),
        ("http://[2001:db8::7]", "[2001:db8::7]:8000"),
        ("gateway+https://[::1]/behind", "[::1]:443"),
    ],
)
def test_an_ipv6_address_stands_in_brackets(url: str, netloc: str) -> None:
    assert parse(url, "ag_news").netloc == netloc


@pytest.mark.parametrize(
    "url", ["", "127.0.0.1:8001", "ftp://host", "grpc://", "http://host:port", "grpc://host/path", "http://a@host"]
)
@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_a_wrong_url_is_a_value_error(kind: Callable[[str], object], url: str) -> None:
    with pytest.raises(ValueError, match=r"expected grpc://host:port, http://host:port or gateway"):
        kind(url)


def test_http_tensors_are_binary() -> None:
    body, headers = _infer_request([b"one", b"two \xff"], Options(quality="best"), ModelFacts(("a",), (), 8), 1.5)
    head = json.loads(body[: int(headers["Inference-Header-Content-Length"])])
    assert head["inputs"] == [
        {"name": "TEXT", "datatype": "BYTES", "shape": [2, 1], "parameters": {"binary_data_size": 16}},
        {"name": "QUALITY", "datatype": "BYTES", "shape": [2, 1], "parameters": {"binary_data_size": 16}},
    ]
    assert head["parameters"]["timeout"] == 1_500_000
    assert body.endswith(b"\4\0\0\0best\4\0\0\0best")
    assert all(output["parameters"] == {"binary_data": True} for output in head["outputs"])
