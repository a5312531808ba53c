"""Names of models: what a folder, a URL, Triton and the label of a metric can all carry."""

import re

ALLOWED = "letters of a to z, digits, _ and -: 1 to 100 of them, and no - first"
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,99}")
_STATISTICS = "stats"
"""/v2/models/stats holds the statistics of all models."""


def refusal(name: str) -> str:
    """Return why a model cannot be called so, with what is allowed; "" where it can."""
    if name == _STATISTICS:
        return f"the model's name is {name!r}, which Triton's route /v2/models/{name} has taken; expected another"
    return "" if _NAME.fullmatch(name) else f"the model's name is {name!r:.120}, expected {ALLOWED}"
