"""Compile a member for every target that this machine runs, and choose by measurement."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from newsdesk.build.compile.gate import Gate
from newsdesk.build.compile.predict import Examples, on_all_cores, probabilities
from newsdesk.build.errors import BuildError
from newsdesk.build.progress import track
from newsdesk.build.recipe import Compile
from newsdesk.server.runtime import engines
from newsdesk.server.runtime.engines import Engine

Figures = dict[str, Any]


def measure(graphs: dict[str, Path], gate: Gate, settings: Compile) -> dict[str, Figures]:
    """Return the figures of every target whose variant is among `graphs`; `passed` where it may serve.

    Each is judged by the gate, by how much its answers depend on the texts beside them (`company_difference`), and
    timed in articles/s on one thread. A target that cannot be loaded here has `error` instead.
    """
    figures: dict[str, Figures] = {}
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
            figures[target] = {"variant": variant, "passed": False, "error": str(error).strip().splitlines()[0]}
            continue
        found = figures[target] = {"variant": variant, **gate.measure(judged, target)}
        together, alone = probabilities(engine, some, target), probabilities(engine, some, target, alone=True)
        found["company_difference"] = round(float(np.abs(together - alone).max()), 5)
        # A NaN is not less or equal.
        found["passed"] = found["passed"] and found["company_difference"] <= settings.max_company_difference
    for target, speed in speeds(loaded, some, settings).items():
        figures[target]["articles_per_second"] = round(speed, 1)
    return figures


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


def choose(figures: dict[str, Figures], wanted: Sequence[str], say: Callable[[str], None]) -> str:
    """Return the fastest target that passed the gate and reads one of the `wanted` variants (empty: any).

    Where no wanted variant passed, the fastest of the others is taken, and said so.
    """
    passed = {target: found for target, found in figures.items() if found["passed"]}
    if not passed:
        raise BuildError(f"no target passed on this machine: {figures}. Look at the export's parity figures.")
    among = {target: found for target, found in passed.items() if found["variant"] in wanted} if wanted else passed
    if not among:
        say(f"none of the wanted variants ({', '.join(wanted)}) passed; another precision serves")
        among = passed
    return max(among, key=lambda target: among[target]["articles_per_second"])


def describe(found: Figures) -> str:
    """Return a target's figures in a line."""
    if "error" in found:
        return f"cannot be loaded here: {found['error']}"
    return (
        f"{found['articles_per_second']:,} articles/s, accuracy {found['accuracy']:.2%}, agreement "
        f"{found['agreement']:.2%}, neighbours change a probability by up to {found['company_difference']}"
        f"{'' if found['passed'] else ': does not pass'}"
    )
