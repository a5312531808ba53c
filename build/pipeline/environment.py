"""The machine and the packages that a build runs with: both are recorded with every artifact."""

import importlib.metadata
import os
import platform

from newsdesk.server.runtime import processor

_PACKAGES = (
    "torch",
    "transformers",
    "optimum-onnx",
    "onnx",
    "onnxruntime",
    "openvino",
    "nncf",
    "tokenizers",
    "numpy",
    "scipy",
    "scikit-learn",
    "xgboost-cpu",
    "catboost",
)


def packages() -> dict[str, str]:
    """Return the versions of those packages, of the ones a build depends on, that are installed."""
    versions = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def machine() -> str:
    """Return the processor, with what changes its answers, and its number of cores."""
    return f"{processor.describe()}, {os.cpu_count()} cores"
