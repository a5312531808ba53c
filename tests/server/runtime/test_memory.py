"""A batch's memory is the system's again, whatever outlives the batch."""

import subprocess
import sys

_BATCH = """
import os
from pathlib import Path
from newsdesk.server.runtime.memory import HeapTrimmer

def resident_mb():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6

freed = HeapTrimmer()
before = resident_mb()
batch = [bytes(10_000) for _ in range(10_000)]
outlives = bytes(10_000)
during = resident_mb()
del batch
after = resident_mb()
freed.trim()
print(before, during, after, resident_mb())
"""


def test_what_a_batch_took_is_given_back_below_what_outlives_it():
    """The C library alone keeps all of it: 100 MB here."""
    ran = subprocess.run([sys.executable, "-c", _BATCH], capture_output=True, text=True, check=True)
    before, during, after, given_back = map(float, ran.stdout.split())
    assert during > before + 90
    assert after > before + 90
    assert given_back < before + 10
