from pathlib import Path

import numpy as np
import pytest

from newsdesk.server.ensemble.classifier import MAX_TEXT_BYTES, Classifier, read, softmax
from newsdesk.server.ensemble.errors import EngineError, TextError
from tests import tiny

TEXTS = [
    "Minister signs treaty",
    "Late goal decides the match",
    "Shares rise as market opens",
    "A robot writes software",
]
TARGETS = ["onnxruntime:fp32", "onnxruntime:int8", "openvino:int8", "openvino:fp32"]


@pytest.fixture(params=TARGETS)
def classifier(request: pytest.FixtureRequest, tmp_path: Path) -> Classifier:
    return Classifier(tiny.write(tmp_path), tmp_path, request.param)


def test_answers_in_order_whatever_the_lengths(classifier: Classifier) -> None:
    texts = [TEXTS[i % 4] + " said" * (i % 7) for i in range(40)]
    answers = classifier.classify(texts)
    assert answers.probabilities.argmax(-1).tolist() == [i % 4 for i in range(40)]
    assert answers.answered_by == ["tiny"] * 40
    assert 0 < answers.real_tokens <= answers.computed_tokens


def test_an_answer_in_company_equals_the_answer_alone(classifier: Classifier) -> None:
    texts = [TEXTS[i % 4] + " said" * (i % 11) for i in range(33)]
    together = classifier.classify(texts).probabilities
    alone = np.concatenate([classifier.classify([text]).probabilities for text in texts])
    np.testing.assert_allclose(together, alone, atol=1e-6)


def test_a_long_text_is_read_up_to_the_maximum_length(classifier: Classifier) -> None:
    answers = classifier.classify(["goal " * 10_000])
    assert answers.real_tokens == tiny.MAX_LENGTH


def test_a_target_without_its_graph_is_refused_with_what_there_is(tmp_path: Path) -> None:
    made = tiny.write(tmp_path)
    with pytest.raises(EngineError, match=r"no int8-dynamic graph, only fp32, int8.*newsdesk build"):
        Classifier(made, tmp_path, "onnxruntime:int8-dynamic")
    with pytest.raises(EngineError, match="tensorflow"):
        Classifier(made, tmp_path, "tensorflow:fp32")


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"", "empty, expected at least one visible character"),
        (b" \n\t ", "empty"),
        ("\u200b\u2003".encode(), "empty"),
        (b"<b></b>", "empty"),
        (b"caf\xe9", r"not UTF-8 \(byte 3 is 0xe9\), send UTF-8"),
        (b"\xed\xa0\x80", r"not UTF-8 \(byte 0 is 0xed\)"),
        (b"x" * (MAX_TEXT_BYTES + 1), "262145 bytes, expected at most 262144, send a shorter text"),
    ],
)
def test_read_refuses_with_the_reason(raw: bytes, reason: str) -> None:
    with pytest.raises(TextError, match=reason):
        read(raw)


def test_read_cleans() -> None:
    assert read(b"Caf\xc3\xa9 #39;s\\menu\x00") == "Café 's menu"


def test_softmax_of_extremes_is_finite() -> None:
    probabilities = softmax(np.array([[1e4, -1e4, 0, 0], [0, 0, 0, 0]], np.float32))
    np.testing.assert_allclose(probabilities, [[1, 0, 0, 0], [0.25] * 4])
