"""Benchmarks: ratios measured in one run, with the same generator, articles and thread budget for every side."""

MODEL = "ag_news"
"""The name of the shipped model, which they measure."""
