"""The report's plots."""

from collections.abc import Mapping
from pathlib import Path

import matplotlib

matplotlib.use("Agg")  # no display
from matplotlib import pyplot
from matplotlib.axes import Axes

from newsdesk.build.evaluation.figures import CascadeFigures, OperatingPoint


def draw(figures: CascadeFigures, labels: list[str], folder: Path) -> list[str]:
    """Write the plots of a model's figures on the test rows as PNG, and return their names."""
    points = figures.points
    drawings = {
        "reliability.png": lambda axes: _reliability(axes, points),
        "coverage.png": lambda axes: _coverage(axes, points),
        "cost.png": lambda axes: _cost(axes, figures),
        "confusion.png": lambda axes: _confusion(axes, points["balanced"].confusion, labels),
    }
    for name, drawing in drawings.items():
        figure, axes = pyplot.subplots(figsize=(5.5, 4.5), layout="constrained")
        drawing(axes)
        figure.savefig(folder / name, dpi=110)
        pyplot.close(figure)
    return [*drawings]


def _reliability(axes: Axes, points: Mapping[str, OperatingPoint]) -> None:
    axes.plot([0, 1], [0, 1], color="grey", linewidth=0.8)
    for quality, point in points.items():
        line = point.reliability
        axes.plot([place.confidence for place in line], [place.accuracy for place in line], marker="o", label=quality)
    axes.set(xlabel="confidence", ylabel="accuracy", title="Reliability, 15 bins")
    axes.legend()


def _coverage(axes: Axes, points: Mapping[str, OperatingPoint]) -> None:
    for quality, point in points.items():
        line = point.coverage
        axes.plot([place.coverage for place in line], [place.accuracy for place in line], label=quality)
    axes.set(xlabel="share of rows answered, the most confident first", ylabel="accuracy", title="Coverage")
    axes.legend()


def _cost(axes: Axes, test: CascadeFigures) -> None:
    line = test.frontier
    axes.plot(
        [1e3 * place.seconds_per_text for place in line],
        [place.accuracy for place in line],
        color="grey",
        label="one threshold for all",
    )
    for quality, point in test.points.items():
        axes.scatter(1e3 * point.seconds_per_text, point.accuracy, label=quality, zorder=3)
    axes.set(xlabel="ms a text", ylabel="accuracy", title="Accuracy against cost")
    axes.legend()


def _confusion(axes: Axes, counts: list[list[int]], labels: list[str]) -> None:
    axes.imshow(counts, cmap="Blues")
    axes.set_xticks(range(len(labels)), labels, rotation=30, ha="right")
    axes.set_yticks(range(len(labels)), labels)
    half = max(max(row) for row in counts) / 2
    for i, row in enumerate(counts):
        for j, count in enumerate(row):
            axes.text(j, i, f"{count}", ha="center", va="center", color="white" if count > half else "black")
    axes.set(xlabel="answered", ylabel="label", title="balanced")
