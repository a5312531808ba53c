"""Texts for the log, masked: for `--log-texts` alone, imported only then.

datafog finds e-mail addresses, telephone, card, social security and IP numbers by their forms. What it lets through of
those (IPv6 addresses, local numbers, cards with a wrong digit) falls to the patterns below, which rather mask too much.
Names of people are not found: that needs a language model of its own.
"""

import ipaddress
import os
import re

os.environ["DATAFOG_NO_TELEMETRY"] = "1"  # off by default, too; this outdoes any DATAFOG_TELEMETRY

from datafog import scan

_READ, _SHOWN = 4096, 1024
_KINDS = ["EMAIL", "PHONE", "CREDIT_CARD", "SSN", "IP_ADDRESS"]
_REST = (
    (re.compile(r"[^\s@]+@[^\s@]+"), "[EMAIL]"),
    (re.compile(r"\d{1,3}(?:\.\d{1,3}){3}"), "[IP_ADDRESS]"),
    (re.compile(r"\+?\(?\d(?:[\s().\-/]{0,3}\d){6,}"), "[NUMBER]"),
)
_COLONS = re.compile(r"[\w.]*:[\w:.]*:[\w:.]*")
# The last word of a text that was cut, and the digits before it, may be half of something that is to be masked.
_HALF = re.compile(r"[\s\d().+:/-]*\S*\Z")


def mask(text: str) -> str:
    """Return the beginning of a text, at most 1,024 characters, with what tells of a person replaced by its kind."""
    if len(text) > _READ:
        text = _HALF.sub("", text[:_READ], count=1)
    entities = scan(text, engine="regex", entity_types=_KINDS).entities
    for entity in sorted(entities, key=lambda entity: entity.start, reverse=True):
        text = f"{text[: entity.start]}[{entity.type}]{text[entity.end :]}"
    text = _COLONS.sub(_without_v6, text)
    for pattern, kind in _REST:
        text = pattern.sub(kind, text)
    return text[:_SHOWN]


def _without_v6(match: re.Match[str]) -> str:
    """Mask an IPv6 address, which may have a word and a colon before it, and end a sentence."""
    address = match[0]
    for begin in 0, address.index(":") + 1:
        for end in len(address), len(address.rstrip(".:")):
            try:
                ipaddress.IPv6Address(address[begin:end])
            except ValueError:
                continue
            return f"{address[:begin]}[IP_ADDRESS]{address[end:]}"
    return address
