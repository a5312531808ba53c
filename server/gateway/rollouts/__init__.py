"""A version tried beside the current one: which texts it answers, how it is judged, and what becomes of it."""
