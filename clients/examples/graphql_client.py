"""Ask for the fields you need, with a GraphQL client.

pip install 'gql[aiohttp]'; python graphql_client.py [http://localhost:8080]
"""

import sys

from gql import Client, gql
from gql.transport.aiohttp import AIOHTTPTransport

url = sys.argv[1] if len(sys.argv) > 1 else "http://localhost:8080"
query = gql("query ($texts: [String!]!) { classify(texts: $texts, topK: 1) { label error } labels }")
query.variable_values = {"texts": ["Shares slide as oil rises", ""]}

for item in Client(transport=AIOHTTPTransport(f"{url}/graphql")).execute(query)["classify"]:
    print(item["label"] or item["error"])
