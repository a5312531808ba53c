"""Each encoder as a plain Triton model; config.pbtxt is read by Triton's own schema.

The Triton that pip installs has no ONNX Runtime and no TensorRT backend, so only the ensemble's layout can be loaded
here (tests/service does, with the real server); that this one names files and tensors that exist is checked instead.
"""

import msgspec
import numpy as np
import onnx
import onnxruntime
import pytest
from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import ModelConfig, ModelInstanceGroup

from newsdesk.build.errors import BuildError
from newsdesk.build.package import layout
from newsdesk.server.runtime import manifest
from newsdesk.server.runtime.plans import Plan
from tests import tiny

PLAN = Plan(
    runtime="tensorrt", version="10.13.3.9", compute_capabilities=["9.0"], batches=[1, 8], lengths=[16, tiny.MAX_LENGTH]
)


@pytest.fixture
def model(tmp_path):
    tiny.write(tmp_path / "ag_news" / "1")
    (tmp_path / "ag_news" / "config.pbtxt").touch()
    return tmp_path / "ag_news"


def parsed(folder) -> ModelConfig:
    return text_format.Parse((folder / "config.pbtxt").read_text(), ModelConfig())


def test_a_member_is_written_as_a_model_of_onnx_runtime(model, tmp_path):
    (folder,) = layout.write(model, tmp_path / "out")
    assert folder.name == "ag_news_tiny"
    config = parsed(folder)
    assert config.platform == "onnxruntime_onnx"
    assert onnx.load(folder / "1" / "model.onnx") == onnx.load(model / "1" / "tiny" / "model.int8.onnx")
    assert (folder / config.output[0].label_filename).read_text().splitlines() == tiny.LABELS
    assert [warm.batch_size for warm in config.model_warmup] == [1, 1, 8, 8, 32, 32, 128, 128]
    assert {tuple(tensor.dims) for warm in config.model_warmup for tensor in warm.inputs.values()} == {(16,), (32,)}
    assert list(config.dynamic_batching.preferred_batch_size) == [8, 32, 128]


def test_what_config_says_is_what_the_graph_takes(model, tmp_path):
    (folder,) = layout.write(model, tmp_path / "out")
    config = parsed(folder)
    session = onnxruntime.InferenceSession(str(folder / "1" / "model.onnx"))
    assert [tensor.name for tensor in config.input] == [tensor.name for tensor in session.get_inputs()]
    for warm in config.model_warmup:
        feed = {name: np.zeros((warm.batch_size, *tensor.dims), np.int64) for name, tensor in warm.inputs.items()}
        (logits,) = session.run([config.output[0].name], feed)
        assert logits.shape == (warm.batch_size, *config.output[0].dims)


def test_a_plan_goes_first_with_its_profiles(model, tmp_path):
    made = manifest.load(model / "1")
    (member,) = made.members
    graphs = {**member.graphs, "tensorrt:fp16": member.graphs["fp32"]}
    member = msgspec.structs.replace(member, graphs=graphs, plans={"tensorrt:fp16": PLAN})
    manifest.save(msgspec.structs.replace(made, members=[member]), model / "1")
    (folder,) = layout.write(model, tmp_path / "out")
    config = parsed(folder)
    assert config.platform == "tensorrt_plan"
    assert (folder / "1" / "model.plan").exists()
    assert config.max_batch_size == 8  # as the profiles have it (note 04)
    assert list(config.instance_group[0].profile) == ["0", "1", "2", "3"]
    assert config.instance_group[0].kind == ModelInstanceGroup.KIND_GPU
    assert config.optimization.cuda.graphs
    assert len(config.model_warmup) == 4


def test_a_member_that_tritons_backends_cannot_read_says_what_to_keep(model):
    (member,) = manifest.load(model / "1").members
    only = msgspec.structs.replace(member, graphs={"int8-dynamic": member.graphs["fp32"]})
    with pytest.raises(BuildError, match=r"member tiny has only int8-dynamic.*repository.variants"):
        layout.choose(only)


def test_writing_again_replaces_it(model, tmp_path):
    layout.write(model, tmp_path / "out")
    (folder,) = layout.write(model, tmp_path / "out")
    assert sorted(path.name for path in folder.iterdir()) == ["1", "config.pbtxt", "labels.txt"]
