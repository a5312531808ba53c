"""The transport of each scheme of a URL. A scheme is added by a module with both and a line in each function.

A transport's module is imported when it is needed: grpc and aiohttp take a while, and `newsdesk --help` needs neither.
"""

from collections.abc import Sequence

from newsdesk.clients.pool import AsyncPooledTransport, PooledTransport
from newsdesk.clients.transports import Address, AsyncTransport, Transport


def connect(addresses: Sequence[Address]) -> Transport:
    """Return the blocking transport to a server, or to any of several."""
    transports = [open_transport(address) for address in addresses]
    return PooledTransport(transports) if len(transports) > 1 else transports[0]


def connect_async(addresses: Sequence[Address], lean: bool = False) -> AsyncTransport:
    """Return the same for the running event loop. `lean` is for Triton's own port, without TLS."""
    transports = [open_async_transport(address, lean) for address in addresses]
    return AsyncPooledTransport(transports) if len(transports) > 1 else transports[0]


def open_transport(address: Address) -> Transport:
    """Return the blocking transport to an address."""
    if address.scheme.startswith("gateway"):
        from newsdesk.clients.gateway import GatewayTransport

        return GatewayTransport(address)
    if address.scheme.startswith("grpc"):
        from newsdesk.clients.triton_grpc import GrpcTransport

        return GrpcTransport(address)
    from newsdesk.clients.triton_http import HttpTransport

    return HttpTransport(address)


def open_async_transport(address: Address, lean: bool = False) -> AsyncTransport:
    """Return the transport to an address for the running event loop. `lean` is for Triton's own port, without TLS."""
    if address.scheme.startswith("gateway"):
        from newsdesk.clients.gateway import AsyncGatewayTransport

        return AsyncGatewayTransport(address)
    if address.scheme.startswith("grpc"):
        from newsdesk.clients.triton_grpc import AsyncGrpcTransport

        return AsyncGrpcTransport(address, lean)
    from newsdesk.clients.triton_http import AsyncHttpTransport

    return AsyncHttpTransport(address)
