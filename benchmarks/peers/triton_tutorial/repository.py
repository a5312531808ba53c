"""The tutorial's model repository: three steps and the ensemble that schedules them."""

import json
import shutil
from pathlib import Path

HERE = Path(__file__).parent
LENGTH = 128
_STEPS = """
name: "{name}"
backend: "python"
max_batch_size: 64
{tensors}
{batching}
instance_group [ {{ kind: KIND_CPU count: {instances} }} ]
{parameters}
"""
_ENSEMBLE = """
name: "ensemble"
platform: "ensemble"
max_batch_size: 64
input [ { name: "TEXT" data_type: TYPE_STRING dims: [ 1 ] } ]
output [
  { name: "LABEL" data_type: TYPE_STRING dims: [ 1 ] },
  { name: "PROBABILITIES" data_type: TYPE_FP32 dims: [ LABELS ] }
]
ensemble_scheduling {
  step [
    {
      model_name: "tokenizer" model_version: -1
      input_map { key: "TEXT" value: "TEXT" }
      output_map { key: "input_ids" value: "input_ids" }
      output_map { key: "attention_mask" value: "attention_mask" }
      output_map { key: "token_type_ids" value: "token_type_ids" }
    },
    {
      model_name: "member" model_version: -1
      input_map { key: "input_ids" value: "input_ids" }
      input_map { key: "attention_mask" value: "attention_mask" }
      input_map { key: "token_type_ids" value: "token_type_ids" }
      output_map { key: "logits" value: "logits" }
    },
    {
      model_name: "labels" model_version: -1
      input_map { key: "logits" value: "logits" }
      output_map { key: "LABEL" value: "LABEL" }
      output_map { key: "PROBABILITIES" value: "PROBABILITIES" }
    }
  ]
}
"""


def write(folder: Path, checkpoint: Path, graph: Path, instances: int) -> None:
    """Write it for a `from_pretrained` folder and its ONNX export (logits, FP32 [n, labels])."""
    named = json.loads((checkpoint / "config.json").read_text())["id2label"]
    labels = [named[str(i)] for i in range(len(named))]
    ids = [(name, "INT64", LENGTH) for name in ("input_ids", "attention_mask", "token_type_ids")]
    logits = [("logits", "FP32", len(labels))]
    answer = [("LABEL", "STRING", 1), ("PROBABILITIES", "FP32", len(labels))]
    steps = {
        "tokenizer": ([("TEXT", "STRING", 1)], ids, "checkpoint", str(checkpoint)),
        "member": (ids, logits, "graph", str(graph)),
        "labels": (logits, answer, "labels", json.dumps(labels).replace('"', '\\"')),
    }
    for name, (options, gives, key, value) in steps.items():
        version = folder / name / "1"
        version.mkdir(parents=True)
        shutil.copy(HERE / f"{name}.py", version / "model.py")
        batching = "dynamic_batching { preferred_batch_size: [ 8, 16 ] max_queue_delay_microseconds: 500 }"
        config = _STEPS.format(
            name=name,
            tensors="\n".join([_tensors("input", options), _tensors("output", gives)]),
            batching=batching if name == "member" else "dynamic_batching { }",
            instances=instances,
            parameters=f'parameters {{ key: "{key}" value {{ string_value: "{value}" }} }}',
        )
        (folder / name / "config.pbtxt").write_text(config)
    (folder / "ensemble" / "1").mkdir(parents=True)
    (folder / "ensemble" / "config.pbtxt").write_text(_ENSEMBLE.replace("LABELS", str(len(labels))))


def _tensors(kind: str, tensors: list[tuple[str, str, int]]) -> str:
    listed = ", ".join(f'{{ name: "{name}" data_type: TYPE_{dtype} dims: [ {dim} ] }}' for name, dtype, dim in tensors)
    return f"{kind} [ {listed} ]"
