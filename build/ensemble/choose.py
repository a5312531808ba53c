"""Choose how the members of a level are combined and calibrated: by cross-validated log-loss, the simplest that does.

A candidate is a combiner and a calibrator. Each row is judged by a fit that never saw it; a calibrator learns from what
the combiner says of rows that the combiner was not fitted on, where it bends enough for that to matter. The simplest
candidate is taken whose log-loss is within one standard error of the best one's, both on the same rows (Breiman et al.,
Classification and Regression Trees, 1984, section 3.4.3), and within two on every slice that has enough rows. Folds
share training rows, so the standard errors, over rows, are somewhat too small (Bengio and Grandvalet, No Unbiased
Estimator of the Variance of K-Fold Cross-Validation, 2004).
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from typing import Any, get_args

import numpy as np

from newsdesk.build.ensemble import calibrators, stacking, weights
from newsdesk.build.ensemble.figures import CandidateScores
from newsdesk.build.ensemble.folds import folds, out_of_fold
from newsdesk.build.ensemble.texts import Texts
from newsdesk.build.errors import DataError
from newsdesk.build.evaluation import metrics
from newsdesk.build.progress import track
from newsdesk.build.recipe import CalibratorName, CombinerName, Ensemble
from newsdesk.server.runtime import calibrate, combine
from newsdesk.server.runtime.arrays import Array
from newsdesk.server.runtime.calibrate import Calibrator
from newsdesk.server.runtime.combine import Bayes, ByLength, Combine, Mean, Ranks, Weighted

INNER_FOLDS = 3
"""Folds out of which a stacker's answers for its calibrator come."""

Rule = Mean | Weighted | Bayes | ByLength | Ranks
Candidate = tuple[CombinerName, CalibratorName]


@dataclass(frozen=True)
class FittedCombiner:
    """A combiner fitted on rows: its Struct, or the model that becomes the graph of a Stacked one."""

    rule: Rule | None
    model: Any
    run: Combine


@dataclass(frozen=True)
class Choice:
    """The choice for one level, fitted on all rows."""

    candidate: Candidate
    combiner: FittedCombiner
    calibrator: Calibrator
    probabilities: Array
    """FP32 [n, labels]: what each row gets from the chosen candidate fitted without it."""
    table: list[CandidateScores]
    """The scores of every candidate, the simplest first."""


def choose(
    members: Array,
    labels: Array,
    settings: Ensemble,
    seed: int,
    title: str = "",
    texts: Texts = Texts(),  # noqa: B008  frozen
) -> Choice:
    """Choose for the members of one level.

    Args:
        members: probabilities, FP [members, n, labels]
        labels: INT [n]
        settings: the combiners and calibrators that are tried
        seed: of folds and fits
        title: of the progress that is shown
        texts: of the n rows

    Raises:
        DataError: no candidate is left.
    """
    candidates = _candidates(len(members), settings, bool(texts.bounds))
    if len(labels) < 2:  # nothing to judge by
        candidates = candidates[:1]
        answers = {candidates[0]: members.mean(0)}
    else:
        answers = _cross_validated(members, labels, candidates, settings, seed, title, texts)
    losses = {candidate: _losses(of_candidate, labels) for candidate, of_candidate in answers.items()}
    means = {candidate: float(np.average(losses[candidate], weights=texts.weights)) for candidate in losses}
    best = min(means, key=means.__getitem__)
    table: list[CandidateScores] = []
    chosen, slices = None, texts.judged
    for candidate in candidates:
        worse = losses[candidate] - losses[best]
        mean, error = float(np.average(worse, weights=texts.weights)), metrics.standard_error(worse, texts.weights)
        harms = [name for name, rows in slices.items() if _is_worse(worse, texts, rows)]
        as_good = mean <= error and not harms
        if as_good and chosen is None:
            chosen = candidate
        table.append(
            CandidateScores(
                combiner=candidate[0],
                calibrator=candidate[1],
                log_loss=means[candidate],
                standard_error=metrics.standard_error(losses[candidate], texts.weights),
                worse_than_best=mean,
                interval=(mean - 1.96 * error, mean + 1.96 * error),
                harms=harms,
                accuracy=metrics.accuracy(answers[candidate], labels),
                ece=metrics.calibration_error(answers[candidate], labels),
                as_good=as_good,
                chosen=candidate == chosen,
            )
        )
    assert chosen is not None  # the best is as good as itself
    combiner, learned = fit(chosen[0], members, labels, settings, seed, texts)
    calibrator = calibrators.fit(chosen[1], *learned)
    return Choice(chosen, combiner, calibrator, answers[chosen].astype(np.float32), table)


