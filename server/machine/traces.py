"""Read where traces go from OpenTelemetry's own environment variables, as the gateway and tritonserver both do.

https://opentelemetry.io/docs/specs/otel/protocol/exporter/
"""

import os
from collections.abc import Mapping

from newsdesk.server.machine import addresses
from newsdesk.server.runtime.errors import ServerError

_PREFIX = "OTEL_EXPORTER_OTLP"
_ONLY_CALLERS = 10**9


class TracesError(ServerError):
    """Traces are asked for in a way that is not offered."""


def endpoint(environ: Mapping[str, str] = os.environ) -> str:
    """Return the URL that spans are posted to, "" where they are not wanted.

    Raises:
        TracesError: a variable asks for what is not offered.
    """
    of_traces = environ.get(f"{_PREFIX}_TRACES_ENDPOINT", "")
    base = environ.get(f"{_PREFIX}_ENDPOINT", "")
    url = of_traces or (base and f"{base.rstrip('/')}/v1/traces")
    off = environ.get("OTEL_SDK_DISABLED", "").lower() == "true" or environ.get("OTEL_TRACES_EXPORTER") == "none"
    if off or not url:
        return ""
    if not url.startswith(("http://", "https://")):
        name = f"{_PREFIX}_TRACES_ENDPOINT" if of_traces else f"{_PREFIX}_ENDPOINT"
        shown = addresses.without_password(of_traces or base)
        raise TracesError(f"{name} is {shown!r}; expected the collector's URL, as http://localhost:4318")
    for name in f"{_PREFIX}_TRACES_PROTOCOL", f"{_PREFIX}_PROTOCOL":
        if (protocol := environ.get(name, "http/protobuf")) == "grpc":
            raise TracesError(f"{name} is {protocol!r}; tritonserver sends over HTTP alone: http/protobuf, port 4318")
    return url


def arguments(url: str) -> list[str]:
    """Return tritonserver's options: it traces the requests that carry a traceparent, and (nearly) no others."""
    if not url:
        return []
    settings = "mode=opentelemetry", f"opentelemetry,url={url}", "level=TIMESTAMPS", f"rate={_ONLY_CALLERS}"
    return [f"--trace-config={setting}" for setting in settings]
