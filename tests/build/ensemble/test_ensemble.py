"""The whole fit: what it writes, the server answers, to the last digit that FP32 has."""

from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from newsdesk.build.compile.answers import Answers
from newsdesk.build.data import tables
from newsdesk.build.data.rows import Row
from newsdesk.build.ensemble import calibrators, ensemble
from newsdesk.build.ensemble.choose import choose
from newsdesk.build.ensemble.choose import fit as fit_combiner
from newsdesk.build.ensemble.out_of_fold import OutOfFold
from newsdesk.build.ensemble.texts import Texts
from newsdesk.build.errors import DataError
from newsdesk.build.evaluation import metrics
from newsdesk.build.pipeline.artifacts import Artifact
from newsdesk.build.pipeline.graphs import VALIDATION, ServingTarget
from newsdesk.build.pipeline.stages import ensemble as stage
from newsdesk.build.recipe import CalibratorName, CombinerName, Ensemble
from newsdesk.server.contract import QUALITIES
from newsdesk.server.runtime import calibrate, cascade, stacker
from newsdesk.server.runtime.cascade import Cascade
from newsdesk.server.runtime.combine import Stacked
from newsdesk.server.runtime.files import digest
from tests.build.ensemble.simulated import draw

NAMES, COSTS = ["large", "student", "middle"], [1.0, 0.02, 0.3]
QUICK_BY_LENGTH = Ensemble(
    combiners=("weighted", "by_length"), calibrators=("temperature", "temperature_by_length"), folds=3
)
LENGTHS = 8, 40
"""Words of the texts, in turn."""
QUICK = Ensemble(combiners=("mean", "weighted"), calibrators=("none", "temperature"), folds=3, epsilon=0.005)


