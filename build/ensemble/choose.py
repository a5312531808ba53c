"""Choose how the members of a stage are combined and calibrated: by cross-validated log-loss, the simplest that does.

A candidate is a combiner and a calibrator. Each row is judged by a fit that never saw it; a calibrator learns from what
the combiner says of rows that the combiner was not fitted on, where it bends enough for that to matter. The simplest
candidate is taken whose log-loss is within one standard error of the best one's, both on the same rows (Breiman et al.,
Classification and Regression Trees, 1984, section 3.4.3). Folds share training rows, so the standard errors, over rows,
are somewhat too small (Bengio and Grandvalet, No Unbiased Estimator of the Variance of K-Fold Cross-Validation, 2004).
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from typing import Any, get_args

import numpy as np

from newsdesk.build.ensemble import calibrators, stacking, weights
from newsdesk.build.ensemble.folds import folds, out_of_fold
from newsdesk.build.evaluation import metrics
from newsdesk.build.progress import track
from newsdesk.build.recipe import CalibratorName, CombinerName, Ensemble
from newsdesk.server.runtime import calibrate, combine
from newsdesk.server.runtime.calibrate import Calibrator
from newsdesk.server.runtime.combine import Bayes, Combine, Mean, Ranks, Weighted

INNER_FOLDS = 3
"""Where a stacker's answers for its calibrator come from."""

Rule = Mean | Weighted | Bayes | Ranks
Candidate = tuple[CombinerName, CalibratorName]


@dataclass(frozen=True)
class Fitted:
    """A combiner fitted on rows: its Struct, or the model that becomes the graph of a Stacked one."""

    rule: Rule | None
    model: Any
    run: Combine


@dataclass(frozen=True)
class Choice:
    """What was chosen for one stage, fitted on all rows."""

    candidate: Candidate
    combiner: Fitted
    calibrator: Calibrator
    probabilities: np.ndarray
    """FP32 [n, labels]: what each row gets from the chosen candidate fitted without it."""
    table: list[dict[str, Any]]
    """Of every candidate, the simplest first: combiner, calibrator, log_loss, standard_error, worse_than_best with its
    95 % interval, accuracy, ece, as_good and chosen."""


def choose(members: np.ndarray, labels: np.ndarray, settings: Ensemble, seed: int, title: str = "") -> Choice:
    """Choose for the members FP [members, n, labels] of one stage, on labels INT [n]."""
    candidates = _candidates(len(members), settings)
    if len(labels) < 2:  # nothing to judge by
        candidates = candidates[:1]
        found = {candidates[0]: members.mean(0)}
    else:
        found = _cross_validated(members, labels, candidates, settings, seed, title)
    losses = {candidate: _losses(of_candidate, labels) for candidate, of_candidate in found.items()}
    best = min(losses, key=lambda candidate: losses[candidate].mean())
    table, chosen = [], None
    for candidate in candidates:
        worse = losses[candidate] - losses[best]
        mean, error = float(worse.mean()), _standard_error(worse)
        as_good = mean <= error
        if as_good and chosen is None:
            chosen = candidate
        table.append(
            {
                "combiner": candidate[0],
                "calibrator": candidate[1],
                "log_loss": float(losses[candidate].mean()),
                "standard_error": _standard_error(losses[candidate]),
                "worse_than_best": mean,
                "interval": [mean - 1.96 * error, mean + 1.96 * error],
                "accuracy": metrics.accuracy(found[candidate], labels),
                "ece": metrics.calibration_error(found[candidate], labels),
                "as_good": as_good,
                "chosen": candidate == chosen,
            }
        )
    assert chosen is not None  # the best is as good as itself
    combiner, said, of_said = fit(chosen[0], members, labels, settings, seed)
    calibrator = calibrators.FIT[chosen[1]](said, of_said)
    return Choice(chosen, combiner, calibrator, found[chosen].astype(np.float32), table)


def fit(
    name: CombinerName, members: np.ndarray, labels: np.ndarray, settings: Ensemble, seed: int
) -> tuple[Fitted, np.ndarray, np.ndarray]:
    """Fit a combiner, and return with it what a calibrator learns from: FP [k, labels] and INT [k]."""
    if name in stacking.NAMES:
        parts = folds(labels, INNER_FOLDS, seed)
        said = out_of_fold(members, labels, parts, lambda some, of_some: _model(name, some, of_some, seed).run)
        return _model(name, members, labels, seed), said, labels
    if name == "blend":
        random = np.random.default_rng(seed)
        held_out = random.permutation(len(labels)) >= max(1, round(len(labels) * settings.blend_share))
        blended = _rule(weights.weighted(members[:, ~held_out], labels[~held_out]))
        return blended, blended.run(members[:, held_out]), labels[held_out]
    rules: dict[str, Callable[[], Rule]] = {
        "mean": Mean,
        "bayes": lambda: weights.bayes(members, labels, settings.bayes_rows),
        "weighted": lambda: weights.weighted(members, labels),
        "ranks": lambda: weights.ranks(members),
    }
    ruled = _rule(rules[name]())
    return ruled, ruled.run(members), labels


def _candidates(count: int, settings: Ensemble) -> list[Candidate]:
    """The simplest first. One member is not combined with anything.

    An isotonic line has as many steps as the rows ask for, more than any rule has weights. Its losses vary so much that
    it is sooner within a standard error of the best.
    """
    combiners = [name for name in get_args(CombinerName) if name in settings.combiners] if count > 1 else ["mean"]
    every = product(combiners, (name for name in get_args(CalibratorName) if name in settings.calibrators))
    return sorted(every, key=lambda one: (one[0] in stacking.NAMES, one[1] == "isotonic"))


def _cross_validated(
    members: np.ndarray, labels: np.ndarray, candidates: list[Candidate], settings: Ensemble, seed: int, title: str
) -> dict[Candidate, np.ndarray]:
    parts = folds(labels, settings.folds, seed)
    found = {candidate: np.empty(members.shape[1:]) for candidate in candidates}
    names = list(dict.fromkeys(name for name, _ in candidates))
    for part, name in track([*product(parts, names)], f"combining {title}".strip()):
        rest = np.setdiff1d(np.arange(len(labels)), part)
        combiner, said, of_said = fit(name, members[:, rest], labels[rest], settings, seed)
        combined = combiner.run(members[:, part])
        for candidate in candidates:
            if candidate[0] == name:
                calibrator = calibrators.FIT[candidate[1]](said, of_said)
                found[candidate][part] = calibrate.ready(calibrator)(combined)
    return found


def _model(name: str, members: np.ndarray, labels: np.ndarray, seed: int) -> Fitted:
    model = stacking.fit(name, members, labels, seed)
    return Fitted(None, model, lambda some: combine.normalised(stacking.predict(model, some)))


def _rule(rule: Rule) -> Fitted:
    return Fitted(rule, None, combine.ready(rule))


def _losses(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    return -np.log(np.maximum(probabilities[np.arange(len(labels)), labels], combine.FLOOR, dtype=np.float64))


def _standard_error(values: np.ndarray) -> float:
    return float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else 0.0
