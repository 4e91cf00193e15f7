"""Exact sums over sampled positions: of a layer's activations, of colours, and of products.

Activations and colours are rounded to whole multiples of a small unit. A matrix product in float64
adds products of such numbers exactly, and the results are added as 64-bit integers. So the order of
the images makes no difference, and merged parts of a scan have exactly the sums of the whole.
"""

from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64

from rot180.atlas.feature_index import LayerSlice
from rot180.errors import Rot180Error

UNIT = 2.0**-15
"""Unit of activations, in scales of their layer, and of colours, in full ranges."""

_LARGEST = 2**21
"""Activations beyond so many units (64 scales) count as that many in correlations."""

_AT_ONCE = 2**11
"""Samples in one matrix product: 2^11 products below 2^42 stay below 2^53."""

_LARGEST_SUM = 2**62


class Moments:
    """The sums of one layer.

    Attributes:
        inputs: (1 + colours, 1 + colours + channels), sums of the products of (1, colours) with
            (1, colours, activations), in units.
        squares: (channels), of the activations' squares.
        products: (channels, channels), of activations; None where they are not correlated.
    """

    def __init__(self, part: LayerSlice, colours: int) -> None:
        self.part = part
        channels = part.channels
        self.inputs: Int64[np.ndarray, "k m"] = np.zeros(
            (1 + colours, 1 + colours + channels), np.int64
        )
        self.squares: Int64[np.ndarray, " c"] = np.zeros(channels, np.int64)
        self.products: Int64[np.ndarray, "c c"] | None = None
        if part.is_correlated:
            self.products = np.zeros((channels, channels), np.int64)
        self._buffer: list[np.ndarray] = []
        self._count = 0

    def add(
        self, activations: Float[np.ndarray, "n s c"], colours: Float64[np.ndarray, "n s k"]
    ) -> None:
        """Add samples; they are buffered until there are enough for a matrix product."""
        # In float64 no scale times the unit underflows to 0.
        exact = activations.reshape(-1, activations.shape[-1]).astype(np.float64)
        x = np.rint(exact / (self.part.scale * UNIT))
        f = np.rint(colours.reshape(-1, colours.shape[-1]) / UNIT)
        rows = np.concatenate(
            [np.ones((len(x), 1)), f, np.clip(x, -_LARGEST, _LARGEST)], axis=1, dtype=np.float64
        )
        self._buffer.append(rows)
        self._count += len(rows)
        if self._count >= _AT_ONCE:
            self.flush()

    def flush(self) -> None:
        """Add the buffered samples to the sums.

        Raises:
            Rot180Error: the sums would overflow.
        """
        if not self._buffer:
            return
        rows = torch.from_numpy(np.concatenate(self._buffer))
        self._buffer, self._count = [], 0
        first = len(self.inputs)
        for some in torch.split(rows, _AT_ONCE):
            x = some[:, first:]
            self.inputs += _whole(some[:, :first].T @ some)
            self.squares += _whole((x * x).sum(0))
            if self.products is not None:
                self.products += _whole(x.T @ x)
            self._check()

    def _check(self) -> None:
        """Refuse sums that one more addition could overflow; the squares bound the products."""
        if self.squares.max() >= _LARGEST_SUM:
            raise Rot180Error(
                f"Activations of layer {self.part.name} are many times larger on most images than "
                "on the first ones, and cannot be correlated. Check the network's weights and the "
                "images."
            )

    def merged(self, other: "Moments") -> "Moments":
        """Return the sums of both."""
        found = Moments(self.part, len(self.inputs) - 1)
        self.flush()
        other.flush()
        found.inputs = self.inputs + other.inputs
        found.squares = self.squares + other.squares
        if self.products is not None and other.products is not None:
            found.products = self.products + other.products
        found._check()
        return found

    def arrays(self) -> dict[str, Int64[np.ndarray, "..."]]:
        """Return the sums by name; the products are symmetric, so only one triangle."""
        self.flush()
        found: dict[str, Any] = {"inputs": self.inputs, "squares": self.squares}
        if self.products is not None:
            found["products"] = self.products[np.tril_indices(len(self.products))]
        return found

    def load_arrays(self, given: dict[str, np.ndarray]) -> None:
        """Set the sums to those that :meth:`arrays` returned; the caller checks their shapes."""
        self.inputs, self.squares = given["inputs"].copy(), given["squares"].copy()
        if self.products is not None:
            lower = np.tril_indices(len(self.products))
            self.products[lower] = given["products"]
            self.products.T[lower] = given["products"]

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the shapes of :meth:`arrays`."""
        channels = self.part.channels
        found: dict[str, tuple[int, ...]] = {
            "inputs": self.inputs.shape,
            "squares": self.squares.shape,
        }
        if self.products is not None:
            found["products"] = (channels * (channels + 1) // 2,)
        return found


def _whole(sums: torch.Tensor) -> Int64[np.ndarray, "..."]:
    found: Int64[np.ndarray, ...] = sums.numpy().astype(np.int64)
    return found
