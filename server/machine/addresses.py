"""Addresses to listen on, IPv4 and IPv6, as sockets, URLs and tritonserver write them."""

import errno
import ipaddress
import re
import socket

_LOCAL = {"0.0.0.0": "127.0.0.1", "::": "::1"}
_PASSWORD = re.compile(r"//[^\s]*@")
_ELSEWHERE = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)


def resolve(host: str) -> str:
    """Return the IP address of a host: the IPv4 one, where a name has both.

    Raises:
        ValueError: there is none, or it names a zone (fe80::1%eth0), which tritonserver cannot read.
    """
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return _look_up(host)
    if "%" in host:
        raise ValueError("an address without a zone: tritonserver cannot read one. Name a global address, or ::")
    return str(address)


def _look_up(name: str) -> str:
    for family in socket.AF_INET, socket.AF_INET6:
        try:
            return str(socket.getaddrinfo(name, None, family, socket.SOCK_STREAM)[0][4][0])
        except (OSError, UnicodeError):
            continue
    raise ValueError("an IPv4 or IPv6 address of this machine, or a name that has one")


def local(host: str) -> str:
    """Return the address under which this machine reaches what listens on an address."""
    return _LOCAL.get(host, host)


def loopback(host: str) -> str:
    """Return an address itself where it is of loopback, else the loopback address of its kind."""
    address = ipaddress.ip_address(host)
    return host if address.is_loopback else "::1" if address.version == 6 else "127.0.0.1"


def bracketed(host: str) -> str:
    """Return an address as it stands before a port: an IPv6 one in brackets."""
    return f"[{host}]" if ":" in host else host


def refusal(host: str, port: int) -> OSError | None:
    """Return why nobody can listen there now, or None where somebody can."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            probe.bind((host, port))
            probe.listen(1)
    except OSError as error:
        return error
    return None


def remedy(error: OSError, port: int, flags: str, host_flag: str) -> str:
    """Return what to do about a refusal: name another address, or end what listens there."""
    if error.errno in _ELSEWHERE:
        return f"Name an address that this machine has (ip address shows them): {host_flag}."
    return f"Stop what listens there (ss -ltnp 'sport = :{port}' shows it), or choose others with {flags}."


def without_password(url: str) -> str:
    """Return a URL as it may be shown."""
    return _PASSWORD.sub("//…@", url)


def has_ipv6() -> bool:
    """Return whether this machine can listen on its IPv6 loopback."""
    return refusal("::1", 0) is None
