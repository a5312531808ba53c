"""Benchmarks: ratios measured in one run, with the same generator, articles and thread budget for every side."""