def _drawn(rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The members in the order of NAMES, the dearest the best."""
    members, labels = draw(rows, seed, (0.9, 1.3, 1.1))
    return members.astype(np.float32), labels


def _served(made: ensemble.Fit, folder: Path) -> Cascade:
    return Cascade(made.levels, made.order, lambda file: stacker.load(folder / file.path))


def _answered(
    made: ensemble.Fit, folder: Path, members: np.ndarray, quality: str, lengths: np.ndarray | None = None
) -> cascade.Answered:
    """As a server would, from the members' raw probabilities in the order of NAMES, of texts of LENGTHS or others."""
    order = [NAMES.index(name) for name in made.order]
    runs = map(calibrate.ready, made.calibrators)
    alone = np.stack([run(of_member) for run, of_member in zip(runs, members[order], strict=True)])
    lengths = np.resize(LENGTHS, alone.shape[1]) if lengths is None else lengths
    return cascade.replay(_served(made, folder), alone.astype(np.float32), QUALITIES.index(quality), lengths)


def test_members_are_put_in_order_of_cost_and_levels_grow(tmp_path: Path) -> None:
    members, labels = _drawn(3000, 1)
    made = ensemble.fit(NAMES, members, labels, COSTS, QUICK, 1, tmp_path)
    assert made.order == ["student", "middle", "large"]
    assert [level.name for level in made.levels] == ["student", "student+middle", "student+middle+large"]
    assert ensemble.load(tmp_path) == made
    fresh, truth = _drawn(20_000, 2)
    by_quality = {quality: _answered(made, tmp_path, fresh, quality) for quality in QUALITIES}
    right = {quality: (answers.probabilities.argmax(-1) == truth).mean() for quality, answers in by_quality.items()}
    assert (by_quality["fast"].levels == 0).all()
    assert (by_quality["best"].levels == 2).all()
    assert len(set(by_quality["balanced"].levels)) > 1
    assert right["best"] - right["balanced"] < 0.008  # 0.005, and what 20,000 texts leave open
    assert right["fast"] < right["balanced"]


@pytest.mark.parametrize(
    ("name", "calibrator"),
    [
        *((name, "vector") for name in get_args(CombinerName)),
        *(("weighted", name) for name in get_args(CalibratorName) if name != "vector"),
    ],
)
def test_build_and_server_agree(name: CombinerName, calibrator: CalibratorName, tmp_path: Path) -> None:
    """Through the file that was written and, for stackers, ONNX Runtime; whose last digit an isotonic line, where it is
    steep, would make a larger one of."""
    rows = 640 if "by_length" in name + calibrator else 400
    members, labels = _drawn(rows, 3)
    settings = Ensemble(combiners=(name,), calibrators=(calibrator,), folds=2)
    lengths = np.resize(LENGTHS, rows)
    made = ensemble.fit(NAMES, members, labels, COSTS, settings, 5, tmp_path, lengths=lengths)
    loaded = ensemble.load(tmp_path)
    order = [NAMES.index(name) for name in made.order]
    alone = np.stack(
        [
            calibrate.ready(calibrator)(of_member)
            for calibrator, of_member in zip(made.calibrators, members[order], strict=True)
        ]
    ).astype(np.float32)
    combiner, _ = fit_combiner(name, alone, labels, settings, 5, Texts(lengths))
    expected = calibrate.ready(made.levels[-1].calibrator)(combiner.run(alone, lengths), lengths)
    for size in (1, 64, rows):
        served = _answered(loaded, tmp_path, members[:, :size], "best").probabilities
        np.testing.assert_allclose(served, expected[:size], atol=1e-6)
    stacked = [level for level in loaded.levels if isinstance(level.combiner, Stacked)]
    assert len(loaded.files) == len(stacked) == (2 if name in ("logistic", "xgboost", "catboost") else 0)
    assert all(digest(tmp_path / file.path) == file.sha256 for file in loaded.files)


def test_rows_that_a_member_left_out_calibrate_it_and_the_first_level(tmp_path: Path) -> None:
    """As both kinds of rows together would; the levels behind know the validation rows alone."""
    members, labels = _drawn(60, 3)
    more, truth = _drawn(6000, 9)
    student = NAMES.index("student")
    bent = {"members": members.copy(), "more": more[student] ** 3}
    bent["members"][student] **= 3  # too sure by far: three times the logits
    bent = {name: member / member.sum(-1, keepdims=True) for name, member in bent.items()}
    settings = Ensemble(combiners=("weighted",), calibrators=("none", "temperature", "isotonic"), folds=3)
    arguments = NAMES, bent["members"], labels, COSTS, settings, 5, tmp_path
    alone = ensemble.fit(*arguments)
    made = ensemble.fit(*arguments, {"student": OutOfFold(bent["more"], truth)})
    both, of_both = np.concatenate([bent["members"][student], bent["more"]]), np.concatenate([labels, truth])
    expected = calibrators.temperature(both, of_both)
    assert made.calibrators[0].temperature == pytest.approx(expected.temperature)
    assert made.calibrators[0].temperature == pytest.approx(3, rel=0.05)
    probabilities = calibrate.ready(expected)(both).astype(np.float32)
    assert made.levels[0].calibrator == choose(probabilities[None], of_both, settings, 5).calibrator
    assert made.calibrators[1:] == alone.calibrators[1:]
    assert made.report.members["student"].rows_left_out == 6000
    assert made.report.members["middle"].rows_left_out == 0
    assert made.report.rows == 60
    fresh, of_fresh = _drawn(20_000, 2)
    fresh[student] **= 3
    probabilities = [_answered(fit, tmp_path, fresh, "fast").probabilities for fit in (made, alone)]
    losses = [metrics.log_loss(answers, of_fresh) for answers in probabilities]
    assert losses[0] < losses[1]
    with pytest.raises(DataError, match="member student: a probability is not finite"):
        ensemble.fit(*arguments, {"student": OutOfFold(bent["more"] * np.nan, truth)})


def test_the_report_says_what_was_tried_and_what_each_quality_gives(tmp_path: Path) -> None:
    members, labels = _drawn(3000, 4)
    made = ensemble.fit(NAMES, members, labels, COSTS, QUICK, 1, tmp_path)
    report = made.report
    assert report.rows == 3000
    assert list(report.members) == made.order
    assert report.members["middle"].cost == 0.3
    assert len(report.levels["student+middle+large"].candidates) == 4
    fitted = report.cascade
    costs = [fitted.points[quality].cost for quality in QUALITIES]
    assert costs == sorted(costs)
    assert costs[0] == pytest.approx(0.02)
    assert costs[2] == pytest.approx(1.32)
    assert fitted.points["balanced"].bound <= 0.005
    assert fitted.rows_needed == 322  # log(0.2) / log(1 - 0.005), and a little more
    assert 2 < len(fitted.frontier) <= ensemble.SHOWN
    assert report.uncertainty.wrong.model > report.uncertainty.right.model
    assert sum(report.uncertainty.posterior) == pytest.approx(1)
    told = ensemble.describe(made)
    assert told[0].startswith("student: mean, ")
    assert "out of fold: accuracy 0." in told[0]
    assert told[-1].endswith("100.0% student+middle+large")
    assert "balanced: accuracy 0." in told[-2]


def test_too_few_rows_for_the_promise_are_said(tmp_path: Path) -> None:
    members, labels = _drawn(200, 5)
    made = ensemble.fit(NAMES, members, labels, COSTS, QUICK, 1, tmp_path)
    last = ensemble.describe(made)[-1]
    assert last.startswith("200 rows cannot show, at 80% confidence, that no more than 0.005 is lost, 322 could")
    assert (_answered(made, tmp_path, members, "balanced").levels == 2).all()


@pytest.mark.parametrize("rows", [1, 7, 200])
def test_one_member_is_one_level_however_few_rows(rows: int, tmp_path: Path) -> None:
    members, labels = draw(rows, 6, (1.0,))
    made = ensemble.fit(["only"], members, labels, [1.0], QUICK, 1, tmp_path)
    (level,) = made.levels
    served = Cascade([level], ["only"], lambda file: pytest.fail("no stacker was asked for"))
    for quality in range(3):
        assert (cascade.replay(served, members.astype(np.float32), quality).levels == 0).all()
    assert len(ensemble.describe(made)) == 4


def test_the_snapshots_of_a_run_are_members_like_any(tmp_path: Path) -> None:
    members, labels = draw(2000, 7, (1.2, 1.2, 1.2))
    names = ["minilm-1", "minilm-2", "minilm-3"]
    made = ensemble.fit(names, members, labels, [1.0] * 3, QUICK, 1, tmp_path)
    assert made.order == names
    last = made.report.levels["minilm-1+minilm-2+minilm-3"]
    assert last.combiner == "mean"
    alone = min(member.calibrated.log_loss for member in made.report.members.values())
    assert last.out_of_fold.log_loss < alone


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"labels": np.zeros(9, int)}, r"probabilities \(3, 10, 3\), 3 members, 3 costs and 9 labels"),
        ({"costs": [1.0, 2.0]}, "2 costs"),
        ({"costs": [1.0, 0.0, 2.0]}, "expected each above 0"),
        ({"labels": np.full(10, 3)}, "labels from 3 to 3, expected 0 to 2"),
        ({"probabilities": np.full((3, 10, 3), np.nan)}, "member large: a probability is not finite"),
    ],
)
def test_what_cannot_be_is_refused(change: dict, complaint: str, tmp_path: Path) -> None:
    inputs = {"probabilities": np.full((3, 10, 3), 1 / 3), "labels": np.zeros(10, int), "costs": COSTS} | change
    with pytest.raises(DataError, match=complaint):
        ensemble.fit(NAMES, inputs["probabilities"], inputs["labels"], inputs["costs"], QUICK, 1, tmp_path)


