"""Choose which members serve, by what each says of rows that it was not fitted on."""

from dataclasses import dataclass
from itertools import combinations

import numpy as np
from msgspec import Struct

from newsdesk.build.ensemble import calibrators
from newsdesk.build.ensemble.balance import equal
from newsdesk.build.evaluation import metrics
from newsdesk.build.evaluation.figures import Interval
from newsdesk.server.runtime import calibrate
from newsdesk.server.runtime.arrays import Array
from newsdesk.server.runtime.calibrate import Calibrator


class SetScores(Struct, frozen=True, kw_only=True):
    """A set of members, by the mean of what they say of rows that they were not fitted on."""

    members: list[str]
    log_loss: float
    accuracy: float
    macro_f1: float
    accuracy_interval: Interval
    chosen: bool


@dataclass(frozen=True)
class Selection:
    """The members chosen, what they say together, FP64 [rows, labels], and the figures of every set of members."""

    members: list[str]
    probabilities: Array
    table: list[SetScores]


def select(members: dict[str, Array], labels: Array, most: int = 3, *, balanced: bool = False) -> Selection:
    """Choose the set of members whose mean says the labels best.

    Each member is calibrated as `calibrators.of_member` does, and the mean by a temperature. The set with the least
    log-loss is found, and from it the largest that holds it and is not worse by two standard errors: members that are
    wrong in different places are worth more on texts to come than few rows can show. A member that does not know the
    language makes the mean clearly worse, and is left out.

    Args:
        members: what each says of the rows out of fold, FP [rows, labels], by name
        labels: INT [rows]
        most: members of a set at most
        balanced: whether every label counts the same, however few its rows
    """
    weights = equal(labels) if balanced else None
    calibrated = {
        name: _by(calibrators.of_member(probabilities, labels, weights), probabilities)
        for name, probabilities in members.items()
    }
    averaged: dict[tuple[str, ...], Array] = {}
    for count in range(1, min(most, len(members)) + 1):
        for names in combinations(members, count):
            mean = np.mean([calibrated[name] for name in names], axis=0)
            averaged[names] = _by(calibrators.temperature(mean, labels, weights), mean)
    of_rows = {names: metrics.row_losses(probabilities, labels) for names, probabilities in averaged.items()}
    losses = {names: float(np.average(each, weights=weights)) for names, each in of_rows.items()}
    least = min(losses, key=losses.__getitem__)
    holding = [names for names in averaged if {*least} <= {*names}]
    usable = [
        names for names in holding if not metrics.is_worse(of_rows[names], of_rows[least], errors=2, weights=weights)
    ]
    best = min(usable, key=lambda names: (-len(names), losses[names]))
    table = [
        SetScores(
            members=[*names],
            log_loss=losses[names],
            accuracy=metrics.accuracy(probabilities, labels),
            macro_f1=metrics.macro_f1(probabilities, labels),
            accuracy_interval=interval(metrics.accuracy(probabilities, labels), len(labels)),
            chosen=names == best,
        )
        for names, probabilities in averaged.items()
    ]
    return Selection([*best], averaged[best], table)


def interval(share: float, rows: int, z: float = 1.96) -> Interval:
    """Return the 95 % interval of a share of rows: Wilson, Probable Inference (1927)."""
    centre = (share + z * z / (2 * rows)) / (1 + z * z / rows)
    half = z / (1 + z * z / rows) * np.sqrt(share * (1 - share) / rows + z * z / (4 * rows * rows))
    return round(float(max(centre - half, 0)), 4), round(float(min(centre + half, 1)), 4)


def describe(selection: Selection) -> list[str]:
    """Return a line for each set of members, the best first."""
    lines = []
    for line in sorted(selection.table, key=lambda line: line.log_loss):
        low, high = line.accuracy_interval
        lines.append(
            f"{' + '.join(line.members)}: out of fold accuracy {line.accuracy:.1%} ({low:.1%} to {high:.1%}), "
            f"log-loss {line.log_loss:.3f}{' <- serves' if line.chosen else ''}"
        )
    return lines


def _by(calibrator: Calibrator, probabilities: Array) -> Array:
    return calibrate.ready(calibrator)(probabilities.astype(np.float32)).astype(np.float64)
