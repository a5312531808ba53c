"""The files that an export leaves, and what every exported graph must keep to: light, for members without PyTorch."""

GRAPH = "model.fp32.onnx"
FACTS = "member.json"
"""What later stages need to know of the member: family, pad_id, heads, hidden_size."""
OPSET = 18
PARITY_TOLERANCE = 1e-3
"""Largest difference of a logit, fp32 graph against the model that it was exported from."""


def graph_name(variant: str) -> str:
    return f"model.{variant}.onnx"
