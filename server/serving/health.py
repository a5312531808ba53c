"""A health route of a child, asked over loopback.

As a program it asks the gateway, for whoever watches a container: `python3 -m newsdesk.server.serving.health
/health/ready` ends with code 0 where that is answered with 200.
"""

import http.client
import os
import ssl
import sys

from newsdesk.server.machine import addresses

UNSHOWN = 495
"""The state of a server that wants a caller's certificate, which nobody shows here: it lives, and says no more."""
_TIMEOUT = 4.0


def ask(host: str, port: int, path: str, timeout: float, tls: bool = False) -> int:
    """Return the status that is answered, UNSHOWN, or 0 where nothing is answered.

    Whose certificate it is does not matter: nothing is told, and who else could listen on loopback is not asked either.

    Args:
        host: an address of this machine
        port: that is asked
        path: of the health route
        timeout: seconds
        tls: whether the port speaks TLS
    """
    connection = _connection(host, port, timeout, tls)
    shaken = False
    try:
        connection.connect()
        shaken = tls
        connection.request("GET", path)
        response = connection.getresponse()
        response.read()
        return response.status
    except TimeoutError:
        return 0
    except ssl.SSLError as error:
        return UNSHOWN if shaken or "ALERT" in (error.reason or "") else 0
    except (OSError, http.client.HTTPException):  # after the handshake it is how the connection was ended
        return UNSHOWN if shaken else 0
    finally:
        connection.close()


def _connection(host: str, port: int, timeout: float, tls: bool) -> http.client.HTTPConnection:
    if not tls:
        return http.client.HTTPConnection(host, port, timeout=timeout)
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return http.client.HTTPSConnection(host, port, timeout=timeout, context=context)


def main() -> None:
    """Ask the gateway of this machine, at the address and in the way that its variables say."""
    variables = os.environ
    host = variables.get("NEWSDESK_GATEWAY_HOST") or variables.get("NEWSDESK_HOST") or "127.0.0.1"
    port = int(variables.get("NEWSDESK_GATEWAY_PORT", "8080"))
    status = ask(addresses.local(host), port, sys.argv[1], _TIMEOUT, bool(variables.get("NEWSDESK_TLS_CERT")))
    sys.exit(status not in (http.client.OK, UNSHOWN))


if __name__ == "__main__":
    main()
