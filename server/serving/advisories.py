"""What is published of the Triton that pip brings, and fixed only later: SECURITY.md says what stands between."""

import importlib.metadata

UNFIXED = (
    "CVE-2025-23310",
    "CVE-2025-23311",
    "CVE-2025-23316",
    "CVE-2025-23319",
    "CVE-2025-23320",
    "CVE-2025-23334",
)
"""Fixed in Triton 25.07 and 25.08. Images have a later one."""
_BROUGHT = "2.51 (24.10)"


def unfixed() -> tuple[str, tuple[str, ...]]:
    """Return the version of the Triton that pip has brought here and its advisories, nothing where it is another."""
    try:
        importlib.metadata.version("nvidia-pytriton")
    except importlib.metadata.PackageNotFoundError:
        return "", ()
    return _BROUGHT, UNFIXED
