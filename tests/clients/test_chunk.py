"""Chunks, refusals and tensors without a server."""

import contextlib
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from newsdesk.clients.chunk import Chunk, cut
from newsdesk.clients.deadline import Deadline, Retries
from newsdesk.clients.errors import (
    BadResponse,
    DeadlineExceeded,
    Incomplete,
    RequestRefused,
    ServerUnavailable,
    TextRefused,
    error_of,
)
from newsdesk.clients.options import Options
from newsdesk.clients.tensors import (
    OPTIONAL,
    Tensor,
    pack_texts,
    read_answers,
    read_labels,
    read_members,
    unpack_texts,
)
from newsdesk.clients.tensors import outputs as wanted
from newsdesk.clients.transports import ModelFacts, ServerAnswer
from newsdesk.server.contract import MEMBER_PROBABILITIES, STANDARD_OUTPUTS

MODEL = ModelFacts(("World", "Sports", "Business", "Sci/Tech"), ("quick", "careful"), 64)
EXPLAINED = Options(members=True)


@given(st.lists(st.text()))
def test_texts_come_out_of_a_tensor_as_they_went_in(texts: list[str]) -> None:
    encoded = [text.encode("utf-8", "ignore") for text in texts]
    assert unpack_texts(pack_texts(encoded)) == [text.decode() for text in encoded]


@given(st.binary(max_size=40))
def test_no_bytes_do_more_than_raise_bad_response(data: bytes) -> None:
    with contextlib.suppress(BadResponse):
        unpack_texts(data)


@given(st.lists(st.text(max_size=5), max_size=50), st.integers(1, 9))
def test_cut_keeps_every_text_in_order(texts: list[str], most: int) -> None:
    chunks = list(cut(texts, most))
    assert all(1 <= len(chunk.items) <= most for chunk in chunks)
    assert sum(len(chunk.items) for chunk in chunks) == len(texts)
    sent = [text for chunk in chunks for text in chunk.waiting]
    refused = [item for chunk in chunks for item in chunk.items if isinstance(item, TextRefused)]
    assert len(sent) + len(refused) == len(texts)
    assert all(texts[item.index].encode("utf-8", "replace") not in sent or item for item in refused)


def test_cut_keeps_a_request_small() -> None:
    assert [len(chunk.items) for chunk in cut(["x" * 3_000_000] * 5, 64)] == [2, 2, 1]
    assert [len(chunk.items) for chunk in cut(["x" * 30_000_000] * 2, 64)] == [1, 1]


def refused(message: str, count: int = 8) -> tuple[bool, dict[int, str], int]:
    (chunk,) = cut([f"text {index}" for index in range(count)], count)
    rest = chunk.refuse(RequestRefused(f"grpc://host refuses the request (INVALID_ARGUMENT): {message}"))
    reasons = {item.index: item.reason for item in chunk.items if isinstance(item, TextRefused)}
    return rest, reasons, len(chunk.waiting)


def test_the_servers_refusal_is_understood() -> None:
    message = (
        "newsdesk refused 2 of 8 texts. text 3: empty, expected at least one visible character; "
        "text 5: not UTF-8 (byte 12 is 0xff), send UTF-8; text 99: nonsense; and 20 more"
    )
    assert refused(message) == (
        True,
        {3: "empty, expected at least one visible character", 5: "not UTF-8 (byte 12 is 0xff), send UTF-8"},
        6,
    )


@pytest.mark.parametrize(
    "message",
    ["batch-size must be <= 64", "newsdesk refused 1 of 8 texts.", "newsdesk refused 1 of 8 texts. text 8: beyond", ""],
)
def test_other_refusals_are_left_alone(message: str) -> None:
    assert refused(message) == (False, {}, 8)


def test_refusals_keep_their_places_over_several_answers() -> None:
    chunk = Chunk(100)
    for text in ("a", "\ud800", "b", "c"):
        chunk.add(text)
    assert chunk.refuse(RequestRefused("newsdesk refused 1 of 3 texts. text 1: first; and more"))
    assert chunk.refuse(RequestRefused("newsdesk refused 1 of 2 texts. text 1: second"))
    assert chunk.waiting == [b"a"]
    reasons = [(item.index, item.reason) for item in chunk.items if isinstance(item, TextRefused)]
    assert [reasons[0][0], *reasons[1:]] == [101, (102, "first; and more"), (103, "second")]


def test_an_answer_that_lacks_outputs_is_asked_for_once_more_past_the_cache() -> None:
    chunk = Chunk(0)
    for text in "a", "b":
        chunk.add(text)
    assert not chunk.pass_cache(BadResponse("another shape"))
    assert chunk.waiting == [b"a", b"b"]
    assert chunk.pass_cache(Incomplete("no LABEL"))
    marked = chunk.waiting
    assert [text.rstrip() for text in marked] == [b"a", b"b"] != marked
    assert not chunk.pass_cache(Incomplete("no LABEL"))
    other = Chunk(0)
    other.add("a")
    assert other.pass_cache(Incomplete("no LABEL"))
    assert other.waiting != marked[:1]


def outputs(count: int = 2, **changes: Tensor) -> dict[str, Tensor]:
    texts = Tensor((count, 1), pack_texts([b"World"] * count))
    rows = Tensor((count, 4), np.full((count, 4), 0.25, "<f4").tobytes())
    windows = Tensor((count, 1), np.arange(count, dtype="<i4").tobytes())
    members = Tensor((count, 2, 4), np.full((count, 2, 4), -1, "<f4").tobytes())
    named = {
        "LABEL": texts,
        "PROBABILITIES": rows,
        "ANSWERED_BY": texts,
        "WINDOWS": windows,
        MEMBER_PROBABILITIES: members,
    }
    return named | changes


