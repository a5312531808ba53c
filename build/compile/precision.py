"""The precisions of a graph: from the fp32 graph to another file that answers (nearly) alike."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx

from newsdesk.build.compile import qdq
from newsdesk.build.progress import track

_MASK = 1e4
"""Largest constant of the fp16 graph. Attention masks are the lowest float there is; in fp16 that plus a score is -inf,
and a row of nothing but -inf is NaN after the softmax. exp(-1e4) is 0 as well."""
_KEPT_FLOAT = ["LayerNormalization", "Softmax", "Pow", "ReduceMean", "Sqrt", "Range", "Erf"]
"""Sums of squares and of exponentials overflow in fp16; Range has no fp16 form."""


def to_half(source: Path, target: Path) -> dict[str, Any]:
    """Write the fp16 graph; inputs and outputs keep their types, and normalisation and softmax stay fp32."""
    from onnxruntime.transformers import float16

    blocked = [*float16.DEFAULT_OP_BLOCK_LIST, *_KEPT_FLOAT]
    model = float16.convert_float_to_float16(
        onnx.load(source), keep_io_types=True, op_block_list=blocked, max_finite_val=_MASK
    )
    onnx.save(model, target)
    return {}


def to_int8(source: Path, target: Path, calibration: list[list[int]], smooth_quant_alpha: float) -> dict[str, Any]:
    """Write the graph with symmetric int8 Q/DQ pairs, calibrated on real rows at their own lengths.

    Weights and embeddings are int8, a scale a channel or row; activations int8, a scale a tensor. Raises
    VerificationError if a zero point is not 0.
    """
    import nncf
    from nncf.quantization.advanced_parameters import AdvancedQuantizationParameters, AdvancedSmoothQuantParameters

    model = onnx.load(source)
    names = [value.name for value in model.graph.input]
    rows = [_feed(names, ids) for ids in track(calibration, "calibration rows")]
    quantised = nncf.quantize(
        model,
        nncf.Dataset(rows),
        preset=nncf.QuantizationPreset.PERFORMANCE,
        model_type=nncf.ModelType.TRANSFORMER,
        subset_size=len(rows),
        advanced_parameters=AdvancedQuantizationParameters(
            smooth_quant_alphas=AdvancedSmoothQuantParameters(matmul=smooth_quant_alpha),
        ),
    )
    qdq.make_signed(quantised)
    embeddings = qdq.look_up_in_int8(quantised)
    pairs = qdq.check_symmetric(quantised)
    onnx.save(quantised, target)
    return {"calibration_rows": len(rows), "embeddings": embeddings, "qdq_nodes": pairs}


def to_int8_dynamic(source: Path, target: Path, heads: int, hidden_size: int) -> dict[str, Any]:
    """Write ONNX Runtime's own int8 form: fused, weights int8 by channel, activations quantised as they come."""
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from onnxruntime.transformers import optimizer
    from onnxruntime.transformers.fusion_options import FusionOptions

    options = FusionOptions("bert")
    options.enable_embed_layer_norm = False  # quantised, it takes the normalisation's own weights to unsigned int8
    fused = optimizer.optimize_model(str(source), "bert", heads, hidden_size, optimization_options=options, opt_level=0)
    scratch = target.parent / "scratch"
    scratch.mkdir(exist_ok=True)
    fused.save_model_to_file(str(scratch / "fused.onnx"))
    quantize_dynamic(
        scratch / "fused.onnx",
        target,
        per_channel=True,
        # Signed weights: the products of a processor without VNNI may saturate, but with unsigned ones those that have
        # it are slower, and the server looks at the processor. (A table of embeddings becomes unsigned all the same.)
        weight_type=QuantType.QInt8,
        # Shape inference does not know the fused operators, and without a type for their outputs it raises.
        extra_options={"DefaultTensorType": onnx.TensorProto.FLOAT, "MatMulConstBOnly": True},
    )
    return {"fused": {kind: n for kind, n in fused.get_fused_operator_statistics().items() if n}}


def _feed(names: list[str], ids: list[int]) -> dict[str, np.ndarray]:
    row = np.array([ids], np.int64)
    given = {"input_ids": row, "attention_mask": np.ones_like(row), "token_type_ids": np.zeros_like(row)}
    return {name: given[name] for name in names}
