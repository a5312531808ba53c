"""Measures of a classifier, with their intervals."""
