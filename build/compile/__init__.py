"""From a fitted member to what serves: export, precision, a target, and the check against the original."""
