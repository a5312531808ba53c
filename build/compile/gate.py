"""The gate that every precision passes through: as right as the float model, and nearly always of its opinion."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from newsdesk.build.compile.predict import Examples, probabilities
from newsdesk.build.evaluation.metrics import accuracy, agreement
from newsdesk.server.runtime.engines import Engine


@dataclass(frozen=True)
class Gate:
    """Decides on the validation rows; `reference` are the float model's probabilities on them, [rows, labels]."""

    examples: Examples
    reference: np.ndarray
    max_accuracy_loss: float
    min_agreement: float

    def measure(self, engine: Engine, title: str) -> dict[str, Any]:
        """Run the engine over the rows and return its figures, `passed` among them."""
        return self.judge(probabilities(engine, self.examples, title))

    def judge(self, answers: np.ndarray) -> dict[str, Any]:
        labels = self.examples.labels
        finite = bool(np.isfinite(answers).all())
        lost = accuracy(self.reference, labels) - accuracy(answers, labels)
        agreed = agreement(self.reference, answers)
        # A rounding error must not decide where the loss is exactly the limit.
        passed = finite and lost <= self.max_accuracy_loss + 1e-9 and agreed >= self.min_agreement - 1e-9
        return {
            "accuracy": round(accuracy(answers, labels), 5),
            "accuracy_loss": round(lost, 5),
            "agreement": round(agreed, 5),
            "finite": finite,
            "passed": passed,
        }

    def reason(self, figures: dict[str, Any]) -> str:
        """Say why these figures did not pass, with the limits."""
        if "error" in figures:
            return figures["error"]
        if not figures["finite"]:
            return "it gives NaN or Inf"
        return (
            f"accuracy loss {figures['accuracy_loss']:.4f} (at most {self.max_accuracy_loss}), "
            f"agreement {figures['agreement']:.4f} (at least {self.min_agreement})"
        )
