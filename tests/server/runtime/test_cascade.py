"""The cascade: who answers whom, at which quality, and that no member is asked for nothing."""

from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from newsdesk.server.runtime import cascade, stacker
from newsdesk.server.runtime.calibrate import (
    Calibrator,
    Isotonic,
    Platt,
    Temperature,
    TemperatureByLength,
    Uncalibrated,
)
from newsdesk.server.runtime.cascade import ABSENT, ALWAYS, NEVER, Cascade, Level, Thresholds
from newsdesk.server.runtime.combine import ByLength, Combiner, Mean, Ranks, Stacked, Weighted
from newsdesk.server.runtime.errors import EngineError
from newsdesk.server.runtime.files import File, digest

FAST, BALANCED, BEST = range(3)
ORDER = ["student", "minilm", "e5"]
THRESHOLDS = Thresholds(fast=[ALWAYS] * 2, balanced=[0.9, 0.6], best=[NEVER] * 2)
ALL = np.array(
    [
        [[0.95, 0.05], [0.8, 0.2], [0.4, 0.6], [1.0, 0.0]],
        [[0.0, 1.0], [0.2, 0.8], [0.9, 0.1], [0.5, 0.5]],
        [[0.1, 0.9], [0.3, 0.7], [0.9, 0.1], [0.0, 1.0]],
    ],
    np.float32,
)
"""Three members, four texts, two labels."""


def _level(
    *members: str,
    combiner: Combiner = Mean(),  # noqa: B008  frozen
    calibrator: Calibrator = Uncalibrated(),  # noqa: B008
    thresholds: Thresholds = THRESHOLDS,
) -> Level:
    return Level(members=list(members), combiner=combiner, calibrator=calibrator, thresholds=thresholds)


LEVELS = [_level("student"), _level("student", "minilm"), _level("minilm", "e5")]


THREE = Thresholds(fast=[0.0] * 3, balanced=[0.0] * 2, best=[0.0] * 2)


def _made(levels: list[Level] = LEVELS) -> Cascade:
    return Cascade(levels, ORDER, lambda file: stacker.load(Path(file.path)))


def test_a_text_is_answered_where_it_reaches_the_threshold_of_its_top_label() -> None:
    step = _made().levels[0]
    probabilities = step.probabilities(ALL)
    assert probabilities.dtype == np.float32
    assert step.name == "student"
    # 0.95 ≥ 0.9; 0.8 < 0.9; 0.6 ≥ 0.6, for the other label, and just so; 1.0 ≥ 0.9
    assert step.decide(probabilities, np.full(4, BALANCED)).tolist() == [True, False, True, True]
    assert step.decide(probabilities, np.full(4, FAST)).all()
    assert not step.decide(probabilities, np.full(4, BEST)).any()
    assert step.decide(probabilities, np.array([BEST, FAST, BEST, BALANCED])).tolist() == [False, True, False, True]


def test_qualities_share_a_batch_and_each_text_is_asked_of_who_is_needed() -> None:
    asked: list[tuple[str, list[int]]] = []

    def ask(member: int, rows: np.ndarray) -> Callable[[], np.ndarray]:
        asked.append((ORDER[member], rows.tolist()))
        return lambda: ALL[member, rows]

    answered = _made().answer(np.array([BEST, BALANCED, FAST, BALANCED]), ask)
    assert asked == [("student", [0, 1, 2, 3]), ("minilm", [0, 1]), ("e5", [0, 1])]
    assert answered.levels.tolist() == [2, 2, 0, 0]
    np.testing.assert_allclose(answered.probabilities, [[0.05, 0.95], [0.25, 0.75], [0.4, 0.6], [1, 0]], atol=1e-6)
    assert answered.members.shape == (3, 4, 2)
    assert (answered.members[1:, 2:] == ABSENT).all()
    np.testing.assert_array_equal(answered.members[:, :2], ALL[:, :2])