def test_answers_are_read() -> None:
    answers = read_answers(outputs(), 2, MODEL, Options())
    assert answers == [ServerAnswer("World", [0.25] * 4, "World", number, None) for number in (0, 1)]
    explained = read_answers(outputs(), 2, MODEL, EXPLAINED)
    assert [answer.members for answer in explained] == [[[-1.0] * 4] * 2] * 2


UNSURE = Tensor((2, 1), b"\1\0")
UNCERTAINTY = Tensor((2, 3), np.array([[0.75, 0.5, 0.25]] * 2, "<f4").tobytes())


def test_what_a_model_says_of_its_doubts_is_asked_for_and_read() -> None:
    """An older model has neither output: nothing is asked of it, and nothing said."""
    doubting = replace(MODEL, outputs=frozenset(OPTIONAL))
    curious = Options(uncertainty=True)
    assert wanted(curious, MODEL) == STANDARD_OUTPUTS
    assert wanted(Options(), doubting) == (*STANDARD_OUTPUTS, "UNSURE")
    assert wanted(curious, doubting) == (*STANDARD_OUTPUTS, "UNSURE", "UNCERTAINTY")
    answers = read_answers(outputs(UNSURE=UNSURE, UNCERTAINTY=UNCERTAINTY), 2, doubting, curious)
    assert [answer.unsure for answer in answers] == [True, False]
    assert [answer.uncertainty for answer in answers] == [[0.75, 0.5, 0.25]] * 2
    old = read_answers(outputs(), 2, MODEL, curious)
    assert [(answer.unsure, answer.uncertainty) for answer in old] == [(None, None)] * 2
    for wrong in (Tensor((2, 1), bytes(8)), Tensor((2,), bytes(2))):
        with pytest.raises(BadResponse, match="UNSURE has shape"):
            read_answers(outputs(UNSURE=wrong), 2, doubting, Options())
    with pytest.raises(Incomplete, match="the answer has no UNSURE"):
        read_answers(outputs(), 2, doubting, Options())


def test_a_model_that_has_lost_an_output_is_read_anew() -> None:
    error = error_of("INVALID_ARGUMENT", "unexpected inference output 'UNSURE' for model 'ag_news'", "grpc://here")
    assert isinstance(error, BadResponse)
    assert "grpc://here has changed its model" in str(error)


@pytest.mark.parametrize(
    "wrong",
    [
        {name: tensor for name, tensor in outputs().items() if name != STANDARD_OUTPUTS[1]},
        {name: tensor for name, tensor in outputs().items() if name != MEMBER_PROBABILITIES},
        outputs(3),
        outputs(WINDOWS=Tensor((2,), bytes(8))),
        outputs(WINDOWS=Tensor((2, 1), bytes(4))),
        outputs(MEMBER_PROBABILITIES=Tensor((2, 1, 4), bytes(32))),
        outputs(MEMBER_PROBABILITIES=Tensor((2, 2, 4), np.full(16, np.nan, "<f4").tobytes())),
        outputs(LABEL=Tensor((2,), pack_texts([b"World"] * 2))),
        outputs(LABEL=Tensor((2, 1), pack_texts([b"World"]))),
        outputs(LABEL=Tensor((2, 1), b"\xff\xff\xff\xff")),
        outputs(PROBABILITIES=Tensor((2, 4), b"")),
        outputs(PROBABILITIES=Tensor((8,), bytes(32))),
        outputs(PROBABILITIES=Tensor((2, 4), np.full((2, 4), np.nan, "<f4").tobytes())),
        outputs(PROBABILITIES=Tensor((2, 4), np.full((2, 4), np.inf, "<f4").tobytes())),
    ],
)
def test_answers_out_of_contract_are_bad_responses(wrong: dict[str, Tensor]) -> None:
    with pytest.raises(BadResponse):
        read_answers(wrong, 2, MODEL, EXPLAINED)


def test_labels_are_read_in_the_models_order() -> None:
    def classes(*texts: bytes) -> dict[str, Tensor]:
        return {"PROBABILITIES": Tensor((1, len(texts)), pack_texts(texts))}

    assert read_labels(classes(b"0.9:1:Sci/Tech: all", b"0.1:0:World")) == ("World", "Sci/Tech: all")
    for wrong in (classes(), classes(b"0.9:1", b"0.1:0"), {}):
        with pytest.raises(BadResponse):
            read_labels(wrong)


def test_members_are_read_in_the_models_order() -> None:
    assert read_members("student,minilm") == ("student", "minilm")
    assert read_members("") == ()


def test_retries_grow_and_end() -> None:
    retries = Retries(8, Deadline(100, "grpc://host"))
    error = ServerUnavailable("gone")
    pauses = [retries.pause(error) for _ in range(8)]
    assert all(
        0.5 * full <= pause <= full for pause, full in zip(pauses, [0.05 * 2**n for n in range(6)], strict=False)
    )
    assert max(pauses) <= 2.0
    with pytest.raises(ServerUnavailable):
        retries.pause(error)


def test_retries_stay_within_the_deadline_and_tell_the_first_cause() -> None:
    with pytest.raises(ServerUnavailable):
        Retries(8, Deadline(0.01, "grpc://host")).pause(ServerUnavailable("gone"))
    retries = Retries(8, Deadline(100, "grpc://host"))
    retries.pause(ServerUnavailable("gone"))
    with pytest.raises(ServerUnavailable, match="gone"):
        retries.pause(DeadlineExceeded("late"))


def test_a_deadline_that_has_passed_raises() -> None:
    with pytest.raises(DeadlineExceeded):
        Deadline(-1, "grpc://host").left()
