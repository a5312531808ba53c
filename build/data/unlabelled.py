"""Texts that only teachers label."""

from pathlib import Path

from newsdesk.build.data import sources, tables
from newsdesk.build.recipe import Source
from newsdesk.server.runtime.text import clean


def texts(source: Source, split: Path) -> list[str]:
    """Return the source's clean texts, each once, without those of any split: no text of an examination is learned."""
    parts = [part for part in (split / f"{name}.parquet" for name in ("train", "validation", "test")) if part.exists()]
    seen = {row.text.casefold() for part in parts for row in tables.read(part)}
    fresh = []
    for raw in sources.read(source):
        text = clean(raw.text)
        # An undecodable byte stands there as a lone surrogate.
        if text and text.casefold() not in seen and not any("\ud800" <= c <= "\udfff" for c in text):
            seen.add(text.casefold())
            fresh.append(text)
    return fresh