def test_the_stage_leaves_what_the_model_needs(tmp_path: Path) -> None:
    members, labels = _drawn(600, 8)
    settings = Ensemble(combiners=("logistic",), calibrators=("none",), folds=2)
    lines: list[str] = []
    tables.write(tmp_path / "validation.parquet", [Row(f"text {i}", int(label)) for i, label in enumerate(labels)])

    def fitted(costs: list[float]) -> tuple[ensemble.Fit, dict]:
        compiled = {}
        for name, of_member, cost in zip(NAMES, members, costs, strict=True):
            folder = tmp_path / f"{name} {cost}"
            folder.mkdir(exist_ok=True)
            ServingTarget("openvino:int8", [], 1 / cost).save(folder)
            Answers(of_member, np.ones(len(of_member), int)).save(folder / VALIDATION)
            compiled[name] = Artifact(folder, {})
        folder = tmp_path / f"fitted {costs}"
        folder.mkdir()
        report = stage.ensemble(
            folder,
            lines.append,
            rows=Artifact(tmp_path, {}),
            compiled=compiled,
            left_out={},
            settings=settings,
            seed=17,
        )
        return ensemble.load(folder), report

    fit, report = fitted(COSTS)
    assert report.cascade == fit.report.cascade
    assert [file.path for file in fit.files] == [
        "ensemble/student+middle.logistic.onnx",
        "ensemble/student+middle+large.logistic.onnx",
    ]
    assert any("balanced: accuracy" in line for line in lines)
    assert fitted([2.0 if name == "middle" else cost for name, cost in zip(NAMES, COSTS, strict=True)])[0].order == [
        "student",
        "large",
        "middle",
    ]


