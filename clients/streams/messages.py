"""Messages of a broker, and how the text and the id of one are read from its value or its fields."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from newsdesk.clients.articles import Text

_DEFAULT_FIELDS = ("text",)

Content = bytes | Mapping[str, bytes] | None
"""A value (Kafka), named fields (Redis), or None for a value that is deleted."""


class Unreadable(Exception):
    """A message that holds no text to classify; says why."""


@dataclass(frozen=True, slots=True)
class Message:
    """A message as a broker hands it over.

    Attributes:
        at: where it stands, the same at every delivery: "topic/partition/offset", "stream/entry"
        key: its key, None for none
        content: see Content
        place: what its source needs to settle it
    """

    at: str
    key: bytes | None
    content: Content
    place: Any = None


@dataclass(frozen=True, slots=True)
class StreamRecord:
    """A message to write. `headers` stand beside its value, or among its fields."""

    key: bytes | None
    content: Content
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class MessageForm:
    """How messages are read.

    Attributes:
        text_fields: fields whose texts are joined by a space. Without any, a value is the text itself, and of fields
            `text` is read
        id_field: the field that holds a message's id. Without, the key is its id, or else its place
    """

    text_fields: tuple[str, ...] = ()
    id_field: str = ""

    def id(self, message: Message) -> str:
        """Return the id of a message, the same at every delivery."""
        if self.id_field:
            try:
                value = self._fields(message.content).get(self.id_field)
            except Unreadable:
                value = None
            if value is not None:
                return value.decode(errors="replace") if isinstance(value, bytes) else str(value)
        return message.at if message.key is None else message.key.decode(errors="replace")

    def text(self, message: Message) -> Text:
        """Return the text of a message.

        Raises:
            Unreadable: it holds none.
        """
        content = message.content
        if isinstance(content, bytes) and not self.text_fields and not self.id_field:
            return content
        fields = self._fields(content)
        parts = [_part(fields, name) for name in self.text_fields or _DEFAULT_FIELDS]
        if len(parts) == 1:
            return parts[0]
        return b" ".join(part.encode() if isinstance(part, str) else part for part in parts)

    def _fields(self, content: Content) -> Mapping[str, Any]:
        if content is None:
            raise Unreadable("the message has no value, expected a text")
        if isinstance(content, Mapping):
            return content
        try:
            fields = json.loads(content)
        except (ValueError, RecursionError) as error:
            raise Unreadable(f"the value is no JSON ({error}), expected an object with the text's field") from None
        if not isinstance(fields, dict):
            raise Unreadable(f"the value is JSON of type {type(fields).__name__}, expected an object")
        return fields


def _part(fields: Mapping[str, Any], name: str) -> Text:
    if name not in fields:
        raise Unreadable(f"the message has no field {name!r}, expected it to hold the text (--text-field)")
    value = fields[name]
    if not isinstance(value, str | bytes):
        raise Unreadable(f"the field {name!r} is of type {type(value).__name__}, expected a string")
    return value
