"""A forward pass of whole images, of which is kept what the way back looks at."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from rot180.errors import Rot180Error
from rot180.graph.box import Span
from rot180.graph.network import Layer, Network
from rot180.graph.operators.operator import Kept
from rot180.graph.plan import Plan, Work, cut_of, laid_out_for_speed
from rot180.graph.steps import not_finite


class ForwardPass:
    """What a network made of images, as far as it was asked so far; from :func:`rot180.open_image`.

    It goes on from where it stopped when a later layer is asked for. What it holds is what some
    method looks at on the way back (activations, switches), and the maps of all layers.

    Args:
        network: the network.
        images: normalised images (n, c, h, w) on its device; they are not changed.
        method: keep only what this method looks at; None: what any does.
        held: places whose values to keep besides; None: the maps of all layers.
    """

    def __init__(
        self,
        network: Network,
        images: Float[Tensor, "n c h w"],
        method: str | None = None,
        held: frozenset[int] | None = None,
    ) -> None:
        self.network = network
        self._plan = network.whole(method, held)
        self._works = {work.place: work for work in self._plan.works}
        self._left = Counter(one for work in self._plan.works for one in set(work.sources))
        self._values: dict[int, Any] = {-1: laid_out_for_speed(images)}
        self._switches: dict[int, Tensor] = {}
        self._switch_rows: dict[int, Tensor] = {}
        self._done: set[int] = set()
        self._finite: set[int] = set()

    @property
    def images(self) -> Float[Tensor, "n c h w"]:
        """The images."""
        found: Tensor = self._values[-1]
        return found

    def __len__(self) -> int:
        return len(self.images)

    @property
    def nbytes(self) -> int:
        """The memory that it holds so far, in bytes."""
        held = (*self._values.values(), *self._switches.values(), *self._switch_rows.values())
        kept = {one.data_ptr(): one.nbytes for one in held if isinstance(one, Tensor)}
        return sum(kept.values())

    @torch.no_grad()
    def value(self, place: int) -> Any:
        """Return the output of a step for the images, running what is missing."""
        if place >= 0 and place not in self._done:
            for one in self.network.needed(place):
                if one not in self._done:
                    self._run(self._works[one])
        return self._values[place]

    def _run(self, work: Work) -> None:
        self._plan.do(work, self._values, self._switches)
        self._done.add(work.place)
        for source in set(work.sources):
            self._left[source] -= 1
            if not self._left[source] and source >= 0 and source not in self._plan.kept:
                self._values.pop(source, None)

    def maps(self, layer: Layer) -> Float[Tensor, "n c h w"]:
        """Return the feature maps of a layer.

        Raises:
            Rot180Error: they are not finite, with the first step where that is so.
        """
        maps = layer.as_maps(self.value(layer.step))
        if layer.step not in self._finite:
            if not torch.isfinite(maps).all():
                raise Rot180Error(explain_not_finite(self.network, self.images, layer.step))
            self._finite.add(layer.step)
        return maps

    def strengths(self, layer: Layer) -> Float[Tensor, "n c h w"]:
        """Return the values by which units of a layer are ranked: see :attr:`Layer.ranking`.

        Raises:
            Rot180Error: as for :meth:`maps`.
        """
        maps = self.maps(layer)
        return layer.as_maps(self.value(layer.ranking)) if layer.saturates else maps

    def peak(self, layer: Layer, image: int, channel: int) -> tuple[int, int]:
        """Return where a feature is strongest on an image: the first of equal ones, row by row."""
        return divmod(int(self.strengths(layer)[image, channel].argmax()), layer.width)

    def kept(
        self,
        plan: Plan,
        work: Work,
        method: str,
        images: Sequence[int],
        starts: Sequence[tuple[dict[int, int], dict[int, int]]],
    ) -> Kept:
        """Return what the way back through a step of a plan looks at, for units of these images.

        Args:
            plan: of the units.
            work: its step.
            method: of the way back.
            images: the image of each unit.
            starts: for each unit where its spans begin, rows and columns.
        """
        looks = work.operator.looks_at(method)
        inputs: list[Any] = []
        if looks.inputs:
            for source, cut in zip(work.sources, work.cuts, strict=True):
                value = self._taken(plan, self.value(source), source, images, starts)
                inputs.append(value if cut is None else value[cut])
        output = None
        if looks.output:
            output = self._taken(plan, self.value(work.place), work.place, images, starts)
        switches = None
        if work.place in self._switches:
            switches = self._local_switches(plan, work, images, starts)
        return Kept(tuple(inputs), output, switches)

    def _taken(
        self,
        plan: Plan,
        value: Tensor,
        place: int,
        images: Sequence[int],
        starts: Sequence[tuple[dict[int, int], dict[int, int]]],
    ) -> Tensor:
        """Cut the boxes of units out of a value; one box, if all are the same."""
        if not isinstance(value, Tensor):  # of an operator that gives several
            return value
        axes, (height, width) = plan.axes(place), plan.size(place)

        def box(unit: int) -> Tensor:
            image = value[images[unit] : images[unit] + 1]
            if axes is None or (image.shape[axes[0]], image.shape[axes[1]]) == (height, width):
                return image
            top, left = starts[unit][0][place], starts[unit][1][place]
            cut = cut_of(axes, Span(top, top + height), Span(left, left + width))
            found: Tensor = image[cut]
            return found

        first = (images[0], starts[0])
        if all((image, start) == first for image, start in zip(images, starts, strict=True)):
            return box(0)
        if list(images) == list(range(len(value))) and all(one == starts[0] for one in starts):
            whole = axes is None or (value.shape[axes[0]], value.shape[axes[1]]) == (height, width)
            if whole:
                return value
        return torch.cat([box(unit) for unit in range(len(images))])

    def _local_switches(
        self,
        plan: Plan,
        work: Work,
        images: Sequence[int],
        starts: Sequence[tuple[dict[int, int], dict[int, int]]],
    ) -> Tensor:
        """Count switches from the corner of what the step of the plan needs."""
        whole = self._works[work.place].part.needs[0]
        need, (source,) = work.part.needs[0], work.sources
        flat = self._switches[work.place]
        if (whole.height, whole.width) == (need.height, need.width):
            return self._taken(plan, flat, work.place, images, starts)
        if work.place not in self._switch_rows:
            self._switch_rows[work.place] = flat // whole.width
        place = work.place
        flat = self._taken(plan, flat, place, images, starts)
        y = self._taken(plan, self._switch_rows[place], place, images, starts)
        corners = []
        for rows, columns in starts[: len(flat)]:
            top, left = rows[source], columns[source]
            if work.cuts[0] is not None:
                top, left = top + work.cuts[0][-2].start, left + work.cuts[0][-1].start
            corners.append(top * need.width + left)
        # flat = y W + x becomes (y - top) w + (x - left)
        back: Any = corners[0]
        if len(set(corners)) > 1:
            back = torch.tensor(corners, device=flat.device)
            back = back.reshape(-1, *[1] * (flat.ndim - 1))
        found: Tensor = flat - y * (whole.width - need.width) - back
        return found


def open_image(network: Network, image: Tensor) -> ForwardPass:
    """Return the forward pass of one image, for many projections from it.

    It may stand wherever :func:`rot180.project` takes an image; a projection then costs its
    backward pass only. The forward pass goes as far as the layers that are asked for.

    Args:
        network: from :func:`rot180.capture`.
        image: a normalised image (c, h, w).

    Raises:
        Rot180Error: it is not one image of the captured size.
    """
    batch = network.batch(image)
    if len(batch) != 1:
        raise Rot180Error(f"One image is opened at a time; these are {len(batch)}.")
    return ForwardPass(network, batch.clone())


def feature_maps(
    network: Network, images: Tensor, layer: str, before_rectifier: bool = False
) -> Float[Tensor, "n c h w"]:
    """Return the feature maps of a layer, after its normalisation and its rectifier.

    Args:
        network: from :func:`rot180.capture`.
        images: a normalised image (c, h, w), or a batch (n, c, h, w).
        layer: name of the layer.
        before_rectifier: return the values that go into the layer's rectifier, if it has one.

    Raises:
        Rot180Error: the layer does not exist, or the images are not of the captured size.
    """
    found = network.layer(layer)
    held = frozenset({found.step, found.linear})
    forward = ForwardPass(network, network.batch(images), "deconvnet", held)
    maps = forward.maps(found)
    return found.as_maps(forward.value(found.linear)) if before_rectifier else maps


@torch.no_grad()
def model_outputs(network: Network, images: Tensor) -> list[Tensor]:
    """Return the model's outputs for normalised images (n, c, h, w), computed step by step.

    Raises:
        Rot180Error: the images are not of the captured size.
    """
    forward = ForwardPass(network, network.batch(images), "deconvnet", frozenset(network.outputs))
    return [forward.value(index) for index in network.outputs]


def explain_not_finite(network: Network, images: Tensor, last: int) -> str:
    """Return a sentence that names the first step, up to the last, with values not finite."""
    forward = ForwardPass(network, images, "deconvnet", frozenset())
    for index in network.needed(last):
        output, step = forward.value(index), network.steps[index]
        if isinstance(output, Tensor) and not torch.isfinite(output).all():
            return not_finite(step)
    return "The network gives values that are infinite or not numbers (NaN)."
