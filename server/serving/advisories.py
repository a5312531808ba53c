"""Advisories for the Triton that pip brings, fixed only later: SECURITY.md says what stands between."""

import importlib.metadata

UNFIXED = (
    "CVE-2024-53880",
    *(f"CVE-2025-{number}" for number in (23268, 23310, 23311, 23316, 23317, 23318, 23319, 23320, 23321, 23322, 23323)),
    *(f"CVE-2025-{number}" for number in (23324, 23325, 23326, 23327, 23328, 23329, 23331, 23333, 23334, 23335, 23336)),
    *(f"CVE-2025-{number}" for number in (33201, 33202, 33211, 33238, 33254)),
    *(f"CVE-2026-{number}" for number in (16497, 24146, 24147, 24158, 24173, 24174, 24175, 24206, 24207, 24208, 24209)),
    *(f"CVE-2026-{number}" for number in (24210, 24213, 24214, 24215, 24264, 24266, 47476, 47477, 47478, 47479, 47480)),
    *(f"CVE-2026-{number}" for number in (47481, 47482, 47487, 47606, 47625, 47627, 47628, 47629, 47630)),
)
"""NVIDIA's bulletins of February 2025 to September 2026, fixed in Triton 24.12 to 26.07. The server image is later."""
_BROUGHT = "2.51 (24.10)"


def unfixed() -> tuple[str, tuple[str, ...]]:
    """Return the version of the Triton that pip has brought here and its advisories, nothing where it is another."""
    try:
        importlib.metadata.version("nvidia-pytriton")
    except importlib.metadata.PackageNotFoundError:
        return "", ()
    return _BROUGHT, UNFIXED
