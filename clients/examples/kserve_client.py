"""Classify with KServe's own clients, REST and gRPC: the Open Inference Protocol is what they call v2.

pip install kserve; python kserve_client.py [http://localhost:8000 [localhost:8001]]
"""

import asyncio
import sys

from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest, RESTConfig

http, grpc = sys.argv[1:3] or ("http://localhost:8000", "localhost:8001")
TEXTS = ["Shares slide as oil rises", "Striker scores twice as the champions win the match"]


def request() -> InferRequest:
    """Return the request, of both protocols."""
    return InferRequest("ag_news", [InferInput("TEXT", [len(TEXTS), 1], "BYTES", TEXTS)])


async def main() -> None:
    """Ask over REST, then over gRPC."""
    rest = InferenceRESTClient(RESTConfig(protocol="v2"))
    answer = await rest.infer(http, request(), model_name="ag_news")
    print("REST", *named(answer))
    print("gRPC", *named(await InferenceGRPCClient(grpc).infer(request())))


def named(answer) -> list[str]:  # type: ignore[no-untyped-def]
    """Return the labels of an answer."""
    (labels,) = [output for output in answer.outputs if output.name == "LABEL"]
    return [label.decode() if isinstance(label, bytes) else label for label in labels.as_numpy().ravel()]


asyncio.run(main())