def test_the_report_says_of_each_slice_what_each_quality_gives_and_where_the_promise_breaks(tmp_path: Path) -> None:
    """On headlines all members but the cheapest are at a loss, which weights for all rows cannot mend."""
    members, labels = _drawn(3000, 4)
    headline = np.arange(3000) % 4 == 0
    nonsense, _ = _drawn(3000, 5)
    student = NAMES.index("student")
    for other in {0, 1, 2} - {student}:
        members[other, headline] = nonsense[other, headline]
    slices = np.where(headline, "headline", "whole").tolist()
    lengths, groups = np.where(headline, 8, 40), np.arange(3000) // 2
    plain = Ensemble(combiners=("weighted",), calibrators=("temperature",), folds=3)
    arguments = NAMES, members, labels, COSTS
    unaware = ensemble.fit(*arguments, plain, 1, tmp_path, lengths=lengths, slices=slices, groups=groups)
    report = unaware.report.slices
    assert report["headline"].rows == 750
    (broken,) = {line.partition("more often")[2] for line in report["headline"].broken} - {" than balanced"}
    assert broken == " than best"
    assert any(line.startswith("headline: fast is right ") for line in ensemble.describe(unaware))
    aware = ensemble.fit(*(*arguments, QUICK_BY_LENGTH, 1, tmp_path), lengths=lengths, slices=slices, groups=groups)
    last = aware.levels[-1].combiner
    assert last.bounds == [12]
    assert last.weights[0][0] == 1  # the student alone reads headlines
    for figures in aware.report.slices.values():
        assert figures.broken == []
        assert figures.best.accuracy >= figures.balanced.accuracy - 0.003
        assert figures.best.calibration_error < 0.05
    assert ensemble.load(tmp_path) == aware
    served = _answered(aware, tmp_path, members[:, :2000], "best", lengths[:2000])
    assert (served.levels == np.where(headline[:2000], 0, 2)).all()  # and the others are not paid for headlines
    points = aware.report.cascade.points
    assert points["best"].shares == [0.25, 0, 0.75]
    assert points["best"].cost == pytest.approx(0.25 * 0.02 + 0.75 * 1.32)
    for quality, point in points.items():
        replayed = _answered(aware, tmp_path, members, quality, lengths).levels
        assert np.bincount(replayed, minlength=3) / 3000 == pytest.approx(point.shares, abs=0.02)
    without = ensemble.fit(*arguments, plain, 1, tmp_path)
    assert without.report.slices == {}


def test_lengths_slices_and_groups_that_do_not_match_the_rows_are_refused(tmp_path: Path) -> None:
    members, labels = _drawn(30, 4)
    arguments = NAMES, members, labels, COSTS, QUICK, 1, tmp_path
    for what, known in (("lengths", np.ones(29, int)), ("groups", np.ones(29, int)), ("slices", ["whole"] * 29)):
        with pytest.raises(DataError, match=f"29 {what} and 30 labels"):
            ensemble.fit(*arguments, **{what: known})
    left_out = {"student": OutOfFold(members[0], labels)}
    with pytest.raises(DataError, match="rows left out have no lengths"):
        ensemble.fit(*arguments, left_out, lengths=np.ones(30, int))


def test_rows_left_out_keep_their_lengths(tmp_path: Path) -> None:
    rows = OutOfFold(np.full((3, 3), 1 / 3), np.array([0, 1, 2]), np.array([5, 6, 7]))
    rows.save(tmp_path)
    assert OutOfFold.load(tmp_path).lengths.tolist() == [5, 6, 7]
    texts = rows.texts_after(Texts(np.array([1]), np.array([0]), np.array(["whole"])), 1)
    assert texts.lengths.tolist() == [1, 5, 6, 7]
    assert len(set(texts.groups.tolist())) == 4
    assert texts.slices.tolist() == ["whole", *["left out"] * 3]
