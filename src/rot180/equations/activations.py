"""Activations: a = f(z), entry by entry, so that dC/dz = dC/da times f'(z)."""

from abc import abstractmethod

import numpy as np

from rot180.equations.convolution import Array, check_error
from rot180.equations.layers import Layer, as_floats


class Activation(Layer):
    """A function of each entry; a subclass defines ``function`` and ``derivative``."""

    def __init__(self) -> None:
        super().__init__()
        self.z: Array = np.zeros(0)
        self.a: Array = np.zeros(0)

    @abstractmethod
    def function(self, z: Array) -> Array:
        """Return f(z)."""

    @abstractmethod
    def derivative(self) -> Array:
        """Return f'(z) of the last forward pass, which left ``self.z`` and ``self.a``."""

    def forward(self, z: Array) -> Array:
        """Return a = f(z)."""
        self.z = z = as_floats(z)
        self.a = self.function(z)
        return self.a

    def backward(self, delta: Array) -> Array:
        """Return dC/dz = dC/da f'(z)."""
        check_error(delta, self.a.shape)
        error: Array = delta * self.derivative()
        return error


class Sigmoid(Activation):
    """1 / (1 + exp(-z)), with f' = a (1 - a)."""

    def function(self, z: Array) -> Array:
        """Return the sigmoid, without overflow for large negative z."""
        small = np.exp(-np.abs(z))
        a: Array = np.where(z >= 0, 1, small) / (1 + small)
        return a

    def derivative(self) -> Array:
        """Return a (1 - a)."""
        slope: Array = self.a * (1 - self.a)
        return slope


class Tanh(Activation):
    """The hyperbolic tangent, with f' = 1 - a^2."""

    def function(self, z: Array) -> Array:
        """Return tanh(z)."""
        return np.tanh(z)

    def derivative(self) -> Array:
        """Return 1 - a^2."""
        slope: Array = 1 - self.a**2
        return slope


class ReLU(Activation):
    """max(z, 0), with f' = 1 where z > 0, else 0.

    At z = 0 there is no derivative. Every value from 0 to 1 is a subgradient; as in PyTorch it is
    0 here.
    """

    def function(self, z: Array) -> Array:
        """Return max(z, 0)."""
        return np.maximum(z, 0)

    def derivative(self) -> Array:
        """Return whether z > 0."""
        return np.greater(self.a, 0)

    def kink_pattern(self) -> Array:
        """Return whether z > 0."""
        return self.derivative()
