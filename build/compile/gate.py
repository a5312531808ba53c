"""The gate that every precision passes through: as right as the float model, and nearly always of its opinion."""

from dataclasses import dataclass

import numpy as np

from newsdesk.build.compile.metrics import GateScores, VariantFigures
from newsdesk.build.compile.predict import Examples, probabilities
from newsdesk.build.evaluation.metrics import accuracy, agreement
from newsdesk.server.runtime.arrays import Array
from newsdesk.server.runtime.engines import Engine


@dataclass(frozen=True)
class Gate:
    """Decides on the validation rows; `reference` are the float model's probabilities on them, [rows, labels]."""

    examples: Examples
    reference: Array
    max_accuracy_loss: float
    min_agreement: float

    def measure(self, engine: Engine, title: str) -> GateScores:
        """Run the engine over the rows and judge its answers."""
        return self.judge(probabilities(engine, self.examples, title))

    def judge(self, answers: Array) -> GateScores:
        """Return the scores of answers to the rows, FP [rows, labels], rounded to five places."""
        labels = self.examples.labels
        finite = bool(np.isfinite(answers).all())
        lost = accuracy(self.reference, labels) - accuracy(answers, labels)
        agreed = agreement(self.reference, answers)
        # A rounding error must not decide where the loss is exactly the limit.
        passed = finite and lost <= self.max_accuracy_loss + 1e-9 and agreed >= self.min_agreement - 1e-9
        return GateScores(
            accuracy=round(accuracy(answers, labels), 5),
            accuracy_loss=round(lost, 5),
            agreement=round(agreed, 5),
            finite=finite,
            passed=passed,
        )

    def reason(self, figures: VariantFigures) -> str:
        """Return why a variant did not pass, with the limits."""
        if figures.error:
            return figures.error
        if not figures.finite:
            return "it gives NaN or Inf"
        return (
            f"accuracy loss {figures.accuracy_loss:.4f} (at most {self.max_accuracy_loss}), "
            f"agreement {figures.agreement:.4f} (at least {self.min_agreement})"
        )
