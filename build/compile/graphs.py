"""The files that an export leaves, and what every exported graph must keep to: light, for members without PyTorch."""

import json
from pathlib import Path

import msgspec
from msgspec import Struct

GRAPH = "model.fp32.onnx"
FACTS = "member.json"
"""The file of a member's `GraphFacts`."""
OPSET = 18
PARITY_TOLERANCE = 1e-3
"""Largest difference of a logit, fp32 graph against the model that it was exported from."""


class GraphFacts(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The facts of a member that later stages need to know."""

    family: str
    pad_id: int
    heads: int
    """Heads of attention; 0 where there is none."""
    hidden_size: int
    positions: int | None = None
    """The most tokens that an encoder has positions for."""

    def save(self, folder: Path) -> None:
        """Write the file that `load` reads."""
        (folder / FACTS).write_text(json.dumps(msgspec.to_builtins(self)))

    @classmethod
    def load(cls, folder: Path) -> "GraphFacts":
        """Read the file that `save` wrote."""
        return msgspec.json.decode((folder / FACTS).read_bytes(), type=cls)


def graph_name(variant: str) -> str:
    """Return the file name of a variant's graph."""
    return f"model.{variant}.onnx"
