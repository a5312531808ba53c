"""The contract of the served model, and those who must keep to it."""

import subprocess
import sys
from pathlib import Path

import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from newsdesk.build.package.repository import render_config
from newsdesk.build.recipe import Repository
from newsdesk.server.contract import INPUTS, MAX_BATCH, OUTPUTS, UNSURE

ROOT = Path(__file__).parents[2]
SHIPPED = ROOT / "model_repository" / "ag_news" / "config.pbtxt"
LABELS, MEMBERS = 4, 3
TYPES = {"BYTES": "TYPE_STRING"}


def _config(text: str) -> model_config_pb2.ModelConfig:
    return text_format.Parse(text, model_config_pb2.ModelConfig())


@pytest.mark.parametrize("unsure", [True, False])
def test_the_build_writes_the_tensors_of_the_contract(unsure: bool) -> None:
    config = _config(render_config(Repository(), LABELS, ["a", "b", "c"], unsure))
    _check(config, unsure)


def test_the_shipped_model_has_the_tensors_of_the_contract() -> None:
    _check(_config(SHIPPED.read_text()), unsure=True)


def _check(config: model_config_pb2.ModelConfig, unsure: bool) -> None:
    outputs = [spec for spec in OUTPUTS if unsure or spec.name != UNSURE]
    for specs, tensors in (INPUTS, config.input), (outputs, config.output):
        described = [
            (tensor.name, model_config_pb2.DataType.Name(tensor.data_type), list(tensor.dims)) for tensor in tensors
        ]
        assert described == [
            (spec.name, TYPES.get(spec.datatype, f"TYPE_{spec.datatype}"), spec.sizes(LABELS, MEMBERS))
            for spec in specs
        ]
    assert [tensor.optional for tensor in config.input] == [spec.optional for spec in INPUTS]
    assert [output.name for output in config.output if output.label_filename] == ["PROBABILITIES"]
    assert config.max_batch_size == MAX_BATCH


def test_a_client_loads_nothing_of_the_server_but_the_contract() -> None:
    script = (
        "import sys, newsdesk.clients, newsdesk.clients.triton_grpc, newsdesk.clients.triton_http, "
        "newsdesk.clients.gateway, newsdesk.clients.cli.app, newsdesk.clients.rows\n"
        "print(*sorted(name for name in sys.modules if name.startswith('newsdesk.server')))"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["newsdesk.server", "newsdesk.server.contract"]


def test_the_contract_asks_for_the_standard_library_alone() -> None:
    subprocess.run([sys.executable, "-I", "-S", ROOT / "server" / "contract.py"], check=True)
