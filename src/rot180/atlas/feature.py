"""The layers of an atlas and their features; each value is checked when it is read."""

from collections.abc import Sequence
from functools import cached_property
from itertools import pairwise
from sys import float_info
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from rot180.atlas import html
from rot180.atlas.statistics import BY_NAME
from rot180.atlas.tables import ReceptiveFields
from rot180.errors import as_int
from rot180.graph.box import Box

if TYPE_CHECKING:
    from rot180.atlas.atlas import Atlas
    from rot180.projection.faithfulness import Faithfulness


class Example(NamedTuple):
    """An image that excites a feature.

    Attributes:
        image: its number in the data set.
        activation: the feature's largest on it.
        strength: what ranks it among the examples: the value before a rectifier that has an upper
            limit, as ReLU6 has; else the activation.
        position: (y, x) of that in the map.
        box: the receptive field there, in pixels of the image.
        effective: the effective receptive field, a square inside ``box``; None where it was not
            measured.
    """

    image: int
    activation: float
    position: tuple[int, int]
    box: Box
    strength: float
    effective: Box | None = None


class HistogramBin(NamedTuple):
    """How many images have their peak in [low, high).

    Attributes:
        low, high: bounds of the activation; None: no bound.
        images: their number.
    """

    low: float | None
    high: float | None
    images: int


class ClassResponse(NamedTuple):
    """The mean peak of a feature on the images of one class.

    Attributes:
        number: of the class.
        name: of the class.
        mean_peak: mean of the feature's largest activations on these images.
    """

    number: int
    name: str
    mean_peak: float


class CorrelatedFeature(NamedTuple):
    """Another feature of the layer, and its correlation with this one.

    Attributes:
        channel: the other's number.
        correlation: Pearson's, of the activations at positions sampled on every image.
    """

    channel: int
    correlation: float


def is_number(value: Any) -> bool:
    """Say whether a value of a file is a number, and finite as a float."""
    return isinstance(value, int | float) and abs(value) <= float_info.max


def _is_inside(box: Box, other: Box) -> bool:
    """Say whether a box that is not empty lies inside another one."""
    rows = other.top <= box.top < box.bottom <= other.bottom
    return rows and other.left <= box.left < box.right <= other.right


_COLUMNS = ", ".join(BY_NAME)
"""The columns of the statistics, as a query names them."""


