"""Rows in: sources, cleaning with a report, splits."""
