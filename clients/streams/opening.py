"""Sources and sinks by their URLs. A broker's client is imported when one of its URLs is opened, and not before."""

from newsdesk.clients.streams.brokers import Access, Group, MessageSource, Sink, StreamUrl


class ClientMissing(Exception):
    """The broker's client is not installed; says the command that installs it."""


def open_source(place: StreamUrl, group: Group, access: Access) -> MessageSource:
    """Return a source of messages.

    Raises:
        ClientMissing: the broker's client is not installed.
        ValueError: options cannot be used.
    """
    try:
        if place.scheme == "kafka":
            from newsdesk.clients.streams.kafka import KafkaSource

            return KafkaSource(place, group, access.kafka)
        from newsdesk.clients.streams.redis_streams import RedisSource

        return RedisSource(place, group, access.redis_password)
    except ModuleNotFoundError as error:
        raise _missing(place, error) from error


def open_sink(place: StreamUrl, access: Access) -> Sink:
    """Return a sink of records.

    Raises:
        ClientMissing: the broker's client is not installed.
        ValueError: options cannot be used.
    """
    try:
        if place.scheme == "kafka":
            from newsdesk.clients.streams.kafka import KafkaSink

            return KafkaSink(place, access.kafka)
        from newsdesk.clients.streams.redis_streams import RedisSink

        return RedisSink(place, access.redis_password)
    except ModuleNotFoundError as error:
        raise _missing(place, error) from error


def _missing(place: StreamUrl, error: ModuleNotFoundError) -> ClientMissing:
    extra = "kafka" if place.scheme == "kafka" else "redis"
    return ClientMissing(
        f"{place.scheme}://{place.servers} needs {error.name}, which is not installed: pip install 'newsdesk[{extra}]'"
    )
