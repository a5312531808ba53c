"""The processor cores that this process may use."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

FEWEST_INSTANCES = 2
"""Backend processes. Triton's batcher looks for a free instance when a request comes, or after half a second. In a
closed loop the only instance is not yet free when the last request comes, and everybody waits for that half second. The
curve that `newsdesk tune` prints shows it."""


def granted_cores(root: Path = Path("/")) -> int:
    """Return the cores that affinity and the cgroup's quota (v2 or v1) grant this process, rounded down, at least 1."""
    quotas = list(_quotas(root))
    return max(1, int(min([len(os.sched_getaffinity(0)), *quotas])))


def _quotas(root: Path) -> Iterator[float]:
    """Yield the cores each limit grants: those of the process's own group and of every group above it."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:
            base, read = root / "sys/fs/cgroup", _quota_v2
        elif "cpu" in controllers.split(","):
            base, read = root / "sys/fs/cgroup" / controllers, _quota_v1
            if not base.is_dir():
                base = root / "sys/fs/cgroup/cpu"
        else:
            continue
        # In a container the path is often the host's, and the mount shows the own group at its root: try every level.
        group = base / path.lstrip("/")
        while True:
            with contextlib.suppress(OSError, ValueError):  # no such file at this level, or "max"
                yield read(group)
            if group == base or base not in group.parents:
                break
            group = group.parent


def _quota_v2(group: Path) -> float:
    quota, period = (group / "cpu.max").read_text().split()
    return int(quota) / int(period)


def _quota_v1(group: Path) -> float:
    quota, period = (int((group / f"cpu.cfs_{name}_us").read_text()) for name in ("quota", "period"))
    if quota <= 0:
        raise ValueError("unlimited")
    return quota / period
