"""`newsdesk consume`: classify a stream of messages, and write the answers to another."""

import signal
from contextlib import ExitStack, closing
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from newsdesk.clients.cli.options import (
    ApiKey,
    Model,
    ServerOptions,
    Timeout,
    TlsCa,
    TlsCert,
    TlsKey,
    Url,
    certificates,
)
from newsdesk.clients.client import DEFAULT_URL, Client
from newsdesk.clients.streams.answering import Answering
from newsdesk.clients.streams.brokers import Access, BrokerError, Group, Sink, parse, read_properties
from newsdesk.clients.streams.consumption import ConsumerLimits, Consumption
from newsdesk.clients.streams.messages import MessageForm
from newsdesk.clients.streams.opening import ClientMissing, open_sink, open_source
from newsdesk.clients.streams.report import Report
from newsdesk.server.contract import DEFAULT_QUALITY, Quality

_RETRIES = 2
"""The client's retries; the consumer itself asks again for as long as the server is away."""
_URL = "kafka://host:9092/topic, redis://host:6379/stream"


class Start(StrEnum):
    """The place where a group that is new begins."""

    start = "start"
    end = "end"


def consume(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help=f"The stream to read: {_URL} or rediss://….")],
    to: Annotated[str, typer.Option("--to", metavar="URL", help="The stream of answers, of either kind.")],
    dead: Annotated[
        str, typer.Option(metavar="URL", help="The stream of messages that get no label (default: that of answers).")
    ] = "",
    group: Annotated[str, typer.Option(metavar="NAME", help="Consumers of one group share the work.")] = "newsdesk",
    start: Annotated[Start, typer.Option("--from", help="Where a group that is new begins.")] = Start.start,
    text_field: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Messages are JSON, and this field the text; several are joined by a space."),
    ] = None,
    id_field: Annotated[str, typer.Option(metavar="NAME", help="Field of the id (default: the message's key).")] = "",
    url: Url = DEFAULT_URL,
    api_key: ApiKey = None,
    tls_ca: TlsCa = None,
    tls_cert: TlsCert = None,
    tls_key: TlsKey = None,
    model: Model = "",
    quality: Annotated[Quality | None, typer.Option(help=f"As for classify (default: {DEFAULT_QUALITY}).")] = None,
    timeout: Timeout = 30.0,
    batch: Annotated[int, typer.Option(min=1, metavar="N", help="Most texts of a request.")] = 64,
    unanswered: Annotated[
        int, typer.Option(min=1, metavar="N", help="Reading stops while so many texts are not answered.")
    ] = 512,
    claim_after: Annotated[
        float, typer.Option(min=0.1, metavar="SECONDS", help="Redis: what another consumer left so long is taken over.")
    ] = 60.0,
    grace: Annotated[
        float, typer.Option(min=0, metavar="SECONDS", help="Longest time to answer what was read, at SIGTERM.")
    ] = 20.0,
    most_idle: Annotated[
        float | None, typer.Option(min=0, metavar="SECONDS", help="End when no message came for so long.")
    ] = None,
    kafka_config: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="Options of librdkafka, a name=value a line.")
    ] = None,
    redis_password_file: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="File of Redis' password.")
    ] = None,
    report: Annotated[
        float, typer.Option(min=0.1, metavar="SECONDS", help="How often counts go to standard error.")
    ] = 30.0,
    as_json: Annotated[bool, typer.Option("--json", help="Write the counts as JSON.")] = False,
) -> None:
    """Classify the messages of Kafka or Redis Streams, and write an answer each.

    Every message is answered at least once: it is settled (offset committed, entry acknowledged) when its answer is
    written. SIGTERM ends it with what was read answered.
    Exit code: 0 ended as asked, 2 wrong usage, or a broker that refuses.
    """
    try:
        places = {name: parse(where) for name, where in (("source", source), ("to", to), ("dead", dead)) if where}
        access = Access(
            read_properties(kafka_config) if kafka_config else {},
            redis_password_file.read_text(encoding="utf-8").strip() if redis_password_file else "",
        )
        limits = ConsumerLimits(batch, unanswered, grace, most_idle)
        server = ServerOptions(timeout=timeout, model=model, api_key=api_key, **certificates(tls_ca, tls_cert, tls_key))
        with ExitStack() as stack:
            client = stack.enter_context(Client(url, retries=_RETRIES, **server))
            sinks: dict[str, Sink] = {
                name: stack.enter_context(closing(open_sink(places[name], access)))
                for name in places
                if name != "source"
            }
            reading = stack.enter_context(
                closing(open_source(places["source"], Group(group, start, claim_after), access))
            )
            consumption = Consumption(
                reading,
                sinks["to"],
                sinks.get("dead"),
                Answering(client, quality),
                MessageForm(tuple(text_field or ()), id_field),
                limits,
                Report(report, as_json),
                quality,
            )
            _stop_at_signals(consumption)
            consumption.run()
    except (BrokerError, ClientMissing, OSError, ValueError) as error:
        typer.echo(f"newsdesk: {error}", err=True)
        raise typer.Exit(2) from error


def _stop_at_signals(consumption: Consumption) -> None:
    """The first signal ends the consumer in order, the second at once."""

    def stop(number: int, _: object) -> None:
        signal.signal(number, signal.SIG_DFL)
        consumption.stop()

    for number in signal.SIGTERM, signal.SIGINT:
        signal.signal(number, stop)
