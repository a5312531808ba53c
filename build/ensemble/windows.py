"""Fit the rule by which a member's probabilities of a long text's windows become the text's."""

import numpy as np
from scipy.optimize import minimize_scalar

from newsdesk.build.ensemble import calibrators
from newsdesk.build.errors import DataError
from newsdesk.server.runtime import calibrate
from newsdesk.server.runtime.arrays import Array
from newsdesk.server.runtime.combine import FLOOR
from newsdesk.server.runtime.windows import Confidence, Place, Rule, combine

_FIRST, _POWER = (0.1, 20.0), (0.1, 20.0)
"""Between which the weight of the first window, and the power of confidence, are looked for."""


def fit(windows: list[Array], labels: Array) -> Rule:
    """Return the simplest rule whose log-loss is within one standard error of the best one's.

    Each rule is judged behind a temperature of its own, because whatever is sharper would win among members that are
    not sure enough. It has one parameter, so what it is fitted on judges it.

    Args:
        windows: of each text, and of each member of each text, FP [windows, labels] of one or more windows; texts of
            one window say nothing
        labels: INT [texts], as many as `windows`

    Raises:
        DataError: sizes do not match.
    """
    if len(windows) != len(labels):
        raise DataError(f"windows of {len(windows)} texts and {len(labels)} labels, expected as many")
    several = [len(of_text) > 1 for of_text in windows]
    long = [of_text for of_text, is_long in zip(windows, several, strict=True) if is_long]
    if not long:
        return "mean"
    probabilities, counts = np.concatenate(long), np.array([len(of_text) for of_text in long])
    truth = np.asarray(labels)[several]

    def losses(rule: Rule) -> Array:
        combined = combine(probabilities, counts, rule)
        calibrated = calibrate.ready(calibrators.temperature(combined, truth))(combined)
        return -np.log(np.maximum(calibrated[np.arange(len(truth)), truth], FLOOR))

    place = minimize_scalar(lambda log: losses(Place(float(np.exp(log)))).mean(), bounds=np.log(_FIRST))
    power = minimize_scalar(lambda log: losses(Confidence(float(np.exp(log)))).mean(), bounds=np.log(_POWER))
    rules: list[Rule] = ["mean", Place(float(np.exp(place.x))), Confidence(float(np.exp(power.x)))]
    judged = [losses(rule) for rule in rules]
    best = min(judged, key=np.mean)
    for rule, of_rule in zip(rules, judged, strict=True):
        worse = of_rule - best
        if worse.mean() <= worse.std(ddof=1 if len(worse) > 1 else 0) / np.sqrt(len(worse)):
            return rule
    raise AssertionError("the best rule is as good as itself")
