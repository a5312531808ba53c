from collections.abc import Iterator

import pytest

from tests import brokers


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with brokers.redis_server(tmp_path_factory.mktemp("redis")) as url:
        yield url


@pytest.fixture(scope="session")
def kafka_url() -> Iterator[str]:
    with brokers.kafka_cluster() as servers:
        yield f"kafka://{servers}"
