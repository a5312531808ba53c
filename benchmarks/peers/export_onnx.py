"""Export a `from_pretrained` folder to ONNX with optimum, and quantise it the way its guide does for this kind of CPU.

    python export_onnx.py CHECKPOINT FOLDER

Leaves FOLDER/fp32 and FOLDER/int8 (dynamic, AVX-512 VNNI), each a folder that optimum's ONNX classes load.
"""

import sys
from pathlib import Path

from optimum.onnxruntime import ORTModelForSequenceClassification, ORTQuantizer
from optimum.onnxruntime.configuration import AutoQuantizationConfig
from transformers import AutoTokenizer


def main() -> None:
    checkpoint, folder = sys.argv[1], Path(sys.argv[2])
    model = ORTModelForSequenceClassification.from_pretrained(checkpoint, export=True)
    model.save_pretrained(folder / "fp32")
    quantizer = ORTQuantizer.from_pretrained(folder / "fp32")
    recipe = AutoQuantizationConfig.avx512_vnni(is_static=False, per_channel=False)
    quantizer.quantize(save_dir=folder / "int8", quantization_config=recipe)
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    for variant in "fp32", "int8":
        tokenizer.save_pretrained(folder / variant)


if __name__ == "__main__":
    main()
