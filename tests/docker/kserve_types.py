"""Print, as JSON, the places in a document that KServe's types do not have: python kserve_types.py TYPE < document."""

import json
import re
import sys
from collections.abc import Iterator
from typing import Any

import kserve
import kubernetes.client


def misfits(value: Any, kind: str, place: str = "") -> Iterator[str]:
    """Yield the places in a value that its type does not have, or has as another type."""
    if several := re.fullmatch(r"(?:list|dict|List|Dict)[\[(](?:str, *)?(.*)[\])]", kind):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from misfits(item, several[1], f"{place}.{key}")
    elif model := getattr(kserve, kind, None) or getattr(kubernetes.client, kind, None):
        names = {key: name for name, key in model.attribute_map.items()}
        for key, item in value.items():
            if key in names:
                yield from misfits(item, model.openapi_types[names[key]], f"{place}.{key}")
            else:
                yield f"{place}.{key}"
    elif kind in ("str", "int", "bool") and type(value).__name__ != kind:
        yield f"{place} is {value!r}, expected {kind}"


if __name__ == "__main__":
    print(json.dumps([*misfits(json.load(sys.stdin), sys.argv[1])]))
