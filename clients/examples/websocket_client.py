"""Texts in and answers out over one WebSocket, in order, as they come.

pip install websockets; python websocket_client.py [ws://localhost:8080]
"""

import json
import sys

from websockets.sync.client import connect

url = sys.argv[1] if len(sys.argv) > 1 else "ws://localhost:8080"
with connect(f"{url}/v1/stream") as socket:
    for number, text in enumerate(["Shares slide as oil rises", "Striker scores as the champions win the match"]):
        socket.send(json.dumps({"text": text, "id": number}))
    for _ in range(2):
        answer = json.loads(socket.recv())
        print(answer["id"], answer.get("label") or answer["error"])
