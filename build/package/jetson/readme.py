"""The archive's own README: what is in it, what to type, how much memory to plan for."""

from pathlib import Path

from newsdesk.server.contract import MAX_BATCH
from newsdesk.server.runtime.manifest import Manifest

_MIB = 2**20


def render(manifest: Manifest, version: Path) -> str:
    """Return the README of an archive whose version folder is there."""
    rows = []
    for member in manifest.members:
        for variant, file in member.graphs.items():
            size = (version / file.path).stat().st_size / _MIB
            rows.append(f"| {member.name} | {variant} | {size:.1f} |")
    graphs = [file for member in manifest.members for file in member.graphs.values()]
    whole = sum((version / file.path).stat().st_size for file in graphs) / _MIB
    largest = max((version / file.path).stat().st_size for file in graphs) / _MIB
    return _TEXT.format(
        most=MAX_BATCH,
        name=manifest.name,
        members=", ".join(member.name for member in manifest.members),
        labels=", ".join(manifest.labels),
        rows="\n".join(rows),
        whole=whole,
        largest=largest,
    )


_TEXT = """\
# {name} for Jetson

A text classifier ({labels}), of {members}: ONNX graphs, tokenizers, the manifest, golden answers and the code that
serves. Nothing of it was run on a Jetson yet; on x86-64 all of it was: `build` with TensorRT-RTX and without a GPU to
load its engines on, `triton` without its container.

    python3 -m venv --system-site-packages env          # JetPack's own TensorRT is a system package
    env/bin/pip install --requirement requirements.txt
    export PYTHON=env/bin/python
    env/bin/pip install 'cuda-bindings<13'              # JetPack 6; on JetPack 7 'cuda-bindings>=13'
    ./jetson build      # TensorRT engines of every encoder; the fastest that agrees with the golden answers serves
    ./jetson check      # this device's answers beside the golden ones
    ./jetson serve      # without Triton: a subset of the Open Inference Protocol on port 8000
    ./jetson triton     # or with Triton, in NVIDIA's -igpu container (TRITON names another tag)

`build` takes `--workspace` (MiB) and compares with the logits that ONNX Runtime gave of the same graph where the
archive was made: strongly typed networks, fp16 and int8 with fp16 beside it, whichever the archive holds. TensorRT 10.3
(JetPack 6) to 11. Without it `check` and `serve` run on the processor with ONNX Runtime. `serve` takes `--host`,
`--port` and `--target` and asks nobody for a key: keep it on loopback or behind what does.

    curl -s localhost:8000/v2/models/{name}/infer -d \\
      '{{"inputs":[{{"name":"TEXT","shape":[1,1],"datatype":"BYTES","data":["Keeper saves two penalties"]}}]}}'

`serve` speaks: GET /v2, /v2/health/live, /v2/health/ready, /v2/models/{name}, /v2/models/{name}/ready, and POST
/v2/models/{name}/infer with JSON tensors (TEXT, QUALITY; at most {most} texts a request, 32 MiB a body). It does not
speak binary tensors, shared memory, classification, statistics, model management or gRPC. What waits is computed
together.

## Sizes

| member | graph | MiB |
|---|---|---|
{rows}

An engine is about as large as its graph: its weights. All graphs together are {whole:.0f} MiB.

## Memory to plan for

An estimate from the sizes, not a measurement: weights, plus the activations of 32 texts of 256 tokens (about 50 MiB for
a model of MiniLM's width, 200 MiB for one of BERT base's), plus CUDA's own context (some 400 MiB), plus Python with
tokenizers (about 150 MiB). Jetson's memory is one, for the processor and the GPU.

| device | memory | serve | `build` | what to watch |
|---|---|---|---|---|
| Orin Nano | 8 GB | 1 GB and 2 × {largest:.0f} MiB: one process | `--workspace 1024` | build with the desktop stopped |
| AGX Orin | 32 or 64 GB | the same; several processes share the GPU | `--workspace 4096` | |
| Thor | 128 GB | the same | `--workspace 8192` | JetPack 7: TensorRT 10.13 or 11, Python 3.12 |

The DLA is not used: it does not run transformers (LayerNorm, GELU and dynamic shapes stay on the GPU).
"""
