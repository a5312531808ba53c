"""Several members in one process: who is asked of what, in which order, and what comes of it."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from newsdesk.server.contract import QUALITIES
from newsdesk.server.runtime import cascade
from newsdesk.server.runtime.cascade import ABSENT, Cascade
from newsdesk.server.runtime.classifier import Classifier
from newsdesk.server.runtime.manifest import Manifest
from newsdesk.server.runtime.member import LoadedMember, MemberOutput
from tests import tiny

FAST, BALANCED, BEST = range(3)
TEXTS = {
    "goal said": "bag+tiny",  # named once: 0.60 by the bag
    "goal match said": "bag",  # twice: 0.87
    "software robot": "bag",
    "minister treaty minister": "bag+tiny+keen",  # nobody is taken for World before the last level
    "market robot": "bag+tiny+keen",  # undecided
}
"""Text → the level that answers at "fast"."""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Manifest, Path]:
    folder = tmp_path_factory.mktemp("cascade")
    return tiny.write_cascade(folder), folder


@pytest.fixture(params=["onnxruntime:fp32", "openvino:int8"])
def classifier(request: pytest.FixtureRequest, made: tuple[Manifest, Path]) -> Classifier:
    return Classifier(*made, request.param)


class RecordingMember:
    """A member that writes down what it is asked of."""

    def __init__(self, name: str, member: LoadedMember, log: list[tuple[str, list[str]]]) -> None:
        self._name, self._member, self._log = name, member, log

    def submit(self, texts: list[str]) -> Callable[[], MemberOutput]:
        self._log.append((self._name, list(texts)))
        return self._member.submit(texts)


def test_each_member_is_asked_of_those_not_yet_answered_and_in_order(classifier: Classifier) -> None:
    log: list[tuple[str, list[str]]] = []
    classifier.members = [RecordingMember(member.name, member, log) for member in classifier.members]  # type: ignore[misc]
    texts = list(TEXTS)
    answers = classifier.classify(texts, np.full(len(texts), FAST))
    assert [classifier.levels[level] for level in answers.levels] == list(TEXTS.values())
    assert log == [
        ("bag", texts),
        ("tiny", ["goal said", "minister treaty minister", "market robot"]),
        ("keen", ["minister treaty minister", "market robot"]),
    ]
    assert {level: took.texts for level, took in answers.work.levels.items()} == {0: 5, 1: 3, 2: 2}
    assert all(took.seconds > 0 for took in answers.work.levels.values())
    heard = answers.members != ABSENT
    assert heard.all(-1).tolist() == [
        [True, True, False],
        [True, False, False],
        [True, False, False],
        [True, True, True],
        [True, True, True],
    ]
    assert (heard.all(-1) == heard.any(-1)).all()
    np.testing.assert_allclose(answers.probabilities.sum(-1), 1, atol=1e-6)


def test_qualities_share_a_batch_and_change_nobody_elses_answer(classifier: Classifier) -> None:
    texts = [text + " said" * (i % 5) for i, text in enumerate(list(TEXTS) * 12)]
    quality = np.arange(len(texts)) % 3
    together = classifier.classify(texts, quality)
    for i, text in enumerate(texts):
        alone = classifier.classify([text], quality[i : i + 1])
        assert alone.levels[0] == together.levels[i]
        np.testing.assert_allclose(alone.probabilities[0], together.probabilities[i], atol=1e-6)
        np.testing.assert_allclose(alone.members[0], together.members[i], atol=1e-6)
    assert {classifier.levels[level] for level in together.levels[quality == BEST]} == {"bag+tiny+keen"}
    assert len(set(together.levels[quality == FAST])) == 3


def test_no_quality_is_balanced(classifier: Classifier) -> None:
    texts = list(TEXTS)
    without, balanced = classifier.classify(texts), classifier.classify(texts, np.full(len(texts), BALANCED))
    np.testing.assert_array_equal(without.probabilities, balanced.probabilities)
    assert without.levels.tolist() == balanced.levels.tolist() != [0] * len(texts)


@pytest.mark.parametrize("quality", range(len(QUALITIES)))
def test_what_is_served_is_what_the_build_replays(
    made: tuple[Manifest, Path], classifier: Classifier, quality: int
) -> None:
    """Every member asked of every text, and the cascade run over that: the same levels and probabilities."""
    texts = list(TEXTS) * 3
    members = np.stack([member(texts).probabilities for member in classifier.members]).astype(np.float32)
    order = [member.name for member in made[0].members]
    replayed = cascade.replay(Cascade(made[0].cascade, order, lambda _: pytest.fail("no stacker")), members, quality)
    served = classifier.classify(texts, np.full(len(texts), quality))
    np.testing.assert_allclose(served.probabilities, replayed.probabilities, atol=1e-6)
    assert served.levels.tolist() == replayed.levels.tolist()


def test_windows_are_of_the_longest_reading_member_asked(classifier: Classifier) -> None:
    """The bag reads whole what the others read in windows."""
    sure, unsure = "goal said " * 200, "said " * 400 + "minister"
    answers = classifier.classify([sure, unsure, "goal"], np.full(3, FAST))
    assert [classifier.levels[level] for level in answers.levels] == ["bag", "bag+tiny+keen", "bag+tiny"]
    assert answers.windows.tolist() == [1, 18, 1]


def test_a_members_calibrator_comes_before_the_levels(classifier: Classifier) -> None:
    """ "tiny" votes with 2 a word at temperature 2: e / (e + 3)."""
    answers = classifier.classify(["goal"], np.full(1, BEST))
    np.testing.assert_allclose(answers.members[0, 1, 1], np.e / (np.e + 3), atol=1e-6)
