"""Classify from many tasks of one event loop. Calls that come while others are on their way go together.

python tasks.py [grpc://localhost:8001]
"""

import asyncio
import sys

from newsdesk.clients import AsyncClient, NewsdeskError

HEADLINES = [
    "Leaders sign the treaty after a week of talks",
    "Striker scores twice as the champions win the match",
    "Shares slide as oil rises",
    "A chip that learns from its own mistakes",
]


async def main() -> None:
    """Have a task read each headline."""
    async with AsyncClient(*sys.argv[1:2], micro_batching=True, concurrency=2) as client:

        async def read(headline: str) -> None:
            try:
                print(f"{(await client.classify(headline, timeout=5)).label:10} {headline}")
            except NewsdeskError as error:
                print(f"{'?':10} {headline}: {error}")

        async with asyncio.TaskGroup() as tasks:
            for headline in HEADLINES:
                tasks.create_task(read(headline))


asyncio.run(main())
