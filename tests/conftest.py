"""Fixtures of the whole suite."""

import hypothesis

# Two shared cores: a slow example is no fault.
hypothesis.settings.register_profile("shared-machine", deadline=None, max_examples=60)
hypothesis.settings.load_profile("shared-machine")
