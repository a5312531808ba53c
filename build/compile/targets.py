"""Compile a member for every target that this machine runs, and choose by measurement."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from msgspec.structs import asdict, replace

from newsdesk.build.compile.gate import Gate
from newsdesk.build.compile.metrics import TargetMetrics
from newsdesk.build.compile.predict import Examples, on_all_cores, probabilities
from newsdesk.build.errors import BuildError
from newsdesk.build.progress import track
from newsdesk.build.recipe import Compile
from newsdesk.server.runtime import engines
from newsdesk.server.runtime.engines import Engine


def measure(graphs: dict[str, Path], gate: Gate, settings: Compile) -> dict[str, TargetMetrics]:
    """Return the metrics of every target whose variant is among `graphs`.

    Each is judged by the gate, by how much its answers depend on the texts beside them (`company_difference`), and
    timed in articles/s on one thread. A target that cannot be loaded here has `error` instead.
    """
    metrics: dict[str, TargetMetrics] = {}
    loaded: dict[str, Engine] = {}
    some = gate.examples.part(0, settings.rows)
    for target in engines.here():
        variant = engines.TARGETS[target]
        if variant not in graphs:
            continue
        try:
            engine = loaded[target] = engines.load(target, graphs[variant])
            judged = on_all_cores(target, graphs[variant])
        except Exception as error:  # each engine raises its own kinds; another target may still serve
            reason = str(error).strip().splitlines()[0]
            metrics[target] = TargetMetrics(variant=variant, passed=False, error=reason)
            continue
        measured = gate.measure(judged, target)
        together, alone = probabilities(engine, some, target), probabilities(engine, some, target, alone=True)
        difference = round(float(np.abs(together - alone).max()), 5)
        # A NaN is not less or equal.
        passed = measured.passed and difference <= settings.max_company_difference
        scores = asdict(replace(measured, passed=passed))
        metrics[target] = TargetMetrics(variant=variant, **scores, company_difference=difference)
    for target, speed in speeds(loaded, some, settings).items():
        metrics[target] = replace(metrics[target], articles_per_second=round(speed, 1))
    return metrics


def speeds(loaded: dict[str, Engine], examples: Examples, settings: Compile) -> dict[str, float]:
    """Return each engine's articles/s on one thread, on rows that arrive `batch` at a time, after a warm-up.

    The engines take turns, so that what else the machine does meets all of them; the best round counts.
    """
    arriving = [examples.part(at, at + settings.batch) for at in range(0, len(examples.labels), settings.batch)]
    batches = {
        target: [[*part.padded(part.groups(engine), engine)] for part in arriving] for target, engine in loaded.items()
    }
    best = dict.fromkeys(loaded, np.inf)
    turns = [(turn, *item) for turn in range(settings.rounds + 1) for item in loaded.items()]
    for turn, target, engine in track(turns, "timing"):
        start = time.perf_counter()
        for groups in batches[target]:
            for padded in groups:
                engine(*padded)
        if turn:  # the first is the warm-up: kernels are made for the shapes met
            best[target] = min(best[target], time.perf_counter() - start)
    return {target: len(examples.labels) / seconds for target, seconds in best.items()}


def choose(metrics: dict[str, TargetMetrics], wanted: Sequence[str], say: Callable[[str], None]) -> str:
    """Return the fastest target that passed the gate and reads one of the wanted variants.

    Where no wanted variant passed, the fastest of the others is taken, and said so.

    Args:
        metrics: of each target
        wanted: variants; empty: any
        say: is told where none of them passed

    Raises:
        BuildError: no target passed.
    """
    passed = {target: measured for target, measured in metrics.items() if measured.passed}
    if not passed:
        raise BuildError(f"no target passed on this machine: {metrics}. Look at the export's parity figures.")
    among = (
        {target: measured for target, measured in passed.items() if measured.variant in wanted} if wanted else passed
    )
    if not among:
        say(f"none of the wanted variants ({', '.join(wanted)}) passed; another precision serves")
        among = passed
    return max(among, key=lambda target: among[target].articles_per_second)


def describe(measured: TargetMetrics) -> str:
    """Return a target's metrics in a line."""
    if measured.error:
        return f"cannot be loaded here: {measured.error}"
    return (
        f"{measured.articles_per_second:,} articles/s, accuracy {measured.accuracy:.2%}, agreement "
        f"{measured.agreement:.2%}, neighbours change a probability by up to {measured.company_difference}"
        f"{'' if measured.passed else ': does not pass'}"
    )
