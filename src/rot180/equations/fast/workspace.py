"""Arrays that are allocated once and used again in every step."""

import math
from typing import Any

import numpy as np

from rot180.equations.convolution import Array


class Workspace:
    """Named arrays, allocated on first use and whenever the shape or the type changes."""

    def __init__(self) -> None:
        self._arrays: dict[str, Array] = {}

    def __deepcopy__(self, memo: object) -> "Workspace":
        """Return an empty workspace: the arrays belong to one layer."""
        return Workspace()

    @property
    def nbytes(self) -> int:
        """Memory of all arrays in bytes."""
        return sum(array.nbytes for array in self._arrays.values())

    def get(self, name: str, shape: tuple[int, ...], dtype: Any, zero: bool = False) -> Array:
        """Return the array of this name; with ``zero`` it holds zeros when it is new."""
        array = self._arrays.get(name)
        if array is None or array.shape != shape or array.dtype != dtype:
            array = np.zeros(shape, dtype) if zero else np.empty(shape, dtype)
            self._arrays[name] = array
        return array

    def scratch(self, name: str, shape: tuple[int, ...], dtype: Any) -> Array:
        """Return an array in memory that is allocated again only when it is too small."""
        size, array = math.prod(shape), self._arrays.get(name)
        if array is None or array.size < size or array.dtype != dtype:
            array = self._arrays[name] = np.empty(size, dtype)
        return array[:size].reshape(shape)

    def images(self, name: str, shape: tuple[int, ...], dtype: Any, zero: bool = False) -> Array:
        """Return an array (n, c, h, w) that lies in memory with the channels last."""
        n, c, h, w = shape
        return self.get(name, (n, h, w, c), dtype, zero).transpose(0, 3, 1, 2)

    def empty_like(self, name: str, a: Array) -> Array:
        """Return an array of the same shape and type; (n, c, h, w) with the channels last."""
        if a.ndim == 4:
            return self.images(name, a.shape, a.dtype)
        return self.get(name, a.shape, a.dtype)
