"""`mlserver start FOLDER`, with the optimum 1 that its Hugging Face runtime asks for on a newer torch.

That optimum imports the TorchScript exporter, which only exporting needs, from where torch 2.13 no longer has it.
The lines outside `if` run in MLServer's worker processes, too, which are spawned.
"""

import importlib
import sys

_MOVED = "torch.onnx.symbolic_opset14"
sys.modules[_MOVED] = importlib.import_module("torch.onnx._internal.torchscript_exporter.symbolic_opset14")

if __name__ == "__main__":
    from mlserver.cli import main

    main()
