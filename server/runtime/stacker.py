"""A stacker's graph, run by ONNX Runtime."""

from pathlib import Path

import onnxruntime

from newsdesk.server.runtime.combine import Stack
from newsdesk.server.runtime.errors import EngineError


def load(path: Path) -> Stack:
    """Open a graph, which runs on one thread: `features` FP32 [n, members × labels] → `probabilities` FP32 [n, labels].

    Raises:
        EngineError: ONNX Runtime cannot open it.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the types that ONNX Runtime raises share no name of their own
        raise EngineError(f"{path}: ONNX Runtime cannot open this stacker: {error}") from error
    return lambda features: session.run(["probabilities"], {"features": features})[0]
