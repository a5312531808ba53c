"""The members of an ensemble in order of cost, calibrated by temperature."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from newsdesk.build.ensemble import calibrators
from newsdesk.build.ensemble.balance import equal
from newsdesk.build.ensemble.figures import CalibratedScores, MemberFigures
from newsdesk.build.ensemble.out_of_fold import OutOfFold
from newsdesk.server.runtime import calibrate
from newsdesk.server.runtime.arrays import Array
from newsdesk.server.runtime.calibrate import Temperature, Vector


@dataclass(frozen=True)
class CalibratedMembers:
    """Members in order of cost, the cheapest first.

    Attributes:
        names: of the members
        costs: of each, seconds a text, or any other unit
        calibrators: of each
        uncalibrated: their probabilities, FP32 [members, n, labels]
        probabilities: calibrated, FP32 [members, n, labels]
        left_out: more rows, of each; none of a member without
    """

    names: list[str]
    costs: list[float]
    calibrators: list[Temperature | Vector]
    uncalibrated: Array
    probabilities: Array
    left_out: list[OutOfFold]

    @property
    def prefixes(self) -> list[list[str]]:
        """The members of each level: those of the one before it, and the next dearer one."""
        return [self.names[: i + 1] for i in range(len(self.names))]

    def first_with_left_out(self, labels: Array) -> tuple[Array, Array]:
        """Return the first member's calibrated probabilities of all rows, those left out behind the others, and labels.

        Args:
            labels: of the n rows, INT [n]
        """
        left_out = self.left_out[0]
        calibrated = calibrate.ready(self.calibrators[0])(left_out.probabilities).astype(np.float32)
        return left_out._replace(probabilities=calibrated).after(self.probabilities[0], labels)

    def figures(self, labels: Array) -> dict[str, MemberFigures]:
        """Return each member's figures on n rows with these labels, INT [n], by name."""
        return {
            name: MemberFigures(
                cost=self.costs[i],
                rows_left_out=len(self.left_out[i].labels),
                temperature=_temperature(self.calibrators[i]),
                calibrated=CalibratedScores.of(self.probabilities[i], labels),
                uncalibrated=CalibratedScores.of(self.uncalibrated[i], labels),
            )
            for i, name in enumerate(self.names)
        }


def fit(
    members: list[str],
    probabilities: Array,
    labels: Array,
    costs: list[float],
    left_out: Mapping[str, OutOfFold],
    *,
    balanced: bool,
) -> CalibratedMembers:
    """Put members in order and fit each one's calibrator on all rows.

    Args:
        members: their names
        probabilities: of each, FP [members, n, labels]
        labels: INT [n]
        costs: of each, seconds a text, or any other unit
        left_out: more rows that calibrate the members that have them, by name
        balanced: whether every label counts the same; a calibrator then has an offset a label
    """
    order = sorted(range(len(members)), key=lambda i: costs[i])
    names = [members[i] for i in order]
    more = [left_out.get(name, OutOfFold.none(probabilities.shape[-1])) for name in names]
    uncalibrated = probabilities[order].astype(np.float32)
    fitted = []
    for answers, of_member in zip(uncalibrated, more, strict=True):
        learned, truth = of_member.after(answers, labels)
        fitted.append(calibrators.of_member(learned, truth, equal(truth) if balanced else None))
    calibrated = [calibrate.ready(each)(answers) for each, answers in zip(fitted, uncalibrated, strict=True)]
    return CalibratedMembers(
        names, [costs[i] for i in order], fitted, uncalibrated, np.array(calibrated, np.float32), more
    )


def _temperature(calibrator: Temperature | Vector) -> float:
    return calibrator.temperature if isinstance(calibrator, Temperature) else 1 / calibrator.slopes[0]
