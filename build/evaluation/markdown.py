"""Tables of Markdown, for reports."""


def table(heads: list[str], rows: list[list[str]]) -> str:
    """Return a Markdown table."""
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [heads, ["---"] * len(heads), *rows])


def cell(text: str) -> str:
    """Return a text as a cell of a table holds it."""
    return text.replace("|", "\\|")
