"""Serving: find, configure, start, watch and heal tritonserver."""