class Feature:
    """One feature of a layer, and what the scan found out about it.

    Attributes:
        layer: name of the layer.
        channel: its number.
        name: of the class whose score it is; "" for any other feature.
        title: what it is called, as "fc · tench (0)", or "conv1, feature 3".
        statistics: by name; see there. Each is an attribute, too: ``feature.max``,
            ``feature.class_selectivity``.
    """

    def __init__(self, atlas: "Atlas", layer: str, channel: int) -> None:
        self.layer, self.channel, self._atlas = layer, channel, atlas
        self.number = atlas.index.starts[atlas.layer_index(layer)] + channel

    @property
    def name(self) -> str:
        """The class whose score it is; "" for any other feature."""
        return self._atlas.name_of(self.layer, self.channel)

    @property
    def title(self) -> str:
        """What it is called."""
        return self._atlas.title(self.layer, self.channel)

    @cached_property
    def statistics(self) -> dict[str, Any]:
        """The statistics by name, as in the table ``feature``; None where one is not defined.

        Their formulas are in :mod:`rot180.atlas.statistics`.
        """
        found = self._atlas.rows(
            f"SELECT layer, channel, {_COLUMNS} FROM feature WHERE id = ?", self.number
        )
        whose = [row[:2] for row in found]
        self._atlas.check(whose == [(self.layer, self.channel)], "feature")
        statistics = dict(zip(BY_NAME, found[0][2:], strict=True))
        for name, value in statistics.items():
            allowed = BY_NAME[name].allows((value,), len(self._atlas.classes))
            self._atlas.check(allowed, f"feature.{name}")
        dead = statistics["dead"]
        statistics["dead"] = None if dead is None else bool(dead)
        return statistics

    def __getattr__(self, name: str) -> Any:
        if name in BY_NAME:
            return self.statistics[name]
        raise AttributeError(f"a feature has no '{name}'")

    def _repr_html_(self) -> str:
        return html.feature_html(self, self._atlas)

    def __repr__(self) -> str:
        largest = "none" if self.max is None else f"{self.max:.3g}"
        return f"<{self.title}: largest activation {largest}>"

    @cached_property
    def examples(self) -> tuple[Example, ...]:
        """The images that excite it most, best first."""
        layer = self._atlas.layers[self.layer]
        found = []
        for values in self._atlas.rows(
            'SELECT rank, image, y, x, top, "left", bottom, "right", activation, strength '
            "FROM example WHERE feature = ? ORDER BY rank",
            self.number,
        ):
            self._atlas.check(all(isinstance(one, int) for one in values[:8]), "example")
            self._atlas.check(all(map(is_number, values[8:])), "example.activation")
            rank, image, y, x, top, left, bottom, right, activation, strength = values
            inside = 0 <= y < layer.height and 0 <= x < layer.width
            self._atlas.check(inside, "example")
            box = Box(top, left, bottom, right)
            self._atlas.check(box == layer.fields.box((y, x)), "example")
            effective = self._effective_fields.get(rank)
            if effective is not None:
                self._atlas.check(_is_inside(effective, box), "effective_field")
            found.append(Example(image, activation, (y, x), box, strength, effective))
        return tuple(found)

    @cached_property
    def _effective_fields(self) -> dict[int, Box]:
        """The effective receptive fields that were measured, by the rank of the example."""
        found = {}
        for values in self._atlas.rows(
            'SELECT rank, top, "left", bottom, "right" FROM effective_field WHERE feature = ?',
            self.number,
        ):
            self._atlas.check(all(isinstance(one, int) for one in values), "effective_field")
            found[values[0]] = Box(*values[1:])
        return found

    @property
    def firing(self) -> tuple[Example, ...]:
        """The images that excite it most, of those on which it fires; best first."""
        return tuple(one for one in self.examples if one.activation > 0)

    @cached_property
    def histogram(self) -> tuple[HistogramBin, ...]:
        """How many images have which peak; bins without images are left out."""
        found = self._atlas.rows(
            "SELECT low, high, images FROM histogram WHERE feature = ? ORDER BY rank", self.number
        )
        for low, high, images in found:
            ends = all(one is None or is_number(one) for one in (low, high))
            self._atlas.check(ends and isinstance(images, int) and images >= 0, "histogram")
            self._atlas.check(low is None or high is None or low <= high, "histogram")
        # A bin begins where the one before it ends, or later.
        touching = [(one[1], two[0]) for one, two in pairwise(found)]
        ascending = all(None not in both and both[0] <= both[1] for both in touching)
        self._atlas.check(ascending, "histogram")
        return tuple(HistogramBin(*one) for one in found)

    @cached_property
    def class_responses(self) -> tuple[ClassResponse, ...]:
        """The classes on which it is strongest, best first."""
        classes = self._atlas.classes
        found = self._atlas.rows(
            "SELECT class, mean_peak FROM class_response WHERE feature = ? ORDER BY rank",
            self.number,
        )
        for number, value in found:
            known = isinstance(number, int) and 0 <= number < len(classes)
            self._atlas.check(known and is_number(value), "class_response")
        return tuple(ClassResponse(number, classes[number], value) for number, value in found)

    @cached_property
    def correlated_features(self) -> tuple[CorrelatedFeature, ...]:
        """The features of the layer that are most and least correlated with it, best first."""
        found = self._atlas.rows(
            "SELECT other, correlation FROM correlation WHERE feature = ? ORDER BY rank",
            self.number,
        )
        first = self.number - self.channel
        count = self._atlas.layers[self.layer].channels
        for other, value in found:
            known = isinstance(other, int) and 0 <= other - first < count
            self._atlas.check(known and is_number(value) and abs(value) <= 1, "correlation")
        return tuple(CorrelatedFeature(other - first, value) for other, value in found)


