"""Compare what was compiled with the original model, and fail the build where it does not answer alike."""

from pathlib import Path

import numpy as np
from msgspec.structs import replace

from newsdesk.build.compile.metrics import Differences, Limits
from newsdesk.build.compile.predict import RUNS_ANY, Examples, probabilities
from newsdesk.build.errors import VerificationError
from newsdesk.build.evaluation.metrics import agreement
from newsdesk.build.recipe import Verify
from newsdesk.server.runtime import engines
from newsdesk.server.runtime.arrays import Array

EXTREMES = {
    "one token": "a",
    "maximum length": "the markets fell again on tuesday " * 2000,
    "one endless word": "a" * 5000,
    "unknown tokens": "\U00013000 \U00013001 \U00013002 " * 20,
    "emoji": "\U0001f600\U0001f680\U0001f1fa\U0001f1f3 \U0001f469\u200d\U0001f52c \U0001f44d\U0001f3fd",
    "right-to-left": "\u0627\u0644\u0623\u062e\u0628\u0627\u0631 \u05d7\u05d3\u05e9\u05d5\u05ea",
    "digits": "3.14159 2718281828 42% 1,000,000 -0 " * 10,
    "punctuation": "!?.,;:()[]{}<>|/\\~^`'\"" * 10,
    "combining marks": "e\u0301\u0323\u0308" * 50,
}
"""Texts that no article looks like."""
ON_GPUS = {"fp16", "int8-fp16", "fp8"}
"""Variants that no target of a processor reads; here ONNX Runtime, which takes any graph, stands in for the GPU."""


def limits(target: str, tolerances: Verify) -> Limits:
    """Return the limits of a target of this precision."""
    precision = target.partition(":")[2]
    if precision.startswith(("int8", "fp8")):
        return Limits(
            real=tolerances.int8_tolerance,
            within=1 - tolerances.int8_outliers,
            extreme=tolerances.int8_extreme_tolerance,
            agreement=tolerances.int8_min_agreement,
        )
    tolerance = tolerances.float_tolerance if precision == "fp32" else tolerances.half_tolerance
    return Limits(real=tolerance, within=1.0, extreme=tolerance, agreement=0.0)


def compare(target: str, answers: Array, original: Array, real: int, tolerances: Verify) -> Differences:
    """Compare probabilities with the original's.

    Args:
        target: whose limits count
        answers: FP [rows, labels], the first `real` rows articles and then EXTREMES
        original: of the same rows, FP [rows, labels]
        real: how many rows are articles
        tolerances: the recipe's

    Raises:
        VerificationError: a probability is NaN or Inf, or differs by more than the target's limits.
    """
    names = [*(f"row {i}" for i in range(real)), *EXTREMES]
    if not np.isfinite(answers).all():
        first = int((~np.isfinite(answers)).any(-1).argmax())
        raise VerificationError(f"{target}: NaN or Inf for {names[first]}; expected what the original gives")
    difference = np.abs(answers - original).max(-1)
    limit = limits(target, tolerances)
    on_real, on_extremes = difference[:real], difference[real:]
    differences = Differences(
        largest=float(on_real.max()),
        quantile=float(np.quantile(on_real, limit.within)),
        mean=float(on_real.mean()),
        agreement=agreement(answers[:real], original[:real]),
        largest_extreme=float(on_extremes.max()),
        limits=limit,
    )
    advice = "Rebuild from the quantise stage, or keep another precision (repository.variants)."
    if differences.quantile > limit.real:
        raise VerificationError(
            f"{target}: {limit.within:.0%} of {real} rows should be within {limit.real} of the original's "
            f"probabilities, but are within {differences.quantile:.4f} (worst: {names[int(on_real.argmax())]}). "
            f"{advice}"
        )
    if differences.agreement < limit.agreement:
        raise VerificationError(
            f"{target}: names the original's label on {differences.agreement:.2%} of {real} rows, "
            f"expected {limit.agreement:.2%}. {advice}"
        )
    if differences.largest_extreme > limit.extreme:
        raise VerificationError(
            f"{target}: differs by {differences.largest_extreme:.4f} on {names[real + int(on_extremes.argmax())]!r}, "
            f"expected at most {limit.extreme}. {advice}"
        )
    return differences


def verify(
    artifacts: dict[str, Path], examples: Examples, original: Array, tolerances: Verify
) -> dict[str, Differences]:
    """Verify each target's graph against the original's probabilities.

    Rows are run in groups and alone: `largest_in_company` says how much a row's neighbours changed its answer, which
    must stay within the same limits.

    Args:
        artifacts: target → graph
        examples: real rows, then EXTREMES
        original: FP [rows, labels]
        tolerances: the recipe's

    Raises:
        VerificationError: a target does not keep to its limits.
    """
    real = len(examples.labels) - len(EXTREMES)
    differences = {}
    for target, graph in artifacts.items():
        engine = engines.load(target if target in engines.TARGETS else RUNS_ANY, graph)
        together = probabilities(engine, examples, f"{target}, together")
        alone = probabilities(engine, examples, f"{target}, alone", alone=True)
        compared = compare(target, alone, original, real, tolerances)
        compare(target, together, original, real, tolerances)
        differences[target] = replace(compared, largest_in_company=float(np.abs(together - alone).max()))
    return differences
