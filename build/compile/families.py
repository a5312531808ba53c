"""The differences between families of encoders when they are exported."""

from dataclasses import dataclass
from typing import Literal

from newsdesk.build.errors import BuildError


@dataclass(frozen=True)
class EncoderFamily:
    """How a family (its `model_type`) becomes ONNX, and why so."""

    exporter: Literal["optimum", "torchscript"]
    reason: str
    positions_after_padding: bool = False
    """Positions count from pad_token_id + 1: a table of 514 positions holds 512 tokens."""


_COVERED = "optimum knows its inputs and patches what does not trace"
FAMILIES = {
    "albert": EncoderFamily("optimum", _COVERED),
    "bert": EncoderFamily("optimum", _COVERED),
    "deberta-v2": EncoderFamily("optimum", _COVERED),
    "distilbert": EncoderFamily("optimum", _COVERED),
    "electra": EncoderFamily("optimum", _COVERED),
    "mpnet": EncoderFamily("optimum", _COVERED, positions_after_padding=True),
    "roberta": EncoderFamily("optimum", _COVERED, positions_after_padding=True),
    "xlm-roberta": EncoderFamily("optimum", _COVERED, positions_after_padding=True),
    "xlnet": EncoderFamily("torchscript", "optimum has no configuration for it, and the dynamo exporter fails on it"),
}
"""Families whose exporter was chosen on purpose and whose parity at shapes never traced is tested."""


def family(model_type: str) -> EncoderFamily:
    """Return the family of a `model_type`.

    Raises:
        BuildError: nobody has tried it.
    """
    if model_type not in FAMILIES:
        raise BuildError(
            f"model family {model_type!r} has no exporter chosen for it; expected one of {', '.join(FAMILIES)}. "
            "Choose another base model, or add the family to build/compile/families.py with a parity test."
        )
    return FAMILIES[model_type]