def test_a_threshold_is_reached_in_single_precision_and_one_is_a_threshold() -> None:
    """0.9 in FP32 is a little less than in FP64; a level whose thresholds are 1 may answer, one of more never."""
    of = {"fast": 0.9, "balanced": 1.0, "best": 1.001}
    thresholds = Thresholds(**{quality: [at] * 2 for quality, at in of.items()})
    step = _made([_level("student", thresholds=thresholds), _level("e5")]).levels[0]
    probabilities = np.array([[0.9, 0.1], [1.0, 0.0]], np.float32)
    assert step.decide(probabilities, np.full(2, FAST)).tolist() == [True, True]
    assert step.decide(probabilities, np.full(2, BALANCED)).tolist() == [False, True]
    assert step.decide(probabilities, np.full(2, BEST)).tolist() == [False, False]
    may = [step.may_answer(np.array([quality])) for quality in (FAST, BALANCED, BEST)]
    assert may == [True, True, False]


def test_the_last_level_answers_what_is_no_number_too() -> None:
    """Whoever serves the answer fails it; the text beside it has its own."""
    members = ALL.copy()
    members[2, 0] = np.nan
    answered = cascade.replay(_made(), members, BEST)
    assert answered.levels.tolist() == [2, 2, 2, 2]
    assert np.isnan(answered.probabilities[0]).all()
    np.testing.assert_allclose(answered.probabilities[1], [0.25, 0.75], atol=1e-6)
    assert answered.probabilities.dtype == answered.members.dtype == np.float32
    assert answered.levels.dtype == np.int64


def test_no_member_is_asked_after_all_are_answered() -> None:
    asked = []
    _made().answer(np.full(4, FAST), lambda member, rows: asked.append(member) or (lambda: ALL[member, rows]))
    assert asked == [0]


@pytest.mark.parametrize(
    ("quality", "expected"),
    [
        (BEST, ["ask 0", "ask 1", "ask 2", "read 0", "read 1", "read 2"]),  # nobody is answered before the last
        (BALANCED, ["ask 0", "read 0", "ask 1", "read 1", "ask 2", "read 2"]),
    ],
)
def test_members_of_the_same_texts_are_all_asked_before_one_is_read(quality: int, expected: list[str]) -> None:
    told = []

    def ask(member: int, rows: np.ndarray) -> Callable[[], np.ndarray]:
        told.append(f"ask {member}")
        return lambda: told.append(f"read {member}") or ALL[member, rows]

    never = _level("student", "minilm", thresholds=msgspec.structs.replace(THRESHOLDS, balanced=[NEVER, 0.99]))
    answered = _made([LEVELS[0], never, LEVELS[2]]).answer(np.full(4, quality), ask)
    assert told == expected
    np.testing.assert_array_equal(answered.members[0], ALL[0])


@pytest.mark.parametrize("quality", [FAST, BALANCED, BEST])
def test_a_text_alone_gets_what_it_gets_in_company(quality: int) -> None:
    made = _made()
    together = cascade.replay(made, ALL, quality)
    for i in range(4):
        alone = cascade.replay(made, ALL[:, i : i + 1], quality)
        np.testing.assert_array_equal(alone.probabilities[0], together.probabilities[i])
        assert alone.levels[0] == together.levels[i]


def test_a_level_that_goes_by_length_gets_the_lengths_of_the_texts_that_reach_it() -> None:
    """Texts 0 and 2 are answered before; of texts 1 and 3 the first is short, and e5 is not asked for it."""
    calibrator = TemperatureByLength([6], [1.0, 2.0])
    levels = [
        _level("student"),
        _level("minilm", "e5", combiner=ByLength([6], [[1, 0], [0, 1]]), calibrator=calibrator),
    ]
    never = [[0.95, 0.05], [0.8, 0.2], [0.4, 0.6], [0.7, 0.3]]
    members = np.array([never, ALL[1], ALL[2]], np.float32)
    answered = cascade.replay(_made(levels), members, BALANCED, np.array([9, 5, 9, 6]))
    assert answered.levels.tolist() == [0, 1, 0, 1]
    np.testing.assert_allclose(answered.probabilities[1], [0.2, 0.8], atol=1e-6)
    np.testing.assert_allclose(answered.probabilities[3], [0, 1], atol=1e-3)