def fit(
    name: CombinerName,
    members: Array,
    labels: Array,
    settings: Ensemble,
    seed: int,
    texts: Texts = Texts(),  # noqa: B008  frozen
) -> tuple[FittedCombiner, tuple[Array, Array, Texts]]:
    """Fit a combiner, and return with it what a calibrator learns from.

    Args:
        name: of the combiner
        members: probabilities, FP [members, n, labels]
        labels: INT [n]
        settings: of the ensemble
        seed: of folds and fits
        texts: of the n rows

    Returns:
        The combiner, and probabilities FP [k, labels], labels INT [k] and their texts.
    """
    if name in stacking.NAMES:
        parts = folds(labels, INNER_FOLDS, seed, texts.groups)
        unseen = out_of_fold(
            members, parts, lambda rest: _model(name, members[:, rest], labels[rest], seed, texts.part(rest)).run
        )
        return _model(name, members, labels, seed, texts), (unseen, labels, texts)
    if name == "blend":
        held_out = _held_out(len(labels), texts.groups, settings.blend_share, seed)
        fitted_on = texts.part(~held_out)
        blended = _rule(weights.weighted(members[:, ~held_out], labels[~held_out], fitted_on.weights))
        return blended, (blended.run(members[:, held_out]), labels[held_out], texts.part(held_out))
    rules: dict[str, Callable[[], Rule]] = {
        "mean": Mean,
        "bayes": lambda: weights.bayes(members, labels, settings.bayes_rows, texts.weights),
        "weighted": lambda: weights.weighted(members, labels, texts.weights, settings.even_rows),
        "by_length": lambda: _by_length(members, labels, texts),
        "ranks": lambda: weights.ranks(members),
    }
    ruled = _rule(rules[name]())
    return ruled, (ruled.run(members, texts.lengths), labels, texts)


def _by_length(members: Array, labels: Array, texts: Texts) -> Rule:
    """Return the same weights for all where rows fill no two buckets, as it may be in a fold."""
    if texts.lengths is None or not texts.bounds:
        return weights.weighted(members, labels, texts.weights)
    return weights.by_length(members, labels, texts.lengths, texts.bounds, texts.weights)


def _held_out(rows: int, groups: Array | None, share: float, seed: int) -> Array:
    """Return which rows the weights of "blend" are not fitted on, BOOL [rows]; a group is whole on one side."""
    group = np.arange(rows) if groups is None else np.unique(groups, return_inverse=True)[1]
    count = int(group.max()) + 1
    return (np.random.default_rng(seed).permutation(count) >= max(1, round(count * share)))[group]


def _candidates(count: int, settings: Ensemble, by_length: bool) -> list[Candidate]:
    """Return the candidates, the simplest first. One member is not combined with anything.

    An isotonic line has as many steps as the rows ask for, more than any rule has weights. Its losses vary so much that
    it is sooner within a standard error of the best.

    Raises:
        DataError: none is left.
    """
    combiners = [name for name in get_args(CombinerName) if name in settings.combiners] if count > 1 else ["mean"]
    usable = [name for name in get_args(CalibratorName) if name in settings.calibrators]
    every = [
        pair for pair in product(combiners, usable) if by_length or not {"by_length", "temperature_by_length"} & {*pair}
    ]
    if not every:
        raise DataError("all combiners or calibrators of the recipe go by length, and rows fill no two buckets of it")
    return sorted(every, key=lambda candidate: (candidate[0] in stacking.NAMES, candidate[1] == "isotonic"))


def _cross_validated(
    members: Array,
    labels: Array,
    candidates: list[Candidate],
    settings: Ensemble,
    seed: int,
    title: str,
    texts: Texts,
) -> dict[Candidate, Array]:
    parts = folds(labels, settings.folds, seed, texts.groups)
    answers = {candidate: np.empty(members.shape[1:]) for candidate in candidates}
    names = list(dict.fromkeys(name for name, _ in candidates))
    for part, name in track([*product(parts, names)], f"combining {title}".strip()):
        rest = np.setdiff1d(np.arange(len(labels)), part)
        combiner, learned = fit(name, members[:, rest], labels[rest], settings, seed, texts.part(rest))
        lengths = texts.part(part).lengths
        combined = combiner.run(members[:, part], lengths)
        for candidate in candidates:
            if candidate[0] == name:
                calibrator = calibrators.fit(candidate[1], *learned)
                answers[candidate][part] = calibrate.ready(calibrator)(combined, lengths)
    return answers


def _model(name: str, members: Array, labels: Array, seed: int, texts: Texts) -> FittedCombiner:
    model = stacking.fit(name, members, labels, seed, texts.weights)
    return FittedCombiner(None, model, lambda some, lengths=None: combine.normalised(stacking.predict(model, some)))


def _rule(rule: Rule) -> FittedCombiner:
    return FittedCombiner(rule, None, combine.ready(rule))


def _losses(probabilities: Array, labels: Array) -> Array:
    return -np.log(np.maximum(probabilities[np.arange(len(labels)), labels], combine.FLOOR, dtype=np.float64))


def _is_worse(worse: Array, texts: Texts, rows: Array) -> bool:
    """Return whether the loss on a slice is above the best candidate's by two standard errors."""
    return metrics.is_worse(worse[rows], np.zeros(len(rows)), errors=2, weights=texts.part(rows).weights)
