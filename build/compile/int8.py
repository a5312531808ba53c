"""int8: from the fp32 graph to files that answer (nearly) alike."""

from pathlib import Path

import onnx

from newsdesk.build.compile import calibration, qdq
from newsdesk.build.compile.metrics import Conversion
from newsdesk.build.progress import track


def to_int8(source: Path, target: Path, rows: list[list[int]], smooth_quant_alpha: float) -> Conversion:
    """Write the graph with symmetric int8 Q/DQ pairs, calibrated on real rows at their own lengths.

    Weights and embeddings are int8, a scale a channel or row; activations int8, a scale a tensor.

    Args:
        source: the fp32 graph
        target: the file to write
        rows: the ids of each calibration row
        smooth_quant_alpha: of the products, 0 to 1

    Returns:
        The rows, the embeddings and the Q/DQ nodes, counted.

    Raises:
        VerificationError: a zero point is not 0.
        BuildError: the rows are not to be learned from.
    """
    calibration.check(rows)
    import nncf
    from nncf.quantization.advanced_parameters import AdvancedQuantizationParameters, AdvancedSmoothQuantParameters

    model = onnx.load(source)
    names = [value.name for value in model.graph.input]
    fed = [calibration.feed(names, ids) for ids in track(rows, "calibration rows")]
    quantised = nncf.quantize(
        model,
        nncf.Dataset(fed),
        preset=nncf.QuantizationPreset.PERFORMANCE,
        model_type=nncf.ModelType.TRANSFORMER,
        subset_size=len(fed),
        advanced_parameters=AdvancedQuantizationParameters(
            smooth_quant_alphas=AdvancedSmoothQuantParameters(matmul=smooth_quant_alpha),
        ),
    )
    qdq.make_signed(quantised)
    embeddings = qdq.look_up_in_int8(quantised)
    pairs = qdq.check_symmetric(quantised)
    onnx.save(quantised, target)
    return Conversion(calibration_rows=len(rows), embeddings=embeddings, qdq_nodes=pairs)


def to_int8_dynamic(source: Path, target: Path, heads: int, hidden_size: int) -> Conversion:
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
    return Conversion(fused={kind: n for kind, n in fused.get_fused_operator_statistics().items() if n})