def test_who_would_have_no_weight_in_any_later_level_is_not_asked() -> None:
    """The student alone is heard for texts of fewer than 6 words, minilm too from 6 to 11, and all from 12 on."""
    levels = [
        _level("student"),
        _level("student", "minilm", combiner=ByLength([6], [[1, 0], [0.5, 0.5]])),
        _level("student", "minilm", "e5", combiner=ByLength([6, 12], [[1, 0, 0], [0.5, 0.5, 0], [0, 0, 1]])),
    ]
    asked: list[tuple[int, list[int]]] = []

    def ask(member: int, rows: np.ndarray) -> Callable[[], np.ndarray]:
        asked.append((member, rows.tolist()))
        return lambda: ALL[member, rows]

    made, lengths = _made(levels), np.array([5, 6, 11, 12])
    answered = made.answer(np.full(4, BEST), ask, lengths)
    assert asked == [(0, [0, 1, 2, 3]), (1, [1, 2, 3]), (2, [3])]
    assert answered.levels.tolist() == [0, 1, 1, 2]
    np.testing.assert_allclose(answered.probabilities, [[0.95, 0.05], [0.5, 0.5], [0.65, 0.35], [0, 1]], atol=1e-6)
    assert made.answer(np.full(4, FAST), ask, lengths).levels.tolist() == [0] * 4
    assert made.answer(np.full(4, BEST), ask, np.full(4, 40)).levels.tolist() == [2] * 4
    mean = _made([*levels[:2], _level("student", "minilm", "e5")])
    assert cascade.replay(mean, ALL, BEST, lengths).levels.tolist() == [2] * 4


def test_a_member_that_any_later_level_weighs_may_change_the_answer() -> None:
    """The second level weighs b where texts are short, the third nobody new; c counts where they are long."""
    second = ByLength([6], [[0.5, 0.5], [1, 0]])
    third = ByLength([6], [[1, 0, 0], [0.5, 0, 0.5]])
    levels = [(["a"], Mean()), (["a", "b"], second), (["a", "b", "c"], third)]
    assert cascade.enough(levels, np.array([5, 6])).tolist() == [[False, False], [True, False]]
    third = ByLength([6], [[1, 0, 0], [1, 0, 0]])
    levels[2] = (["a", "b", "c"], third)
    assert cascade.enough(levels, np.array([5, 6])).tolist() == [[False, True], [True, True]]


def test_the_last_level_answers_whatever_its_thresholds_say() -> None:
    made = _made([_level("e5", thresholds=Thresholds(fast=[NEVER] * 2, balanced=[NEVER] * 2, best=[NEVER] * 2))])
    assert (cascade.replay(made, ALL, BEST).levels == 0).all()


def test_one_member_alone_answers_as_it_says_at_every_quality() -> None:
    made = Cascade([cascade.alone("e5", 2)], ["e5"], lambda file: stacker.load(Path(file.path)))
    for quality in (FAST, BALANCED, BEST):
        np.testing.assert_allclose(cascade.replay(made, ALL[2:], quality).probabilities, ALL[2], atol=1e-6)


def test_a_stacker_runs_through_its_graph(tmp_path: Path) -> None:
    """The graph halves the two members' log-probabilities' sum: their geometric mean."""
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["features", "halves"], ["logits"]),
            helper.make_node("Softmax", ["logits"], ["probabilities"], axis=-1),
        ],
        "geometric",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["n", 4])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["n", 2])],
        [helper.make_tensor("halves", TensorProto.FLOAT, [4, 2], [0.5, 0, 0, 0.5, 0.5, 0, 0, 0.5])],
    )
    path = tmp_path / "stacked.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    level = _level("minilm", "e5", combiner=Stacked(File(str(path), digest(path)), "logistic"))
    probabilities = _made([level]).levels[0].probabilities(ALL[:, 1:3])
    roots = np.sqrt(ALL[1, 1:3] * ALL[2, 1:3])
    np.testing.assert_allclose(probabilities, roots / roots.sum(-1, keepdims=True), atol=1e-6)
    assert cascade.files([level, *LEVELS]) == [level.combiner.graph]
    path.write_bytes(b"no graph")
    with pytest.raises(EngineError, match=r"stacked\.onnx: ONNX Runtime cannot open"):
        _made([level])


