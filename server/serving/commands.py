"""serve, prepare and doctor, for the `newsdesk` command line. What they need is imported when they run."""

import json
import os
import time
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from newsdesk.server.gateway import options
from newsdesk.server.serving import privacy

if TYPE_CHECKING:
    from newsdesk.server.serving.preflight import Check
    from newsdesk.server.serving.prepare import Preparation
    from newsdesk.server.serving.settings import Settings
    from newsdesk.server.serving.triton import Answer

Host = Annotated[
    str, typer.Option(envvar="NEWSDESK_HOST", help="Address to listen on; 0.0.0.0 for every IPv4 one, :: for IPv6.")
]
HttpPort = Annotated[int, typer.Option(envvar="NEWSDESK_HTTP_PORT", help="Open Inference Protocol over HTTP.")]
GrpcPort = Annotated[int, typer.Option(envvar="NEWSDESK_GRPC_PORT", help="Open Inference Protocol over gRPC.")]
MetricsPort = Annotated[int, typer.Option(envvar="NEWSDESK_METRICS_PORT", help="Prometheus metrics.")]
MetricsHost = Annotated[
    str, typer.Option(envvar="NEWSDESK_METRICS_HOST", help="Its address, if another.", show_default="--host")
]
ModelRepository = Annotated[
    Path | None,
    typer.Option(
        envvar="NEWSDESK_MODEL_REPOSITORY",
        help="Folder with ag_news in it.",
        show_default="the checkout's, else ./",
    ),
]
Instances = Annotated[
    int, typer.Option(envvar="NEWSDESK_INSTANCES", help="Processes; 0: tuned, else one a core, at least 2.")
]
Threads = Annotated[int, typer.Option(envvar="NEWSDESK_THREADS", help="Threads of each process; 0: tuned, else 1.")]
QueueDelay = Annotated[
    int | None,
    typer.Option(envvar="NEWSDESK_QUEUE_DELAY", help="Microseconds a request waits for others.", show_default="tuned"),
]
Target = Annotated[
    str,
    typer.Option(
        envvar="NEWSDESK_TARGET",
        help='As "openvino:int8", or each member\'s own: "minilm=openvino:int8,student=onnxruntime:fp32".',
        show_default="the fastest measured here",
    ),
]
UnsureShare = Annotated[
    float | None,
    typer.Option(
        envvar="NEWSDESK_UNSURE_SHARE",
        help="Of the texts, marked as not sure, 0 to 0.2.",
        show_default="the model's",
    ),
]
State = Annotated[
    Path | None,
    typer.Option(
        envvar="NEWSDESK_STATE",
        help="Runs, measurements, logs.",
        show_default="~/.local/state/newsdesk",
    ),
]
Cache = Annotated[
    str,
    typer.Option(envvar="NEWSDESK_CACHE", help='Keep answers for texts that come again: "256MB".', show_default="none"),
]
AsJson = Annotated[bool, typer.Option("--json", help="Write JSON.")]
LogLevel = Annotated[str, typer.Option(envvar="NEWSDESK_LOG_LEVEL", help="Triton's: error, warning, info or verbose.")]