class AtlasLayer(Sequence[Feature]):
    """One layer of an atlas: its features, by their number.

    Attributes:
        name, kind, rectifier, channels, height, width: see :class:`rot180.Layer`.
        receptive_field: (height, width), in pixels, of a unit far from the border.
        stride: (vertical, horizontal), in pixels, between neighbouring units' receptive fields.
        samples: positions sampled on each image, for colours and correlations.
    """

    def __init__(self, atlas: "Atlas", row: Sequence[Any]) -> None:
        (
            self.name,
            _,
            self.kind,
            self.rectifier,
            self.channels,
            self.height,
            self.width,
            field_height,
            field_width,
            stride_y,
            stride_x,
            self.samples,
        ) = row
        self.receptive_field: tuple[int, int] = (field_height, field_width)
        self.stride: tuple[float, float] = (stride_y, stride_x)
        self._atlas = atlas
        counts = (self.channels, self.height, self.width, self.samples, field_height, field_width)
        whole = all(isinstance(one, int) and one >= 0 for one in counts)
        words = all(isinstance(one, str) for one in (self.name, self.kind, self.rectifier))
        atlas.check(whole and words and min(counts[:3]) > 0, "layer")
        atlas.check(all(map(is_number, self.stride)), "layer")

    def __len__(self) -> int:
        return int(self.channels)

    def __getitem__(self, channel: Any) -> Any:
        if isinstance(channel, slice):
            return [self[one] for one in range(*channel.indices(len(self)))]
        number = as_int(channel, "The number of a feature")
        if not -len(self) <= number < len(self):
            raise IndexError(
                f"layer '{self.name}' has {len(self)} features, 0 to {len(self) - 1}; not {number}"
            )
        return Feature(self._atlas, self.name, number % len(self))

    def _repr_html_(self) -> str:
        return html.layer_html(self)

    def __repr__(self) -> str:
        return (
            f"<layer {self.name}: {self.channels} features of {self.height}x{self.width}, "
            f"receptive field {self.receptive_field[0]}x{self.receptive_field[1]}>"
        )

    @cached_property
    def statistics(self) -> dict[str, list[Any]]:
        """The statistics of all features, a list for each name; ``dead`` is 0 or 1."""
        found = self._atlas.rows(
            f"SELECT {_COLUMNS} FROM feature WHERE layer = ? ORDER BY channel",
            self.name,
        )
        self._atlas.check(len(found) == len(self), "feature")
        columns = {
            name: list(values)
            for name, values in zip(BY_NAME, zip(*found, strict=True), strict=True)
        }
        classes = len(self._atlas.classes)
        for name, values in columns.items():
            self._atlas.check(BY_NAME[name].allows(values, classes), f"feature.{name}")
        return columns

    @property
    def faithfulness(self) -> "Faithfulness | None":
        """Which method's pictures are the most faithful here; None where that was not measured."""
        return self._atlas.faithfulness.get(self.name)

    @cached_property
    def has_effective_fields(self) -> bool:
        """Whether the effective receptive field of any example was measured."""
        first = self._atlas.index.starts[self._atlas.layer_index(self.name)]
        found = self._atlas.rows(
            "SELECT 1 FROM effective_field WHERE feature BETWEEN ? AND ? LIMIT 1",
            first,
            first + len(self) - 1,
        )
        return bool(found)

    @cached_property
    def fields(self) -> ReceptiveFields:
        """What each row and column of the maps sees of the image."""
        spans = []
        for axis, places in enumerate((self.height, self.width)):
            found = self._atlas.rows(
                "SELECT position, start, stop FROM receptive_field WHERE layer = ? AND axis = ? "
                "ORDER BY position",
                self.name,
                axis,
            )
            size = self._atlas.size[axis]
            self._atlas.check(len(found) == places, "receptive_field")
            self._atlas.check([one[0] for one in found] == list(range(places)), "receptive_field")
            for _, start, stop in found:
                whole = isinstance(start, int) and isinstance(stop, int)
                self._atlas.check(whole and 0 <= start <= stop <= size, "receptive_field")
            spans.append(np.array([one[1:] for one in found], np.int64).reshape(-1, 2))
        return ReceptiveFields(*spans)
