"""Fit one member."""
