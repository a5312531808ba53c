"""The gateway's process. The supervisor starts it, and hands it its Launch as JSON on standard input."""

import gc
import sys
from functools import partial

import uvicorn

from newsdesk.server.gateway import application, logs
from newsdesk.server.gateway.certificates import Certificates
from newsdesk.server.gateway.connections import Connections, Http, WebSockets, raise_files_limit
from newsdesk.server.gateway.settings import Launch
from newsdesk.server.runtime.errors import ServerError

DRAIN_SECONDS = 8
_MESSAGE_BYTES = 2**20
_GARBAGE = 10_000, 20, 20


def main() -> None:
    """Serve until a signal, by the Launch on standard input. Ends with code 1 where it could not listen."""
    launch = Launch.decode(sys.stdin.buffer.read())
    logs.configure()
    server: uvicorn.Server

    def stopping() -> bool:
        return server.should_exit

    settings = launch.settings
    certificates = Certificates(settings) if settings.tls_cert else None
    app = application.create(launch, stopping, certificates)
    # What lives as long as the process is not searched for garbage again and again: it cost a third of a request.
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_GARBAGE)
    raise_files_limit()
    connections = Connections(settings.max_connections)
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        loop="uvloop",
        http=partial(Http, within=connections),  # type: ignore[arg-type]
        ws=partial(WebSockets, within=connections),  # type: ignore[arg-type]
        ws_max_size=_MESSAGE_BYTES,
        ws_per_message_deflate=False,  # news texts are short: it would cost more than it saves
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,  # a caller's address is the one that connects, not one that it names
        timeout_keep_alive=75,
        timeout_graceful_shutdown=DRAIN_SECONDS,
        ssl_context_factory=(lambda *_: certificates.context()) if certificates else None,
    )
    server = uvicorn.Server(config)
    server.run()
    if not server.started:
        raise SystemExit(1)


if __name__ == "__main__":
    try:
        main()
    except ServerError as error:
        sys.exit(f"newsdesk: {error}")