def serve(
    host: Host = "127.0.0.1",
    http_port: HttpPort = 8000,
    grpc_port: GrpcPort = 8001,
    metrics_port: MetricsPort = 8002,
    metrics_host: MetricsHost = "",
    model_repository: ModelRepository = None,
    instances: Instances = 0,
    threads: Threads = 0,
    queue_delay: QueueDelay = None,
    target: Target = "",
    unsure_share: UnsureShare = None,
    state: State = None,
    cache: Cache = "",
    log_level: LogLevel = "info",
    gateway: options.Gateway = True,
    gateway_host: options.GatewayHost = "",
    gateway_port: options.GatewayPort = 8080,
    auth: options.Auth = False,
    insecure: options.Insecure = False,
    keys: options.Keys = None,
    jwt_secret_file: options.JwtSecretFile = None,
    jwks: options.Jwks = "",
    jwt_issuer: options.JwtIssuer = "",
    jwt_audience: options.JwtAudience = "",
    jwt_role_claim: options.JwtRoleClaim = "role",
    jwt_admin: options.JwtAdmin = False,
    rate_limit: options.RateLimit = "",
    rate_storage: options.RateStorage = "",
    rate_storage_password_file: options.RateStoragePasswordFile = None,
    cors_origin: options.CorsOrigin = [],  # noqa: B006
    allowed_host: options.AllowedHost = [],  # noqa: B006
    max_body_mib: options.MaxBodyMib = 32,
    max_file_mib: options.MaxFileMib = 2048,
    max_texts: options.MaxTexts = 1024,
    max_queue: options.MaxQueue = 4096,
    max_connections: options.MaxConnections = 512,
    request_timeout: options.RequestTimeout = 30.0,
    hedge_share: options.HedgeShare = 0.01,
    log_texts: options.LogTexts = False,
    as_json: Annotated[bool, typer.Option("--json", help="Say what happens as a JSON object a line.")] = False,
) -> None:
    """Serve the model on NVIDIA Triton until Ctrl-C, and keep it answering. SIGUSR1 loads it anew."""
    began = time.monotonic()
    os.umask(privacy.UMASK)
    say, show, welcome = (_tell, _show_events, _welcome_event) if as_json else (_say, _show, _welcome)
    settings = settings_of(
        host=host,
        http_port=http_port,
        grpc_port=grpc_port,
        metrics_port=metrics_port,
        metrics_host=metrics_host,
        model_repository=model_repository,
        instances=instances,
        threads=threads,
        queue_delay=queue_delay,
        target=target,
        unsure_share=unsure_share,
        state=state,
        cache=cache,
        log_level=log_level,
    )
    from newsdesk.server.serving import tuning

    settings = tuning.applied(settings)
    if gateway:
        settings = _with_gateway(
            settings,
            host=gateway_host,
            port=gateway_port,
            auth=auth,
            insecure=insecure,
            keys=keys,
            jwt_secret_file=jwt_secret_file,
            jwks=jwks,
            jwt_issuer=jwt_issuer,
            jwt_audience=jwt_audience,
            jwt_role_claim=jwt_role_claim,
            jwt_admin=jwt_admin,
            rate_limit=rate_limit,
            rate_storage=rate_storage,
            rate_storage_password_file=rate_storage_password_file and rate_storage_password_file.absolute(),
            cors_origin=tuple(cors_origin),
            allowed_host=tuple(allowed_host),
            max_body_mib=max_body_mib,
            max_file_mib=max_file_mib,
            max_texts=max_texts,
            max_queue=max_queue,
            max_connections=max_connections,
            request_timeout=request_timeout,
            hedge_share=hedge_share,
            log_texts=log_texts,
        )
    from newsdesk.server.gateway import process
    from newsdesk.server.runtime.errors import ServerError
    from newsdesk.server.serving import limits, preflight
    from newsdesk.server.serving.prepare import prepare as choose
    from newsdesk.server.serving.supervisor import Supervisor
    from newsdesk.server.serving.workspace import MODEL

    limits.raise_open_files()
    checks = preflight.check(settings)
    checks += process.check(settings)
    show(check for check in checks if check.level != "ok")
    if any(check.level == "problem" for check in checks):
        raise typer.Exit(2)
    try:
        chosen = settings.target or choose(settings.model_repository / MODEL, settings.state, say).target
        say(f"starting {settings.instance_count} backend processes of {settings.threads or 1} threads with {chosen}")
        supervisor = Supervisor(settings, chosen, say)
        supervisor.run(lambda answer: welcome(settings, chosen, answer, time.monotonic() - began))
    except (ServerError, OSError) as error:
        fail(error)
    say("stopped")


def prepare(model_repository: ModelRepository = None, state: State = None, as_json: AsJson = False) -> None:
    """Measure each member's compile targets on this machine, record the fastest for `serve`, and print all of them."""
    os.umask(privacy.UMASK)
    settings = settings_of(model_repository=model_repository, state=state)
    from newsdesk.server.runtime.errors import ServerError
    from newsdesk.server.serving.prepare import prepare as choose
    from newsdesk.server.serving.workspace import MODEL

    try:
        found = choose(settings.model_repository / MODEL, settings.state, _hush if as_json else _say, again=True)
    except (ServerError, OSError) as error:
        fail(error)
    if as_json:
        import msgspec

        print(msgspec.json.encode(found).decode())
    else:
        _table(found)


def doctor(
    host: Host = "127.0.0.1",
    http_port: HttpPort = 8000,
    grpc_port: GrpcPort = 8001,
    metrics_port: MetricsPort = 8002,
    model_repository: ModelRepository = None,
    instances: Instances = 0,
    target: Target = "",
    state: State = None,
    gateway: options.Gateway = True,
    gateway_host: options.GatewayHost = "",
    gateway_port: options.GatewayPort = 8080,
    auth: options.Auth = False,
    insecure: options.Insecure = False,
    keys: options.Keys = None,
    as_json: AsJson = False,
) -> None:
    """Check what `serve` needs, and say what to do about what lacks. Ends with code 2 where something stops it."""
    settings = settings_of(
        host=host,
        http_port=http_port,
        grpc_port=grpc_port,
        metrics_port=metrics_port,
        model_repository=model_repository,
        instances=instances,
        target=target,
        state=state,
    )
    if gateway:
        settings = _with_gateway(
            settings, host=gateway_host, port=gateway_port, auth=auth, insecure=insecure, keys=keys
        )
    from newsdesk.server.gateway import process
    from newsdesk.server.serving import preflight

    checks = preflight.check(settings) + process.check(settings)
    if as_json:
        print(json.dumps([asdict(check) for check in checks], indent=1))
    else:
        _show(checks)
    if any(check.level == "problem" for check in checks):
        raise typer.Exit(2)


