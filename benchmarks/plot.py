"""Plot accuracy against cost, as SVG, from the page of slices.

python -m benchmarks.plot [--page benchmarks/results/slices.md] [--output docs/images/accuracy.svg]

Each quality is a point: the time that it takes for a text, on one core, and the share of right answers with its 95 %
interval. A line joins the qualities on one slice of rows.
"""

import argparse
import math
import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
PAGE, OUTPUT = ROOT / "benchmarks" / "results" / "slices.md", ROOT / "docs" / "images" / "accuracy.svg"
QUALITIES = "fast", "balanced", "best"
SLICES = {
    "whole": ("#0b5a75", "title and description"),
    "BBC, long articles": ("#a8501f", "BBC, long articles"),
    "headline": ("#5a6b2b", "headline alone"),
}
WIDTH, HEIGHT = 760, 420
LEFT, RIGHT, TOP, BOTTOM = 64, 560, 24, 360
_ACCURACY = re.compile(r"([\d.]+)% \(([\d.]+)% to ([\d.]+)%\)")


class RightShare(NamedTuple):
    """Right answers in percent, with the ends of their 95 % interval."""

    value: float
    least: float
    most: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--page", type=Path, default=PAGE, help="that `newsdesk evaluate` printed")
    parser.add_argument("--output", type=Path, default=OUTPUT, help="the SVG to write")
    options = parser.parse_args()
    options.output.write_text(draw(*read(options.page.read_text(encoding="utf-8"))), encoding="utf-8")
    print(options.output)


def read(page: str) -> tuple[list[float], dict[str, list[RightShare]]]:
    """Return the milliseconds a text of each quality, and for each slice its share at each quality.

    Raises KeyError with the name of a row or column that the page lacks.
    """
    points, slices = _table(page, "point"), _table(page, "slice")
    costs = [float(points[quality]["ms a text"]) for quality in QUALITIES]
    return costs, {name: [_share(slices[name][quality]) for quality in QUALITIES] for name in SLICES}


def _table(page: str, first: str) -> dict[str, dict[str, str]]:
    """Return the rows, by their first cell, of the table whose first column is `first`."""
    lines = page.splitlines()
    start = next((i for i, line in enumerate(lines) if line.startswith(f"| {first} |")), None)
    if start is None:
        raise KeyError(f"no table whose first column is {first!r}; expected the page that `newsdesk evaluate` prints")
    header, rows = _cells(lines[start]), {}
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        cells = _cells(line)
        rows[cells[0]] = dict(zip(header, cells, strict=True))
    return rows


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def _share(cell: str) -> RightShare:
    matched = _ACCURACY.match(cell)
    if matched is None:
        raise ValueError(f"{cell!r}: expected an accuracy as 94.21% (93.7% to 94.7%)")
    return RightShare(*map(float, matched.groups()))


def draw(costs: list[float], slices: dict[str, list[RightShare]]) -> str:
    """Return the plot: costs in milliseconds on a logarithmic axis, shares of each slice as a line."""
    shares = [share for line in slices.values() for share in line]
    floor, ceiling = math.floor(min(share.least for share in shares)), math.ceil(max(share.most for share in shares))
    first, last = math.floor(math.log10(min(costs))), math.ceil(math.log10(max(costs)))

    def x(cost: float) -> float:
        return round(LEFT + (math.log10(cost) - first) / (last - first) * (RIGHT - LEFT), 1)

    def y(percent: float) -> float:
        return round(BOTTOM - (percent - floor) / (ceiling - floor) * (BOTTOM - TOP), 1)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        'font-family="sans-serif" font-size="13" fill="#222">',
        "<title>Accuracy against the time a text takes</title>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>',
    ]
    for percent in range(floor, ceiling + 1, 2):
        parts.append(f'<path d="M{LEFT} {y(percent)}H{RIGHT}" stroke="#e4e6ea"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{y(percent) + 4}" text-anchor="end">{percent} %</text>')
    for power in range(first, last + 1):
        parts.append(f'<path d="M{x(10**power)} {TOP}V{BOTTOM}" stroke="#e4e6ea"/>')
        parts.append(f'<text x="{x(10**power)}" y="{BOTTOM + 18}" text-anchor="middle">{10.0**power:g} ms</text>')
    for name, line in slices.items():
        colour, label = SLICES[name]
        places = [(x(cost), y(share.value)) for cost, share in zip(costs, line, strict=True)]
        path = "L".join(f"{across} {down}" for across, down in places)
        parts.append(f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        for (across, down), share in zip(places, line, strict=True):
            parts.append(f'<path d="M{across} {y(share.least)}V{y(share.most)}" stroke="{colour}"/>')
            parts.append(f'<circle cx="{across}" cy="{down}" r="4" fill="{colour}"/>')
        parts.append(f'<text x="{places[-1][0] + 12}" y="{places[-1][1] + 4}" fill="{colour}">{label}</text>')
    for quality, cost in zip(QUALITIES, costs, strict=True):
        parts.append(f'<text x="{x(cost)}" y="{BOTTOM + 36}" text-anchor="middle" font-weight="bold">{quality}</text>')
    middle = (LEFT + RIGHT) / 2
    parts.append(f'<text x="{middle}" y="{BOTTOM + 54}" text-anchor="middle">time a text takes, one core</text>')
    return "\n".join([*parts, "</svg>", ""])


if __name__ == "__main__":
    main()
