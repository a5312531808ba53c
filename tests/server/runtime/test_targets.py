import pytest

from newsdesk.server.runtime import targets
from newsdesk.server.runtime.errors import EngineError
from newsdesk.server.runtime.manifest import Manifest
from tests import tiny


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """The bag has a fp32 graph alone, "tiny" and "keen" have int8 as well; built for onnxruntime:fp32."""
    return tiny.write_cascade(tmp_path_factory.mktemp("model"))


@pytest.mark.parametrize(
    ("line", "chosen"),
    [
        ("", "onnxruntime:fp32"),
        ("openvino:fp32", "openvino:fp32"),
        ("openvino:int8", "bag=onnxruntime:fp32,tiny=openvino:int8,keen=openvino:int8"),
        ("tiny=openvino:int8", "bag=onnxruntime:fp32,tiny=openvino:int8,keen=onnxruntime:fp32"),
        ("openvino:int8, bag=openvino:bf16", "bag=openvino:bf16,tiny=openvino:int8,keen=openvino:int8"),
        ("openvino:fp32,keen=openvino:int8", "bag=openvino:fp32,tiny=openvino:fp32,keen=openvino:int8"),
        ("mpnet=openvino:int8", "onnxruntime:fp32"),
    ],
)
def test_each_member_gets_the_lines_target_else_the_manifests(made: Manifest, line: str, chosen: str) -> None:
    choice = targets.choose(line, made)
    assert targets.write(choice) == chosen
    assert targets.choose(targets.write(choice), made) == choice


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("tensorrt", r"target 'tensorrt' in 'tensorrt': expected one of openvino:int8.*member=target for each"),
        ("tiny=openvino", "'tiny=openvino'"),
        ("=openvino:int8", "'=openvino:int8'"),
        ("tiny=openvino:int8,tiny=openvino:fp32", "target 'tiny=openvino:fp32'"),
        ("bag=openvino:int8", r"member bag has no int8 graph, only fp32\. Choose another.*newsdesk build"),
        ("onnxruntime:int8-dynamic", "member bag has no int8-dynamic graph.*member keen has no int8-dynamic"),
    ],
)
def test_what_cannot_be_is_refused_with_what_was_expected(made: Manifest, line: str, complaint: str) -> None:
    with pytest.raises(EngineError, match=complaint):
        targets.choose(line, made)


def test_a_stranger_is_refused_where_a_person_named_it(made: Manifest) -> None:
    with pytest.raises(EngineError, match=r"names mpnet, but the members are bag, tiny, keen"):
        targets.check("mpnet=openvino:int8", made)
    targets.check("tiny=openvino:int8", made)
