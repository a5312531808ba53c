"""Fit the ensemble: members calibrated, put in order of cost, combined level by level, and when a level is enough."""

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import msgspec
import numpy as np
from msgspec import Struct, field

from newsdesk.build.compile.answers import Answers
from newsdesk.build.data.rows import Row
from newsdesk.build.ensemble import members as calibrating
from newsdesk.build.ensemble import stacking, thresholds, unsure, weights
from newsdesk.build.ensemble import windows as window_rules
from newsdesk.build.ensemble.balance import equal
from newsdesk.build.ensemble.choose import Choice, choose
from newsdesk.build.ensemble.figures import (
    CalibratedScores,
    CascadeThresholds,
    EnsembleReport,
    LevelFigures,
    MeanUncertainty,
    SliceFigures,
    SliceScores,
    UncertaintyFigures,
    UnsureFigures,
)
from newsdesk.build.ensemble.members import CalibratedMembers
from newsdesk.build.ensemble.out_of_fold import OutOfFold
from newsdesk.build.ensemble.texts import Texts, check
from newsdesk.build.ensemble.thresholds import Evidence
from newsdesk.build.ensemble.thresholds import Path as Frontier
from newsdesk.build.evaluation import metrics
from newsdesk.build.recipe import Ensemble
from newsdesk.server.contract import QUALITIES, Quality
from newsdesk.server.runtime import cascade, combine
from newsdesk.server.runtime.arrays import Array
from newsdesk.server.runtime.calibrate import Calibrator
from newsdesk.server.runtime.cascade import ALWAYS, NEVER, Answered, Level
from newsdesk.server.runtime.combine import ByLength, Combiner, Mean, Stacked
from newsdesk.server.runtime.files import File, digest
from newsdesk.server.runtime.lengths import words
from newsdesk.server.runtime.unsure import Unsure
from newsdesk.server.runtime.windows import Rule

FILE = "ensemble.json"
GRAPHS = "ensemble"
"""Folder of the stackers' graphs, in the build's folder as in the model's."""
SHOWN = 60
"""Points of the frontier that the report keeps."""
PROMISED = 0.003
"""Accuracy that a cheaper quality may be ahead of a dearer one on a slice, before the report calls it broken."""


