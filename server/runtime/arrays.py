"""The type of arrays. Where one is taken or given, the docstring says its shape and the type of its elements."""

from typing import Any

from numpy.typing import NDArray

Array = NDArray[Any]
