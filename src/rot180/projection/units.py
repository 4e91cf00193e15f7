"""``rot180.project_units``: thousands of units of many images, in order, with bounded memory."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import Any

from torch import Tensor

from rot180.errors import Rot180Error, as_int
from rot180.graph.box import Box
from rot180.graph.forward_pass import ForwardPass
from rot180.graph.network import Layer, Network, check_finite
from rot180.projection.automatic import redraw_blank, resolve_rules
from rot180.projection.batch import UnitRequest, crop_box
from rot180.projection.compound import project_from_activations, project_from_crops
from rot180.projection.project import check_position
from rot180.projection.result import Projection
from rot180.projection.rules import Rules
from rot180.projection.rules import rules as named_rules

_PIXELS, _UNITS = 2**26, 4096
"""So many values, or units, are made at most before the first of them is handed out."""


def project_units(
    network: Any,
    images: Any,
    units: Any,
    method: Any = "auto",
    unpool: Any = "switches",
) -> Iterator[Projection]:
    """Carry many units back to the pixels that made them fire.

    Units whose receptive fields have the same shape and lie in the same way at the border go
    through the network as one batch, whatever image they come from. An image of which so many units
    are asked for that their receptive fields are more work than the whole image goes forward once
    instead. What is computed ahead is bounded, and an image is read again if units far apart in the
    list ask for it: so sort them by image where that is slow.

    Args:
        network: from :func:`rot180.capture`.
        images: a batch (n, c, h, w) of normalised images, or anything that gives such an image
            (c, h, w) for ``images[i]``.
        units: (image, layer, channel, position) each: the number of the image, the name of the
            layer, the number of the feature, and (y, x), or "peak" for its strongest unit.
        method, unpool: see :func:`rot180.project`.

    Yields:
        The projections, in the order of the units.

    Raises:
        Rot180Error: an image, a layer, a feature or a position does not exist, when it is come to.

    Example:
        >>> import rot180
        >>> trained = rot180.load("two-layer")
        >>> photos = rot180.open_dataset("photos", "test")
        >>> images = trained.prepare(photos.image(1))[None]
        >>> units = [(0, "conv1", 5, (4, 4)), (0, "conv2", 40, "peak")]
        >>> for p in rot180.project_units(trained.network(), images, units):
        ...     print(p.layer, p.position, tuple(p.box))
        conv1 (4, 4) (2, 2, 7, 7)
        conv2 (7, 4) (8, 2, 22, 16)
    """
    if not isinstance(network, Network):
        raise Rot180Error(
            "project_units takes a network that rot180.capture returned, not "
            f"{type(network).__name__}."
        )
    named_rules(method, unpool)  # says at once what is wrong
    if not hasattr(images, "__getitem__"):
        raise Rot180Error(
            "The images have to be a batch, or something that gives an image for images[i]; not "
            f"{type(images).__name__}."
        )
    if not isinstance(units, Iterable):
        raise Rot180Error(
            f"The units are a list of (image, layer, channel, position), not {units!r}."
        )
    if isinstance(images, Tensor) and images.ndim != 4:
        raise Rot180Error(
            f"project_units takes a batch of images (n, c, h, w); this has the shape "
            f"{tuple(images.shape)}."
        )
    return _made(_Work(network, images, method, unpool), iter(units))


def _made(work: "_Work", units: Iterator[Any]) -> Iterator[Projection]:
    """Make as many at a time as the memory allows."""
    portion: list[UnitRequest] = []
    pixels = 0
    for unit in units:
        try:
            request = work.request(unit)
        except Rot180Error:
            yield from work.made(portion)  # the good ones before it
            raise
        portion.append(request)
        pixels += work.pixels(request)
        if pixels >= _PIXELS or len(portion) == _UNITS:
            yield from work.made(portion)
            portion, pixels = [], 0
    yield from work.made(portion)


class _Work:
    """The images at hand, and what is asked of them."""

    def __init__(self, network: Network, images: Any, method: Any, unpool: Any) -> None:
        self.network, self.images, self._asked = network, images, (method, unpool)

    def rules(self, layer: Layer) -> Rules:
        """Return the rules at a layer."""
        return resolve_rules(self.network, layer, *self._asked)

    def request(self, unit: Any) -> UnitRequest:
        """Check one unit; a position "peak" is found later, and stands as None until then."""
        try:
            number, name, channel, position = unit
        except (TypeError, ValueError):
            raise Rot180Error(
                f"A unit is (image, layer, channel, position); this one is {unit!r}."
            ) from None
        image = as_int(number, "The number of an image")
        if image < 0 or (isinstance(self.images, Tensor | Sequence) and image >= len(self.images)):
            raise Rot180Error(f"There is no image {image}: there are {len(self.images)}.")
        layer = self.network.layer(name)
        place = check_position(layer, position)
        if place is None:
            raise Rot180Error("A unit has a position, (y, x) or 'peak'; this one has None.")
        at = None if isinstance(place, str) else place
        return UnitRequest(image, layer, self.network.check_channel(layer, channel), at)

    def pixels(self, request: UnitRequest) -> int:
        """Return how many values the projection has, at most."""
        channels, height, width = self.network.input_shape
        if request.position is None:
            return channels * height * width
        backward = self.rules(request.layer).backward
        box = self.network.unit_plan(request.layer, request.position, backward).box
        return channels * box.height * box.width

    def made(self, requests: Sequence[UnitRequest]) -> list[Projection]:
        """Make some; those of layers with the same rules together."""
        of: dict[Rules, list[int]] = {}
        for n, one in enumerate(requests):
            of.setdefault(self.rules(one.layer), []).append(n)
        found: dict[int, Projection] = {}
        for rules, these in of.items():
            some = self._made_by(rules, [requests[n] for n in these])
            found |= zip(these, some, strict=True)
        projections = [found[n] for n in range(len(requests))]
        redraw_blank(
            self.network,
            *self._asked,
            projections,
            lambda numbers, rules: self._made_by(rules, [requests[n] for n in numbers]),
        )
        return projections

    def _made_by(self, rules: Rules, requests: Sequence[UnitRequest]) -> list[Projection]:
        """Make some by the same rules, reading each image once."""
        found: dict[int, Projection] = {}
        patches: dict[tuple[int, Box], Tensor] = {}
        local: list[int] = []
        order = sorted(range(len(requests)), key=lambda n: requests[n].image)
        for image, group in groupby(order, key=lambda n: requests[n].image):
            these, batch = list(group), self.image(image)
            if self._worth_a_whole_pass([requests[n] for n in these], rules):
                found |= zip(these, self._opened(batch, requests, these, rules), strict=True)
                continue
            for n in these:
                aim = self.network.unit_plan(
                    requests[n].layer, requests[n].position, rules.backward
                )
                box = aim.box
                if (image, box) not in patches:  # a copy, so that the image need not be held
                    patches[image, box] = crop_box(batch, box).clone()
            local += these

        def cut(image: int, box: Box) -> Tensor:
            patch = patches.get((image, box))
            return crop_box(self.image(image), box) if patch is None else patch

        made = project_from_crops(self.network, [requests[n] for n in local], cut, rules)
        found |= zip(local, made, strict=True)
        return [found[n] for n in range(len(requests))]

    def image(self, number: int) -> Tensor:
        """Read an image as a batch of one."""
        try:
            image = self.images[number]
        except (IndexError, KeyError) as error:
            raise Rot180Error(f"There is no image {number}.") from error
        batch = self.network.batch(image, finite=False)
        if len(batch) != 1:
            raise Rot180Error(f"Image {number} is a batch of {len(batch)}, not one image.")
        return batch

    def _worth_a_whole_pass(self, requests: Sequence[UnitRequest], rules: Rules) -> bool:
        """Say whether one pass of the whole image is less work than the receptive fields."""
        if any(one.position is None for one in requests):
            return True
        whole = max(self.network.macs(one.layer) for one in requests)
        apart = {(one.layer.name, one.position): one for one in requests}
        return whole < sum(
            self.network.unit_plan(one.layer, one.position, rules.backward).plan.macs
            for one in apart.values()
        )

    def _opened(
        self, batch: Tensor, requests: Sequence[UnitRequest], these: Sequence[int], rules: Rules
    ) -> list[Projection]:
        """Carry units of one image back from its forward pass."""
        check_finite(batch)
        held = frozenset(requests[n].layer.output_step for n in these)
        passed = ForwardPass(self.network, batch, rules.backward, held)
        placed = []
        for n in these:
            one = requests[n]._replace(image=0)
            if one.position is None:
                one = one._replace(position=passed.peak(one.layer, 0, one.channel))
            placed.append(one)
        return project_from_activations(self.network, passed, placed, rules)
