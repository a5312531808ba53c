"""Corrections of labels, for a gateway that keeps them, and the requests that carry them."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any
from urllib.parse import quote

from newsdesk.clients.articles import Article, Text, read_row
from newsdesk.clients.errors import BadResponse, RequestRefused, TextRefused
from newsdesk.clients.transports import Address
from newsdesk.server.contract import MAX_BATCH


@dataclass(frozen=True, slots=True)
class Correction:
    """A text and its right label.

    Attributes:
        text: as `Client.classify` takes one
        label: one of the model's labels
        predicted: the label that was wrong, where it is known
        note: for who reads the corrections
    """

    text: Text | Article
    label: str
    predicted: str | None = None
    note: str | None = None


def bodies(corrections: Correction | Iterable[Correction]) -> Iterator[bytes]:
    """Yield the bodies of the requests that send corrections, some in each.

    Raises:
        TextRefused: a text is not UTF-8.
        RequestRefused: a label or note is not Unicode.
    """
    remaining = iter([corrections] if isinstance(corrections, Correction) else corrections)
    first = 0
    while some := [*islice(remaining, MAX_BATCH)]:
        items = [_item(correction, first + place) for place, correction in enumerate(some)]
        first += len(some)
        try:
            yield json.dumps(items, ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            raise RequestRefused(
                f"a label or note holds half a character ({error.reason}), expected Unicode"
            ) from error


def path(model: str, address: Address) -> str:
    """Return where corrections of a model are sent.

    Raises:
        RequestRefused: the address is no gateway's REST.
    """
    if not address.scheme.startswith("gateway"):
        raise RequestRefused(
            f"{address.url} takes no feedback: give the gateway's address, as gateway+http://127.0.0.1:8080"
        )
    name = model or address.model
    return f"/v1/models/{quote(name, safe='')}/feedback" if name else "/v1/feedback"


def kept(body: bytes) -> int:
    """Return how many corrections an answer says were kept.

    Raises:
        BadResponse: it says nothing of the kind.
    """
    try:
        return int(json.loads(body)["kept"])
    except (ValueError, KeyError, TypeError) as error:
        raise BadResponse(f"an answer cannot be read ({error!r}): is it a gateway?") from error


def _item(correction: Correction, index: int) -> dict[str, Any]:
    text = read_row(correction.text, index)
    try:
        readable = text.decode() if isinstance(text, bytes) else text.encode().decode()
    except (UnicodeDecodeError, UnicodeEncodeError) as error:
        raise TextRefused(index, f"not UTF-8 ({error.reason}), send UTF-8") from error
    item = {"text": readable, "label": correction.label}
    more = {"predicted": correction.predicted, "note": correction.note}
    return item | {name: value for name, value in more.items() if value is not None}