def test_round_trip() -> None:
    levels = [
        _level("student", calibrator=Temperature(1.25)),
        _level("student", "e5", combiner=Weighted([1 / 3, 2 / 3]), calibrator=Isotonic([[0.1]] * 2, [[0.2]] * 2)),
    ]
    assert msgspec.json.decode(msgspec.json.encode(levels), type=list[Level]) == levels


@pytest.mark.parametrize(
    ("level", "complaint"),
    [
        (_level("students"), "level students: no member 'students', expected one of student, minilm, e5"),
        (_level("e5", "e5"), r"level e5\+e5: names a member twice"),
        (_level("e5", combiner=Weighted([0.5, 0.5])), "weights are 2, expected 1"),
        (_level("e5", combiner=ByLength([6], [[1.0]])), "buckets of weights are 1, expected 2"),
        (_level("e5", combiner=ByLength([6], [[1.0], [0.5, 0.5]])), "weights are 2, expected 1"),
        (_level("e5", calibrator=TemperatureByLength([6], [1.0])), "temperatures are 1, expected 2"),
        (_level("e5", combiner=Ranks([[[0.1]]], [[[0.1]]])), "labels of the ranks are 1, expected 2"),
        (_level("e5", combiner=Ranks([[[0.1]] * 2], [[[0.1, 0.2]] * 2])), "ranks are 2, expected 1"),
        (_level("e5", combiner=Ranks([], [])), "members of the ranks are 0, expected 1"),
        (_level("e5", calibrator=Platt([1.0], [0.0, 0.0])), "slopes are 1, expected 2"),
        (_level("e5", calibrator=Isotonic([[0.1]], [[0.1]])), "isotonic lines are 1, expected 2"),
        (_level("e5", calibrator=Isotonic([[0.1]] * 2, [[0.1], [0.1, 0.2]])), "isotonic values are 2, expected 1"),
        (_level("e5", combiner=Ranks([[[0.1]] * 2] * 2, [[[0.1]] * 2])), "members of the ranks are 2, expected 1"),
        (_level("e5", combiner=Ranks([[[0.1]] * 2], [[[0.1]]])), "labels of the ranks are 1, expected 2"),
        (
            _level("minilm", "e5", combiner=Ranks([[[0.1]] * 2] * 2, [[[0.1, 0.2]] * 2, [[0.1]] * 2])),
            "ranks are 2, expected 1",
        ),
        (_level("e5", calibrator=Platt([1.0, 1.0], [0.0])), "offsets are 1, expected 2"),
        (_level("e5", calibrator=Isotonic([[0.1]] * 2, [[0.1]])), "isotonic lines are 1, expected 2"),
        (_level("e5", thresholds=THREE), r"level e5: thresholds of fast are 3, expected 2"),
        (_level("e5", thresholds=THREE, combiner=Ranks([[[0.1]] * 2], [[[0.1]] * 2])), "thresholds of fast are 3"),
        (_level("e5", thresholds=THREE, calibrator=Platt([1.0] * 2, [0.0] * 2)), "thresholds of fast are 3"),
        (_level("e5", thresholds=THREE, calibrator=Isotonic([[0.1]] * 2, [[0.1]] * 2)), "thresholds of fast are 3"),
    ],
)
def test_sizes_that_do_not_match_are_refused_with_the_level(level: Level, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        _made([*LEVELS, level])


def test_no_level_is_refused() -> None:
    with pytest.raises(ValueError, match="no level"):
        _made([])
