"""In which precision an encoder is fitted here."""

from functools import cache
from time import perf_counter

import torch

from newsdesk.server.runtime import processor

_SIZE, _TRIES = 512, 5
_GAIN = 1.5
"""How many times faster bf16 has to be: a step also does what gains nothing by it."""


@cache
def bf16_is_faster() -> bool:
    """Return whether autocast to bf16 fits an encoder faster than fp32 here, which is timed on a CPU.

    The flags don't say. Cores with AMX tiles, and AMD's Zen 5, multiply four times as fast in bf16; a core that has the
    instructions, but no unit as wide, 0.6 times as fast. Without the instructions nothing is tried: it takes seconds.
    """
    if torch.cuda.is_available():
        return True
    if not processor.BF16 & processor.features():
        return False
    exact = torch.ones(_SIZE, _SIZE)
    return _seconds(exact) > _GAIN * _seconds(exact.bfloat16())


def _seconds(matrix: torch.Tensor) -> float:
    """Return the seconds that a product of a matrix with itself takes: of a few tries the fastest."""
    times = []
    for _ in range(_TRIES):
        start = perf_counter()
        torch.mm(matrix, matrix)
        times.append(perf_counter() - start)
    return min(times)