class Fit(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The fitted ensemble, as the manifest needs it.

    Attributes:
        order: the members' names in order of cost
        calibrators: of each member
        levels: of the cascade
        unsure: when an answer is marked as not sure
    """

    order: list[str]
    calibrators: list[Calibrator]
    levels: list[Level] = field(name="stages")
    unsure: Unsure
    windows: Rule = "mean"
    report: EnsembleReport

    @property
    def files(self) -> list[File]:
        """The stackers' graphs, by their paths below the folder."""
        return cascade.files(self.levels)


def load(folder: Path) -> Fit:
    """Read what `fit` left in a folder."""
    return msgspec.json.decode((folder / FILE).read_bytes(), type=Fit)


def fit_on_rows(
    validation: list[Row],
    answers: dict[str, Answers],
    costs: list[float],
    settings: Ensemble,
    seed: int,
    folder: Path,
    left_out: dict[str, OutOfFold] | None = None,
    *,
    balanced: bool = False,
) -> Fit:
    """Fit the windows' rule and the ensemble on the validation rows, in the slices that they show.

    Args:
        validation: the rows
        answers: each member's answers to the rows, by name
        costs: seconds a text of each
        settings: what is tried
        seed: of folds and fits
        folder: it gets the files that `fit` writes
        left_out: further rows that members were not fitted on, by name
        balanced: whether every label counts the same, however few its rows
    """
    labels = np.array([row.label for row in validation])
    several = [member for member in answers.values() if member.counts.max() > 1]
    rule: Rule = "mean"
    if several:
        of_rows = [of_row for member in several for of_row in member.by_row()]
        rule = window_rules.fit(of_rows, np.concatenate([labels] * len(several)))
    views = [row.view for row in validation]
    sliced = len(set(views)) > 1
    return fit(
        [*answers],
        np.stack([member.rows(rule) for member in answers.values()]),
        labels,
        costs,
        settings,
        seed,
        folder,
        left_out,
        lengths=words([row.text for row in validation]),
        slices=views if sliced else None,
        groups=np.array([row.group for row in validation]) if sliced else None,
        windows=rule,
        balanced=balanced,
    )


def fit(
    members: list[str],
    probabilities: Array,
    labels: Array,
    costs: list[float],
    settings: Ensemble,
    seed: int,
    folder: Path,
    left_out: dict[str, OutOfFold] | None = None,
    *,
    lengths: Array | None = None,
    slices: Sequence[str] | None = None,
    groups: Array | None = None,
    windows: Rule = "mean",
    balanced: bool = False,
) -> Fit:
    """Fit everything on validation rows, and write it: ensemble.json and, where a stacker was chosen, its graph.

    A level has the members of the one before it and the next dearer one. Members are calibrated by temperature, one
    number each, fitted on all rows; all else is judged out of fold. Where labels are balanced, each counts the same in
    every fit and judgement, and a member's calibrator has an offset a label: answers are those of labels equally
    frequent. The report's accuracies stay those of the rows.

    Args:
        members: their names
        probabilities: of each member in the precision that serves, FP [members, n, labels]
        labels: INT [n]
        costs: of each member, seconds a text, or any other unit
        settings: what is tried
        seed: of folds and fits
        folder: is written to
        left_out: more rows, by name, which calibrate the members that have them, and the first level
        lengths: words of the rows, INT [n], without which nothing goes by length
        slices: the kind of text of each row, on all of which "balanced" must keep what it promises
        groups: INT [n], of rows that come of one source row and stay together when rows are parted
        windows: the rule that combined windows
        balanced: whether every label counts the same, however few its rows

    Raises:
        DataError: sizes do not match, or a value cannot be.
    """
    texts = Texts(lengths, groups, None if slices is None else np.array(slices, np.str_))
    check(members, probabilities, labels, costs, texts)
    for name, rows in (left_out or {}).items():
        check([name], rows.probabilities[None], rows.labels, [1.0], Texts(rows.lengths))
    calibrated = calibrating.fit(members, probabilities, labels, costs, left_out or {}, balanced=balanced)
    names, prefixes, alone = calibrated.names, calibrated.prefixes, calibrated.probabilities
    if balanced:
        texts = replace(texts, weights=equal(labels))
    choices = _choices(calibrated, labels, settings, seed, texts)
    evidence = _evidence(choices, prefixes, labels, np.array(calibrated.costs), texts)
    frontier = thresholds.fit(
        evidence, settings.epsilon, settings.confidence, settings.folds, seed, settings.slice_epsilon
    )
    levels = [
        Level(
            members=prefix,
            combiner=_combiner(choice, alone[: len(prefix)], prefix, folder),
            calibrator=choice.calibrator,
            thresholds=frontier.level(i, alone.shape[-1]),
        )
        for i, (prefix, choice) in enumerate(zip(prefixes, choices, strict=True))
    ]
    by_quality = _by_quality(evidence, frontier).items()
    answers = {quality: _answers(evidence, at, levels, alone, names, texts) for quality, at in by_quality}
    not_sure = unsure.fit(settings.unsure_score, settings.unsure_share, answers)
    report = EnsembleReport(
        rows=len(labels),
        members=calibrated.figures(labels),
        levels={level.name: _figures(choice, labels) for level, choice in zip(levels, choices, strict=True)},
        uncertainty=_uncertainty(alone, choices[-1].probabilities, labels, settings, texts),
        cascade=_cascade(evidence, frontier, settings),
        slices=_slices(evidence, frontier, texts),
        unsure=UnsureFigures(score=not_sure.score, share=not_sure.share, above=not_sure.thresholds().tolist()),
    )
    made = Fit(
        order=names,
        calibrators=[*calibrated.calibrators],
        levels=levels,
        unsure=not_sure,
        windows=windows,
        report=report,
    )
    (folder / FILE).write_bytes(msgspec.json.format(msgspec.json.encode(made), indent=1))
    return made


def _choices(members: CalibratedMembers, labels: Array, settings: Ensemble, seed: int, texts: Texts) -> list[Choice]:
    """Choose for each level. The rows left out of the first member count for the first level, too."""
    answers, truth = members.first_with_left_out(labels)
    known = members.left_out[0].texts_after(texts, len(labels))
    if texts.weights is not None:
        known = replace(known, weights=equal(truth))
    first = choose(answers[None], truth, settings, seed, members.names[0], known)
    return [
        replace(first, probabilities=first.probabilities[: len(labels)]),
        *(
            choose(members.probabilities[: len(prefix)], labels, settings, seed, cascade.name(prefix), texts)
            for prefix in members.prefixes[1:]
        ),
    ]


def _figures(choice: Choice, labels: Array) -> LevelFigures:
    combiner, calibrator = choice.candidate
    return LevelFigures(
        combiner=combiner,
        calibrator=calibrator,
        out_of_fold=CalibratedScores.of(choice.probabilities, labels),
        candidates=choice.table,
    )


def _evidence(choices: list[Choice], prefixes: list[list[str]], labels: Array, costs: Array, texts: Texts) -> Evidence:
    """Return what the levels say of the rows, as the server will ask them.

    Where the weights by length are none for who was not asked yet, it asks nobody else.
    """
    answers = np.stack([choice.probabilities for choice in choices])
    rules = [choice.combiner.rule or Mean() for choice in choices]
    final = None
    if texts.lengths is not None and any(isinstance(rule, ByLength) for rule in rules):
        final = cascade.enough([*zip(prefixes, rules, strict=True)], texts.lengths)
        for i in reversed(range(len(final))):
            answers[i + 1 :, final[i]] = answers[i, final[i]]
    return Evidence(answers, labels, costs, texts.judged, final, texts.weights)


def describe(made: Fit) -> list[str]:
    """Return what was fitted, a line a level and a line a quality."""
    lines = []
    for name, of_level in made.report.levels.items():
        scores = msgspec.structs.asdict(of_level.out_of_fold)
        judged = ", ".join(f"{measure} {value:.4f}" for measure, value in scores.items())
        lines.append(f"{name}: {of_level.combiner}, {of_level.calibrator}; out of fold: {judged}")
    rows, fitted = made.report.rows, made.report.cascade
    best = fitted.points["best"].cost
    for quality, point in fitted.points.items():
        shares = ", ".join(f"{share:.1%} {level.name}" for share, level in zip(point.shares, made.levels, strict=True))
        cost = point.cost / best
        lines.append(f"{quality}: accuracy {point.accuracy:.4f} at {cost:.1%} of the cost of best; {shares}")
    lines += [f"{name}: {broken}" for name, of_slice in made.report.slices.items() for broken in of_slice.broken]
    if rows < fitted.rows_needed and len(made.levels) > 1:
        lines.append(
            f"{rows} rows cannot show, at {fitted.confidence:.0%} confidence, that no more than {fitted.epsilon} "
            f"is lost, {fitted.rows_needed} could: balanced answers as best. Change ensemble.epsilon or .confidence."
        )
    return lines


def _combiner(choice: Choice, members: Array, names: list[str], folder: Path) -> Combiner:
    if choice.combiner.rule is not None:
        return choice.combiner.rule
    name = choice.candidate[0]
    place = f"{GRAPHS}/{cascade.name(names)}.{name}.onnx"
    path = folder / place
    path.parent.mkdir(exist_ok=True)
    stacking.export(choice.combiner.model, members, path)
    return Stacked(File(place, digest(path)), name)


def _uncertainty(alone: Array, answers: Array, labels: Array, settings: Ensemble, texts: Texts) -> UncertaintyFigures:
    posterior = weights.bayes(alone, labels, settings.bayes_rows, texts.weights).posterior
    split = combine.uncertainty(alone, np.array(posterior))
    right = answers.argmax(-1) == labels

    def mean(among: Array) -> MeanUncertainty | None:
        if not among.any():
            return None
        return MeanUncertainty(**{kind: float(of_text[among].mean()) for kind, of_text in split._asdict().items()})

    return UncertaintyFigures(posterior=posterior, right=mean(right), wrong=mean(~right))


def _cascade(evidence: Evidence, frontier: Frontier, settings: Ensemble) -> CascadeThresholds:
    points = {
        quality: thresholds.measure(evidence, at, settings.confidence)
        for quality, at in _by_quality(evidence, frontier).items()
    }
    # Where not one text may differ, the bound is -log(1 - confidence) / rows.
    needed = math.ceil(-math.log(1 - settings.confidence) / settings.epsilon)
    kept = np.unique(np.linspace(0, len(frontier.points) - 1, SHOWN).round().astype(int))
    return CascadeThresholds(
        epsilon=settings.epsilon,
        confidence=settings.confidence,
        rows_needed=needed,
        by_label=frontier.by_label,
        points={quality: points[quality].figures() for quality in QUALITIES},
        frontier=[frontier.points[i].figures() for i in kept],
    )


def _by_quality(evidence: Evidence, frontier: Frontier) -> dict[Quality, Array]:
    """Return the thresholds of each quality, FP [levels - 1, labels]."""
    shape = len(evidence.costs) - 1, evidence.answers.shape[-1]
    return {"fast": np.full(shape, ALWAYS), "balanced": frontier.balanced.thresholds, "best": np.full(shape, NEVER)}


def _answers(
    evidence: Evidence,
    at: Array,
    levels: list[Level],
    alone: Array,
    order: list[str],
    texts: Texts,
) -> tuple[Array, Array]:
    """Return what rows are answered under thresholds FP [levels - 1, labels], and the uncertainty.

    Both are out of fold: probabilities FP32 [n, labels], and that of the members that were asked, FP32 [n, 3].
    """
    rows, by = np.arange(len(evidence.labels)), evidence.answered(at)
    lengths = np.zeros(len(rows), np.int64) if texts.lengths is None else texts.lengths
    answered = Answered(evidence.answers[by, rows], by, alone)
    return answered.probabilities, cascade.uncertainty(levels, order, answered, lengths)


def _slices(evidence: Evidence, frontier: Frontier, texts: Texts) -> dict[str, SliceFigures]:
    """Return of each slice its rows, what each quality gives, and where who pays more gets a worse answer."""
    if texts.slices is None:
        return {}
    rows = np.arange(len(evidence.labels))
    answers = {
        quality: evidence.answers[evidence.answered(at), rows]
        for quality, at in _by_quality(evidence, frontier).items()
    }
    report = {}
    for name in dict.fromkeys(texts.slices.tolist()):
        among = texts.slices == name
        points = {
            quality: SliceScores(
                accuracy=metrics.accuracy(of_quality[among], evidence.labels[among]),
                calibration_error=metrics.calibration_error(of_quality[among], evidence.labels[among]),
            )
            for quality, of_quality in answers.items()
        }
        report[name] = SliceFigures(rows=int(among.sum()), **points, broken=_broken(points))
    return report


def _broken(points: dict[Quality, SliceScores]) -> list[str]:
    return [
        f"{cheap} is right {points[cheap].accuracy - points[dear].accuracy:.2%} more often than {dear}"
        for cheap, dear in combinations(QUALITIES, 2)
        if points[cheap].accuracy - points[dear].accuracy > PROMISED
    ]
