"""HTTP requests with a deadline, their failures as NewsdeskError's: over urllib3, and over aiohttp."""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Iterator, Mapping

import aiohttp
import urllib3

from newsdesk.clients.errors import NewsdeskError, error_of, late, unavailable
from newsdesk.clients.trace import carried
from newsdesk.clients.transports import Address

# Connections are made when needed, and this many kept.
_KEPT_CONNECTIONS = 128
# Nothing was sent where no connection comes about: there is time left to try again, or another server.
_LONGEST_CONNECTING = 5.0
_GOOD = {200, 202, 206}

Body = bytes | Iterator[bytes] | None
"""Blocks are sent as they come, for as long as that takes: the time then bounds the wait for the answer alone."""


class Web:
    """Blocking requests. urllib3's pool gives each thread's request a connection of its own and keeps it alive."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._pool = urllib3.connectionpool.connection_from_url(
            _origin(address), maxsize=_KEPT_CONNECTIONS, retries=False, **_trusted(address)
        )

    def call(
        self, method: str, path: str, body: Body, headers: Mapping[str, str], timeout: float
    ) -> tuple[bytes, Mapping[str, str]]:
        """Return the body and the headers of a success.

        Args:
            method: of the request
            path: comes behind the address's own
            body: of the request
            headers: beside the key and the caller's span
            timeout: seconds

        Raises:
            NewsdeskError: there is no answer in time, or an error.
        """
        url = self._address.url
        try:
            response = self._pool.urlopen(
                method,
                self._address.path + path,
                body,
                {**headers, **carried(), **_presented(self._address)},
                redirect=False,
                timeout=urllib3.Timeout(total=timeout, connect=min(timeout, _LONGEST_CONNECTING)),
            )
        except urllib3.exceptions.NewConnectionError as error:  # a ConnectTimeoutError to urllib3, so it comes first
            raise unavailable(url, error) from error
        except urllib3.exceptions.TimeoutError as error:
            connecting = isinstance(error, urllib3.exceptions.ConnectTimeoutError)
            raise _timed_out(url, error, connecting, timeout) from error
        except urllib3.exceptions.HTTPError as error:
            raise unavailable(url, error) from error
        if response.status not in _GOOD:
            raise _error(response.status, response.data, response.headers, url)
        return response.data, response.headers

    def close(self) -> None:
        """Close the connections."""
        self._pool.close()


class AsyncWeb:
    """Requests of the event loop that it is made in: an aiohttp session belongs to one."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._connector = aiohttp.TCPConnector(limit=_KEPT_CONNECTIONS, ssl=_trusted(address).get("ssl_context", True))
        self._session = aiohttp.ClientSession(_origin(address), connector=self._connector)

    async def call(
        self, method: str, path: str, body: Body, headers: Mapping[str, str], timeout: float
    ) -> tuple[bytes, Mapping[str, str]]:
        """As `Web.call`."""
        url = self._address.url
        try:
            async with self._session.request(
                method,
                self._address.path + path,
                data=_paced(body) if isinstance(body, Iterator) else body,
                headers={**headers, **carried(), **_presented(self._address)},
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(
                    total=None if isinstance(body, Iterator) else timeout,
                    sock_connect=min(timeout, _LONGEST_CONNECTING),
                    sock_read=timeout,
                ),
            ) as response:
                data = await response.read()
        except TimeoutError as error:
            connecting = isinstance(error, aiohttp.ConnectionTimeoutError)
            raise _timed_out(url, error, connecting, timeout) from error
        except aiohttp.ClientError as error:
            raise unavailable(url, error) from error
        if response.status not in _GOOD:
            raise _error(response.status, data, response.headers, url)
        return data, response.headers

    async def close(self) -> None:
        """Close the connections."""
        await self._session.close()

    def abandon(self) -> None:
        """Close without the loop, which has ended: aiohttp logs an error for a session that is left open."""
        self._session.detach()
        list(self._connector.close().__await__())


async def _paced(body: Iterator[bytes]) -> AsyncIterator[bytes]:
    """Read the blocks beside the loop: most are of a file."""
    while block := await asyncio.to_thread(next, body, b""):
        yield block


def _origin(address: Address) -> str:
    return f"{address.scheme.removeprefix('gateway+')}://{address.netloc}"


def _trusted(address: Address) -> dict[str, ssl.SSLContext]:
    if not address.scheme.endswith("s"):
        return {}
    context = ssl.create_default_context(cafile=address.ca_file or None)
    if address.cert_file:
        context.load_cert_chain(address.cert_file, address.key_file)
    return {"ssl_context": context}


def _presented(address: Address) -> dict[str, str]:
    return {"Authorization": f"Bearer {address.key}"} if address.key else {}


def _timed_out(url: str, error: Exception, connecting: bool, timeout: float) -> NewsdeskError:
    return unavailable(url, error) if connecting and timeout > _LONGEST_CONNECTING else late(url)


def _error(status: int, body: bytes, headers: Mapping[str, str], url: str) -> NewsdeskError:
    """With the server's own words: Triton's and problem details are JSON, a proxy's can be anything."""
    try:
        problem = json.loads(body)
        message = str(problem["error"] if "error" in problem else problem["detail"])
    except (ValueError, KeyError, TypeError):
        message = body[:500].decode(errors="replace") or "no details"
    return error_of(status, message, url, headers.get("Retry-After"))