def settings_of(**given: Any) -> "Settings":
    from newsdesk.server.serving.settings import Settings, SettingsError

    try:
        return Settings(**{name: value for name, value in given.items() if value is not None})
    except SettingsError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2) from error


def _with_gateway(settings: "Settings", **given: Any) -> "Settings":
    from newsdesk.server.runtime.errors import ServerError
    from newsdesk.server.serving.settings import with_gateway

    try:
        return with_gateway(settings, **given)
    except ServerError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2) from error


def _hush(_: str) -> None:
    """Standard output is for the JSON."""


def _say(what: str) -> None:
    print(f"newsdesk {time.strftime('%H:%M:%S')} {what}", flush=True)


def _tell(what: str) -> None:
    """`_say` for programs."""
    _event("note", text=what)


def _event(kind: str, **about: Any) -> None:
    print(json.dumps({"time": round(time.time(), 3), "event": kind, **about}), flush=True)


def fail(error: Exception) -> None:
    typer.echo(f"newsdesk: {error}", err=True)
    raise typer.Exit(1) from error


def _show(checks: "Iterable[Check]") -> None:
    for check in checks:
        print(f"{check.level:8} {check.name:13} {check.found}", flush=True)
        if check.remedy:
            print(f"{'':22} → {check.remedy}", flush=True)


def _show_events(checks: "Iterable[Check]") -> None:
    for check in checks:
        _event("check", **asdict(check))


def _table(found: "Preparation") -> None:
    print(f"{'member':12} {'target':26} {'articles/s':>10}  one process, one thread, {found.machine}")
    members = list(found.targets)
    for one in sorted(found.measured, key=lambda one: (members.index(one.member), -one.articles_per_second)):
        speed = f"{one.articles_per_second:10.0f}" if one.articles_per_second else f"{'':10}"
        note = f"refused: {one.refused}" if one.refused else "serves" if one.target == found.targets[one.member] else ""
        print(f"{one.member:12} {one.target:26} {speed}  {note}".rstrip())


def _welcome(settings: "Settings", target: str, answer: "Answer", seconds: float) -> None:
    from newsdesk.server.serving import addresses
    from newsdesk.server.serving.probes import ARTICLE
    from newsdesk.server.serving.workspace import MODEL

    http, grpc = settings.netloc(settings.http_port), settings.netloc(settings.grpc_port)
    url = "" if grpc == "127.0.0.1:8001" else f"NEWSDESK_URL=grpc://{grpc} "
    on, gateway = addresses.bracketed(settings.host), settings.gateway
    front = f", gateway {addresses.bracketed(gateway.host)}:{gateway.port}" if gateway else ""
    print(
        f"""
newsdesk serves after {seconds:.1f} s: {target}, {settings.instance_count} processes, HTTP {on}:{settings.http_port}, \
gRPC {on}:{settings.grpc_port}, metrics {on}:{settings.metrics_port}{front}
Asked for "{ARTICLE}", it answered {answer.label} \
({answer.probability:.1%}, by {answer.answered_by}, {answer.seconds * 1e3:.1f} ms)

Try, from another terminal:

{_rest(settings)}  curl -s {http}/v2/models/{MODEL}/infer -d \
'{{"inputs":[{{"name":"TEXT","shape":[1,1],"datatype":"BYTES","data":["{ARTICLE}"]}}]}}'

  python - <<'EOF'
  import numpy as np, tritonclient.grpc as triton
  text = triton.InferInput("TEXT", [1, 1], "BYTES")
  text.set_data_from_numpy(np.array([[b"{ARTICLE}"]], dtype=np.object_))
  print(triton.InferenceServerClient("{grpc}").infer("{MODEL}", [text]).as_numpy("LABEL"))
  EOF

  {url}newsdesk classify "{ARTICLE}"

Ctrl-C stops it.
""",
        flush=True,
    )


def _welcome_event(settings: "Settings", target: str, answer: "Answer", seconds: float) -> None:
    _event(
        "serving",
        seconds=round(seconds, 3),
        target=target,
        processes=settings.instance_count,
        http=f"http://{settings.netloc(settings.http_port)}",
        grpc=f"grpc://{settings.netloc(settings.grpc_port)}",
        metrics=f"http://{settings.netloc(settings.metrics_port)}/metrics",
        gateway=settings.gateway.local_url if settings.gateway else None,
        answer=asdict(answer),
    )


def _rest(settings: "Settings") -> str:
    from newsdesk.server.serving.probes import ARTICLE

    if settings.gateway is None:
        return ""
    who = "-H 'X-API-Key: nd_…' " if settings.gateway.asks else ""
    url = settings.gateway.local_url.removeprefix("http://")
    return f"""  curl -s {url}/v1/classify {who}-H 'Content-Type: application/json' -d '{{"text":"{ARTICLE}"}}'

"""
