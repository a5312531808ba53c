"""Rate limits: requests of one caller within a moving window, counted in memory or, by several gateways, in Redis."""

import math
import time

from limits import parse
from limits.aio.storage import Storage
from limits.aio.strategies import MovingWindowRateLimiter
from limits.errors import ConfigurationError, StorageError
from limits.storage import storage_from_string

from newsdesk.server.gateway.problems import TooMany, Unavailable
from newsdesk.server.gateway.settings import GatewaySettings, GatewaySettingsError
from newsdesk.server.machine import addresses


class Rates:
    """The counts of callers' requests.

    Raises:
        GatewaySettingsError: Redis is wanted and its client is not installed.
    """

    def __init__(self, settings: GatewaySettings) -> None:
        self._limit = parse(settings.rate_limit) if settings.rate_limit else None
        where = settings.rate_storage
        options = {"implementation": "redispy", "wrap_exceptions": "true"} if where else {}
        if password := settings.rate_storage_password():
            options["password"] = password
        try:
            storage = storage_from_string(f"async+{where or 'memory://'}", **options)
        except ConfigurationError as error:
            shown = addresses.without_password(where)
            raise GatewaySettingsError(
                f"--rate-storage (NEWSDESK_RATE_STORAGE) is {shown!r}: {error}. pip install redis"
            ) from error
        assert isinstance(storage, Storage)
        self._window = MovingWindowRateLimiter(storage)

    async def count(self, caller: str) -> None:
        """Count a request; one that is turned away does not count.

        Raises:
            TooMany: the limit is reached; with the time to wait.
            Unavailable: the storage of the counts does not answer.
        """
        if self._limit is None:
            return
        try:
            if await self._window.hit(self._limit, caller):
                return
            reset, _ = await self._window.get_window_stats(self._limit, caller)
        except StorageError as error:
            raise Unavailable("The rate limits cannot be counted now: their storage does not answer.") from error
        raise TooMany(f"The limit of {self._limit} is reached.", math.ceil(reset - time.time()))
