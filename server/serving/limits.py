"""How many files, connections among them, a server may have open at once."""

import resource

FEWEST = 4096
"""Below this many, callers who keep their connections open can fill them all."""
_MOST = 2**20
"""Some programs walk through every number up to their limit; the kernel's own default allows no more."""


def open_files() -> tuple[int, int]:
    """Return the soft limit, which holds, and the most that it may be raised to."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = _MOST if hard == resource.RLIM_INFINITY else min(hard, _MOST)
    return soft, soft if soft == resource.RLIM_INFINITY else max(soft, most)


def raise_open_files() -> None:
    """Raise the soft limit to the hard one, for this process and the children that it will start."""
    soft, most = open_files()
    if soft != most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
