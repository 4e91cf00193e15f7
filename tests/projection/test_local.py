"""The main property: a unit's projection from its receptive field alone is that of whole maps.

Every network is compared with the reference, which runs whole images under autograd: units in the
middle, on each edge and in each corner of every layer, from an image, from an opened image, and in
batches of images and features.
"""

from collections.abc import Iterator
from functools import lru_cache

import jaxtyping
import pytest
import torch
from hypothesis import HealthCheck, given, reject, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import rot180
from rot180.graph.operators.operator import MAPS
from rot180.graph.operators.pooling import MaxPool
from rot180.projection.rules import UNPOOLINGS, WAYS_BACK
from tests.models import image, relative_error, seeded
from tests.projection.stacks import BLOCKS, Stack
from tests.projection.styles import SIZE, STYLES, Several
from tests.reference import Reference

pytestmark = pytest.mark.slow

PEAKS = 4
UNITS = 9 + PEAKS

Unit = tuple[int, int, tuple[int, int]]
"""Number of the image, channel, position."""


@pytest.fixture(autouse=True)
def numbers_only(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Leave types to the other tests: here are some ten thousand projections."""
    monkeypatch.setattr(jaxtyping, "jaxtyped", lambda **_: lambda function: function)
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


class Compared:
    """A model captured, beside its reference, for two images."""

    def __init__(self, model: nn.Module, images: Tensor, tolerance: float) -> None:
        self.net, self.images, self.tolerance = rot180.capture(model, images), images, tolerance
        self.opened = [rot180.open_image(self.net, one) for one in images]
        self.many = images[torch.arange(UNITS) % 2]
        self.reference = Reference(model, self.many)

    def unpoolings(self, layer: rot180.Layer) -> tuple[str, ...]:
        """Return those that differ: one, where there is no max pooling below a layer."""
        below = [self.net.steps[place].operator for place in self.net.ancestors(layer.weight_step)]
        return UNPOOLINGS if any(isinstance(one, MaxPool) for one in below) else UNPOOLINGS[:1]

    def units(self, layer: rot180.Layer) -> list[Unit]:
        """Return the strongest units at nine places, and the peaks of two features."""
        maps = rot180.feature_maps(self.net, self.images, layer.name)
        rows, columns = ([0, size // 2, size - 1] for size in (layer.height, layer.width))
        places = [(y, x) for y in rows for x in columns]
        found = [
            (n % 2, int(maps[n % 2, :, y, x].abs().argmax()), (y, x))
            for n, (y, x) in enumerate(places)
        ]
        ranked = maps
        if layer.saturates:
            ranked = rot180.feature_maps(self.net, self.images, layer.name, before_rectifier=True)
        for n in range(9, UNITS):
            channel = (0, layer.channels - 1)[n % 4 // 2]
            peak = divmod(int(ranked[n % 2, channel].argmax()), layer.width)
            found.append((n % 2, channel, peak))
        return found

    def wanted(self, layer: rot180.Layer, units: list[Unit], method: str, unpool: str) -> tuple:
        """Return activations and projections of units by the reference."""
        each, channels = torch.arange(UNITS), torch.tensor([channel for _, channel, _ in units])
        y, x = torch.tensor([place for _, _, place in units]).T
        index = (each, channels, y, x)
        if layer.axes is None:
            index = (each, channels)
        elif layer.axes != MAPS:
            index = (each, y, x, channels)
        name = self.net.steps[layer.output_step].name
        return self.reference.project(self.many, name, index, method, unpool)

    def check(self, layer: rot180.Layer, method: str, unpool: str) -> None:
        """Compare each unit, in one of three ways; which one goes round from method to method."""
        units = self.units(layer)
        rules = {"method": method, "unpool": unpool}
        activations, signals = self.wanted(layer, units, method, unpool)
        shift = WAYS_BACK.index(method)
        for k, (n, channel, place) in enumerate(units[:9]):
            way, channels = (k + k // 3 + shift) % 3, [channel, 0, layer.channels - 1]
            source = self.images[n] if way == 0 else self.opened[n]
            if way == 2:
                source = self.images if k % 2 else source
                found = rot180.project(self.net, source, layer.name, channels, place, **rules)
                p = found[n * len(channels) if k % 2 else 0]
            else:
                p = rot180.project(self.net, source, layer.name, channel, place, **rules)
            top, left, bottom, right = self.net.receptive_field(layer, place)
            assert p.box == (top, left, bottom, right)
            assert p.pixels.shape[1:] == (bottom - top, right - left)
            assert (p.channel, p.position) == (channel, place)
            self.same(p, activations[k], signals[k])
        channels = [0, layer.channels - 1]
        peaks = rot180.project(self.net, self.images, layer.name, channels, "peak", **rules)
        for k, (n, channel, place) in enumerate(units[9:], 9):
            p = peaks[2 * n + channels.index(channel)]
            assert p.position == place
            self.same(p, activations[k], signals[k])

    def same(self, p: rot180.Projection, activation: Tensor, signal: Tensor) -> None:
        """Compare; a small activation, the remainder of large terms, has fewer digits."""
        if activation == 0:
            assert p.activation == 0
            assert not p.pixels.any()
            return
        largest = rot180.feature_maps(self.net, self.images, p.layer).abs().max()
        tolerance = self.tolerance * float((largest / activation.abs()).clamp(min=1))
        assert abs(p.activation - activation) <= tolerance * activation.abs()
        assert relative_error(p.full(), signal) < tolerance


TOGETHER = list(STYLES)
GROUPS = [tuple(TOGETHER[n : n + 8]) for n in range(0, len(TOGETHER), 8)]


@lru_cache(maxsize=2)
def compared(names: tuple[str, ...], dtype: torch.dtype) -> Compared:
    model = seeded(Several, names).to(dtype)
    tolerance = {torch.float32: 1e-5, torch.float64: 1e-12}[dtype]
    return Compared(model, image(2, *SIZE, seed=5).to(dtype), tolerance)


def layers_of(style: str, dtype: torch.dtype) -> Iterator[tuple[Compared, rot180.Layer]]:
    group = next((group for group in GROUPS if style in group), (style,))
    both, prefix = compared(group, dtype), f"{group.index(style)}."
    found = [one for name, one in both.net.layers.items() if name.startswith(prefix)]
    assert found
    yield from ((both, one) for one in found)


@pytest.mark.parametrize("style", STYLES)
def test_a_unit_from_its_receptive_field_is_that_of_whole_maps(style: str) -> None:
    for both, layer in layers_of(style, torch.float64):
        for method in WAYS_BACK:
            for unpool in both.unpoolings(layer):
                both.check(layer, method, unpool)


@pytest.mark.parametrize("style", GROUPS[6])
def test_in_single_precision_too(style: str) -> None:
    for both, layer in layers_of(style, torch.float32):
        for method in WAYS_BACK:
            both.check(layer, method, "switches")


@st.composite
def stacks(draw) -> tuple[list[str], tuple[int, int, int], int]:
    """Draw blocks, a shape of images that is not too small for them, and a seed."""
    names = draw(st.lists(st.sampled_from(sorted(BLOCKS)), min_size=1, max_size=3))
    shape = (3, draw(st.integers(7, 16)), draw(st.integers(7, 16)))
    try:
        Stack(names, shape)
    except (RuntimeError, ValueError):
        reject()
    return names, shape, draw(st.integers(0, 99))


@settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))
@given(drawn=stacks())
def test_of_blocks_in_any_order(drawn) -> None:
    names, shape, seed = drawn
    both = Compared(seeded(Stack, names, shape, seed=seed), image(2, *shape, seed=seed), 1e-12)
    for layer in both.net.layers.values():
        for method in WAYS_BACK:
            for unpool in both.unpoolings(layer):
                both.check(layer, method, unpool)
