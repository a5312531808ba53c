"""The type of arrays. The docstring of a function says their shapes and the types of their elements."""

from typing import Any

from numpy.typing import NDArray

Array = NDArray[Any]
