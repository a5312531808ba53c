"""The structure of JSON, looked at before any parser: how deep it is, and of how many values.

A parser that is led 100,000 brackets deep ends its process (Triton's does), and one that is given two million numbers
builds two million objects before anybody finds out that a text was expected.
"""

import re

from newsdesk.server.contract import MAX_TEXT_BYTES
from newsdesk.server.gateway.problems import Malformed, TooLarge

DEPTH = 32
VALUES = 20_000
"""Values that no text needs: members of the request, elements of a tensor."""
VALUES_PER_TEXT = 16
_SMALL = 16 * 1024
# A member or an element, its strings passed over whole, and the structural character that ends it. Between two of those
# JSON has no more than a name, a colon, a value and white space.
_STRUCTURAL = re.compile(rb'(?:[^"\[\]{},]++|"[^"\\]*+(?:\\.[^"\\]*+)*+"?){0,8}+([\[\]{},]|\Z)', re.DOTALL)
# A byte of text is six where it is written as \\u0041; beside it are a name and white space.
_LONGEST = 6 * MAX_TEXT_BYTES + 64 * 1024
_OPEN, _CLOSE = b"[{", b"]}"


def check(raw: bytes, most: int = VALUES) -> None:
    """Check how deep JSON is nested, and how many values it holds. Whether it is JSON is for the parser to say.

    Args:
        raw: the JSON
        most: values that are taken

    Raises:
        Malformed: it is nested deeper than DEPTH.
        TooLarge: it holds more than `most` values, or a huge one.
    """
    if len(raw) <= _SMALL and raw.count(b"[") + raw.count(b"{") <= DEPTH:
        return
    depth = count = place = 0
    while member := _STRUCTURAL.match(raw, place):
        character, place = member[1], member.end()
        if place - member.start() > _LONGEST:
            raise TooLarge(f"A value is longer than any text may be, {MAX_TEXT_BYTES // 1024} KiB: send less of it.")
        if not character:
            return
        depth += 1 if character in _OPEN else -1 if character in _CLOSE else 0
        count += 1
        if depth > DEPTH:
            raise Malformed(f"The JSON is nested more than {DEPTH} deep.")
        if count > most:
            raise TooLarge(
                f"The JSON holds more than {most} values: send less at once. Files have no limit: /v1/classify/file."
            )
    raise Malformed("The body is not JSON: values follow each other without a comma.")
