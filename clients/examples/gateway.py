"""Classify through the gateway, with the API key that NEWSDESK_API_KEY holds, if there is one.

python gateway.py [gateway+http://localhost:8080]
"""

import sys

from newsdesk.clients import AccessDenied, Client, ServerUnavailable

with Client(*(sys.argv[1:2] or ["gateway+http://localhost:8080"])) as client:
    try:
        print(client.classify("Shares slide as oil rises", timeout=10).label)
    except AccessDenied as error:
        sys.exit(f"a key is needed: {error}")
    except ServerUnavailable as error:  # TooManyRequests among it: retried meanwhile, as the gateway asks
        sys.exit(f"come back in {error.retry_after:.0f} s: {error}")
