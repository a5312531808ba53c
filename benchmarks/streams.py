"""Texts a second through `newsdesk consume`, with Redis Streams and with Kafka, against the SDK alone.

    python -m benchmarks.streams [--url grpc://…] [--count 2000] [--rounds 3] [--write benchmarks/results/streams.md]

One server, and all sides in turn with the same texts; medians count. The SDK has as many requests in flight, of as many
texts, as a consumer. By two URLs it asks the same server as if it were two. A consumer's time runs from the first
answer that it wrote to the last one, so that joining the group is not part of it, and its first answers are not
counted. Redis is a real one; Kafka is librdkafka's mock cluster, in this process, which keeps messages in memory: a
real cluster copies them to several machines, and takes longer.
"""

import argparse
import contextlib
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import redis
from confluent_kafka import Consumer, Producer, TopicPartition

from benchmarks import pages, servers, texts
from newsdesk.clients import Client
from newsdesk.server.runtime import processor
from newsdesk.server.serving.settings import granted_cores
from tests import brokers

BATCH, REQUESTS = 64, 8
HEAD = "# Streams\n\nPrinted by `python -m benchmarks.streams`, see its help.\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=Path, help="CSV with title and description or text, or a line an article")
    parser.add_argument("--count", type=int, default=2000, help="texts of each run")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--url", default="", help="a server that runs, instead of one of this run's own")
    parser.add_argument("--note", default="", help="a sentence about the machine, for the page")
    parser.add_argument("--write", type=Path, help="put the figures into this page, too, in place of the last ones")
    options = parser.parse_args()
    articles = (texts.choose(options.texts) * (options.count // 2000 + 1))[: options.count]
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        redis_url = stack.enter_context(brokers.redis_server(Path(folder)))
        kafka = stack.enter_context(brokers.kafka_cluster())
        url = options.url or f"grpc://127.0.0.1:{stack.enter_context(servers.newsdesk()).grpc_port}"
        sides: dict[str, Callable[[], float]] = {
            "SDK alone": lambda: by_sdk(url, articles),
            "SDK, two URLs": lambda: by_sdk(f"{url},{url.replace('127.0.0.1', 'localhost')}", articles),
            "Redis Streams": lambda: by_redis(url, articles, redis_url),
            "Kafka (mock)": lambda: by_kafka(url, articles, kafka),
        }
        by_sdk(url, articles)  # every process warms up
        turns = [{name: side() for name, side in sides.items()} for _ in range(options.rounds)]
    rates = {name: [turn[name] for turn in turns] for name in sides}
    section = page(rates, options)
    print(section)
    if options.write:
        pages.put(options.write, HEAD, section)


def page(rates: dict[str, list[float]], options: argparse.Namespace) -> str:
    alone = statistics.median(rates["SDK alone"])
    day = time.strftime("%Y-%m-%d")
    lines = [
        "## Texts a second",
        "",
        f"{processor.describe()}, {granted_cores()} cores, Python {platform.python_version()}, "
        f"{options.count} texts a run, {REQUESTS} requests of {BATCH} in flight, {day}. {options.note}".rstrip(),
        "",
        "| side | texts/s | of the SDK alone | slowest and fastest round |",
        "|---|---:|---:|---:|",
    ]
    for name, measured in rates.items():
        median = statistics.median(measured)
        lines.append(f"| {name} | {median:.0f} | {median / alone:.0%} | {min(measured):.0f} to {max(measured):.0f} |")
    return "\n".join([*lines, "", f"Medians of {options.rounds} rounds.", ""])


def by_sdk(url: str, articles: Sequence[str]) -> float:
    with Client(url, timeout=120, concurrency=REQUESTS) as client:
        client.labels()
        start = time.perf_counter()
        answers = client.classify(articles)
        return len(answers) / (time.perf_counter() - start)


def by_redis(url: str, articles: Sequence[str], broker: str) -> float:
    connection: Any = redis.Redis.from_url(broker)
    connection.flushall()
    pipeline = connection.pipeline(transaction=False)
    for article in articles:
        pipeline.xadd("in", {"text": article})
    pipeline.execute()
    with consuming(url, broker):
        return rate(lambda: connection.xlen("out"), len(articles))


def by_kafka(url: str, articles: Sequence[str], broker: str) -> float:
    name = f"{time.time_ns()}"
    producer = Producer({"bootstrap.servers": broker})
    for article in articles:
        producer.produce(f"in-{name}", article)
        producer.poll(0)
    producer.flush(60)
    answers = f"out-{name}"
    producer.list_topics(answers, timeout=10)
    consumer = Consumer({"bootstrap.servers": broker, "group.id": f"reader-{name}", "enable.auto.commit": False})
    partitions = [TopicPartition(answers, number) for number in range(4)]
    try:
        with consuming(url, f"kafka://{broker}", f"-{name}"):
            return rate(
                lambda: sum(consumer.get_watermark_offsets(part, timeout=10)[1] for part in partitions), len(articles)
            )
    finally:
        consumer.close()


@contextlib.contextmanager
def consuming(url: str, broker: str, suffix: str = "") -> Iterator[None]:
    command = [str(Path(sys.executable).with_name("newsdesk")), "consume", f"{broker}/in{suffix}"]
    command += ["--to", f"{broker}/out{suffix}", "--url", url, "--batch", str(BATCH)]
    command += ["--unanswered", str(BATCH * REQUESTS), "--group", f"benchmark{suffix}"]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.terminate()
        process.wait(60)


def rate(written: Callable[[], int], count: int) -> float:
    """Return answers a second, from the first that are there to the last. Raises TimeoutError after five minutes."""
    end = time.monotonic() + 300
    first, start = 0, 0.0
    while time.monotonic() < end:
        now = written()
        if now and not first:
            first, start = now, time.perf_counter()
        if now >= count:
            return (now - first) / (time.perf_counter() - start)
        time.sleep(0.02)
    raise TimeoutError(f"{written()} of {count} answers after five minutes")


if __name__ == "__main__":
    main()
