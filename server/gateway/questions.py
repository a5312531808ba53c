"""A question to the model: texts for the SDK's client, within what is left of a deadline."""

import time
from collections.abc import Sequence

from newsdesk.clients import AsyncClient, Prediction, TextRefused
from newsdesk.clients.options import AnswerOptions, Options

Text = str | bytes
Item = Prediction | TextRefused

_INSTANT = 1e-3
"""The least time in seconds, for what comes at its deadline."""


def left(end: float) -> float:
    """Return the seconds until `end`, by the monotonic clock; never none at all."""
    return max(end - time.monotonic(), _INSTANT)


async def ask(client: AsyncClient, texts: Sequence[Text], wishes: Options, end: float, *, single: bool) -> list[Item]:
    """Return the answers to texts, or why one of them is refused, in their order.

    Args:
        client: of the model
        texts: that are asked for
        wishes: of their caller
        end: the deadline, by the monotonic clock
        single: whether the first is the only one, and may share a request with others'

    Raises:
        NewsdeskError: there is no answer.
    """
    wanted = AnswerOptions(
        top_k=wishes.top_k, quality=wishes.quality, members=wishes.members, uncertainty=wishes.uncertainty
    )
    if not single:
        return await client.classify(texts, **wanted, timeout=left(end))
    try:
        return [await client.classify(texts[0], **wanted, timeout=left(end))]
    except TextRefused as refused:
        return [refused]
