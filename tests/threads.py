"""Threads of numerical libraries: one in a process of tests, as many as they take in a server that a test starts."""

import os

VARIABLES = "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"


def bound() -> None:
    """Let this process compute on one thread. Call it before NumPy or PyTorch is imported.

    Where two processes of tests share two cores, the threads of a step wait for each other: fits of a few hundred rows
    took 20 to 40 times as long.
    """
    os.environ.update(dict.fromkeys(VARIABLES, "1"))


def unbound() -> dict[str, str]:
    """Return the environment as a user has it."""
    return {name: value for name, value in os.environ.items() if name not in VARIABLES}
