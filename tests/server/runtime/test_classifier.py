from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from newsdesk.server.runtime import engines, member
from newsdesk.server.runtime.batching import Shapes
from newsdesk.server.runtime.classifier import Classifier
from newsdesk.server.runtime.errors import EngineError
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
    assert classifier.levels == ["tiny"]
    assert answers.levels.tolist() == [0] * 40
    assert answers.windows.tolist() == [1] * 40
    assert 0 < answers.work.real_tokens <= answers.work.computed_tokens


def test_an_answer_in_company_equals_the_answer_alone(classifier: Classifier) -> None:
    texts = [TEXTS[i % 4] + " said" * (i % 11) for i in range(33)]
    together = classifier.classify(texts).probabilities
    alone = np.concatenate([classifier.classify([text]).probabilities for text in texts])
    np.testing.assert_allclose(together, alone, atol=1e-6)


def test_the_end_of_a_long_text_is_read(classifier: Classifier) -> None:
    """The deciding words stand behind ten times the maximum length; the windows are averaged."""
    short = classifier.classify([TEXTS[1]])
    long = classifier.classify(["said " * 10 * tiny.MAX_LENGTH + TEXTS[1], TEXTS[1]])
    assert long.probabilities.argmax(-1).tolist() == [1, 1]
    assert long.windows.dtype == np.int32
    assert long.windows[0] >= 10
    assert long.windows[1] == 1
    np.testing.assert_allclose(long.probabilities[1], short.probabilities[0], atol=1e-6)


def test_the_windows_of_a_long_text_are_averaged(classifier: Classifier) -> None:
    """Sixty words in three windows of thirty: the first votes Sports, the last Business, the one between for nobody."""
    (answer,) = classifier.classify(["goal " + "said " * 58 + "market"]).probabilities
    most, least = np.exp(4) / (np.exp(4) + 3), 1 / (np.exp(4) + 3)
    voted, not_voted = (most + 0.25 + least) / 3, (least + 0.25 + least) / 3
    np.testing.assert_allclose(answer, [not_voted, voted, voted, not_voted], atol=1e-5)


def test_long_and_short_texts_answer_together_as_alone(classifier: Classifier) -> None:
    random = np.random.default_rng(0)  # a period would make windows alike, which are computed once
    texts = [" ".join(random.choice(list(tiny.WORDS), 1 + i * 23 % 200)) for i in range(40)]
    together, alone = classifier.classify(texts), [classifier.classify([text]) for text in texts]
    np.testing.assert_allclose(together.probabilities, [single.probabilities[0] for single in alone], atol=1e-6)
    assert together.windows.tolist() == [int(single.windows[0]) for single in alone]
    assert together.work.real_tokens == sum(single.work.real_tokens for single in alone)


def test_what_repeats_is_computed_once(classifier: Classifier) -> None:
    """One word for a hundred windows, and a text that came twice, cost one window and one text."""
    texts = ["goal " * 100 * tiny.MAX_LENGTH, TEXTS[0], TEXTS[0]]
    together, alone = classifier.classify(texts), [classifier.classify([text]) for text in texts]
    assert together.windows[0] >= 100
    assert together.work.real_tokens == alone[0].work.real_tokens + alone[1].work.real_tokens
    assert alone[0].work.computed_tokens == tiny.MAX_LENGTH
    np.testing.assert_allclose(together.probabilities, [single.probabilities[0] for single in alone], atol=1e-6)


def test_a_target_without_its_graph_is_refused_with_what_there_is(tmp_path: Path) -> None:
    made = tiny.write(tmp_path)
    with pytest.raises(EngineError, match=r"no int8-dynamic graph, only fp32, int8.*newsdesk build"):
        Classifier(made, tmp_path, "onnxruntime:int8-dynamic")
    with pytest.raises(EngineError, match="tensorflow"):
        Classifier(made, tmp_path, "tensorflow:fp32")


@pytest.mark.parametrize("target", TARGETS)
def test_only_an_engine_that_compiles_shapes_is_warmed_for_all_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str
) -> None:
    """A process that was killed is whole again within seconds, without VNNI too: each shape costs it a batch."""
    made = tiny.write(tmp_path)
    warmed = member.LoadedMember(made.members[0], made.windows, tmp_path, target, 1)
    engine, computed = warmed._engine, []
    monkeypatch.setattr(warmed, "_engine", Recorded(engine, computed))
    warmed.warm_up()
    assert len(computed) == len(set(computed))
    assert (len(computed) > 8) if target.startswith("openvino") else (len(computed) == 1)


class Recorded(engines.Engine):
    """An engine, and the shapes that it was called with."""

    def __init__(self, engine: engines.Engine, computed: list[tuple[int, ...]]) -> None:
        self._engine, self._computed = engine, computed

    def shapes(self, most: int) -> Shapes:
        return self._engine.shapes(most)

    def submit(self, ids: np.ndarray, mask: np.ndarray) -> Callable[[], np.ndarray]:
        self._computed.append(ids.shape)
        return self._engine.submit(ids, mask)

    def close(self) -> None:
        self._engine.close()
