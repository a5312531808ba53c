"""The words of `newsdesk serve` once it serves: for people, with commands to try, and for programs."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from newsdesk.server.machine import addresses
from newsdesk.server.serving.deployment import Deployment
from newsdesk.server.serving.probes import EXAMPLE
from newsdesk.server.serving.settings import Settings
from newsdesk.server.serving.triton import ProbeAnswer


def write(
    settings: Settings, deployments: Sequence[Deployment], answers: Mapping[str, ProbeAnswer], seconds: float
) -> str:
    """Return the ports, each model's first answer, and commands that ask the first model."""
    http, grpc = settings.netloc(settings.http_port), settings.netloc(settings.grpc_port)
    url = "" if grpc == "127.0.0.1:8001" else f"NEWSDESK_URL=grpc://{grpc} "
    on, gateway = addresses.bracketed(settings.triton_host), settings.gateway
    front = f", gateway {addresses.bracketed(gateway.host)}:{gateway.port}" if gateway else ""
    front += f" and {gateway.grpc_port} for gRPC" if gateway and gateway.grpc_port else ""
    model, several = deployments[0].model, len(deployments) > 1
    served = ", ".join(f"{each.model} by {each.target} in {each.instances} processes" for each in deployments)
    first = "\n".join(
        f'Asked for "{EXAMPLE}", {name} answered {answer.label} '
        f"({answer.probability:.1%}, by {answer.answered_by}, {answer.seconds * 1e3:.1f} ms)"
        for name, answer in answers.items()
    )
    return f"""
newsdesk serves after {seconds:.1f} s: {served}; HTTP {on}:{settings.http_port}, \
gRPC {on}:{settings.grpc_port}, metrics {on}:{settings.metrics_port}{front}
{first}

Try, from another terminal:

{_rest(settings, f"/v1/models/{model}" if several else "/v1")}  curl -s {http}/v2/models/{model}/infer -d \
'{{"inputs":[{{"name":"TEXT","shape":[1,1],"datatype":"BYTES","data":["{EXAMPLE}"]}}]}}'

  python - <<'EOF'
  import numpy as np, tritonclient.grpc as triton
  text = triton.InferInput("TEXT", [1, 1], "BYTES")
  text.set_data_from_numpy(np.array([[b"{EXAMPLE}"]], dtype=np.object_))
  print(triton.InferenceServerClient("{grpc}").infer("{model}", [text]).as_numpy("LABEL"))
  EOF

  {url}newsdesk classify {f"--model {model} " if several else ""}"{EXAMPLE}"

Ctrl-C stops it.
"""


def _rest(settings: Settings, path: str) -> str:
    if settings.gateway is None:
        return ""
    who = "-H 'X-API-Key: nd_…' " if settings.gateway.asks else ""
    url = settings.gateway.local_url.removeprefix("http://") + path
    return f"""  curl -s {url}/classify {who}-H 'Content-Type: application/json' -d '{{"text":"{EXAMPLE}"}}'

"""


def describe(
    settings: Settings, deployments: Sequence[Deployment], answers: Mapping[str, ProbeAnswer], seconds: float
) -> dict[str, Any]:
    """Return the same, of JSON's types."""
    models = {
        each.model: {"target": each.target, "processes": each.instances, "answer": asdict(answers[each.model])}
        for each in deployments
    }
    return {
        "seconds": round(seconds, 3),
        "models": models,
        "http": f"http://{settings.netloc(settings.http_port)}",
        "grpc": f"grpc://{settings.netloc(settings.grpc_port)}",
        "metrics": f"http://{settings.netloc(settings.metrics_port)}/metrics",
        "gateway": settings.gateway.local_url if settings.gateway else None,
        "gateway_grpc": settings.gateway.local_grpc_url if settings.gateway else None,
    }
