"""A forward pass that keeps nothing: whole images through the network, as fast as it goes.

Two things make it faster than the same steps one after the other. A rectifier that follows a
convolution is part of the same call, where the library that multiplies knows it, so that a map is
written once. (Such a call makes 0 of what is not a number, so that is looked for before it.) And as
long as maps are large, few images go on at a time, so that a map is still in the processor's cache
when the next step, and whoever looks at it, reads it; the deeper in the network, the smaller the
maps, and the more images go on together.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from rot180.errors import Rot180Error
from rot180.graph.network import Layer, Network
from rot180.graph.operators.activations import Pointwise, Rectifier
from rot180.graph.operators.convolution import Convolution, padded
from rot180.graph.operators.fallback import Derived, Unlisted
from rot180.graph.operators.normalisation import OwnNorm
from rot180.graph.operators.pooling import MaxPool
from rot180.graph.plan import Plan, Work, laid_out_for_speed
from rot180.graph.steps import not_finite

Seen = Callable[[int, int, Tensor], None]
"""Called with the number of a layer among those asked for, the place of the first image in the
batch, and the layer's maps (n, c, h, w), which are overwritten afterwards."""

_AT_ONCE = 2**22
"""Values in one map of all images that go on together: 16 MB, what a processor's cache holds."""

_IN_ONE_CALL: dict[str, tuple[str, list[float]]] = {
    "ReLU": ("relu", []),
    "ReLU6": ("hardtanh", [0.0, 6.0]),
}
"""Rectifier -> what oneDNN calls it when it follows a convolution, with its bounds."""


_MAY_FAIL = (Pointwise, Derived, OwnNorm, Unlisted)
"""Operators that can make of finite values what is not a number."""


class _Do(NamedTuple):
    """One step, or a convolution with the rectifier after it: what is done for some images.

    ``layers`` are those whose maps it gives, ``before`` those whose values before a rectifier that
    has an upper limit.
    """

    work: Work
    place: int
    layers: tuple[int, ...]
    before: tuple[int, ...] = ()
    rectifier: str = ""


class _Segment(NamedTuple):
    """Consecutive steps that as many images go through together.

    ``carries`` are the places whose values later segments need.
    """

    images: int
    steps: tuple[_Do, ...]
    carries: tuple[int, ...]


class Running:
    """The steps up to some layers of a network, laid out for batches of images.

    Args:
        network: the network.
        layers: the layers whose maps are to be seen.
        batch: the most images in a batch.
    """

    def __init__(self, network: Network, layers: Sequence[Layer], batch: int) -> None:
        if not layers:
            raise Rot180Error("No layer is chosen.")
        self.network, self.layers, self.batch = network, tuple(layers), batch
        plan = network.forward_only(*(one.step for one in layers))
        self._plan = plan
        self._on_processor = network.device.type == "cpu"
        self._check_weights(plan)
        steps = self._fused(plan)
        self._segments = self._cut(steps)
        self._frees = self._freed(steps)

    def _check_weights(self, plan: Plan) -> None:
        """Refuse weights that are not finite, which a rectifier in the same call would hide."""
        for work in plan.works:
            if isinstance(work.operator, Convolution):
                kernels = work.operator.kernels
                for one in (kernels.weight, kernels.bias):
                    if one is not None and not torch.isfinite(one).all():
                        where = self.network.steps[work.place].path or "the model"
                        raise Rot180Error(
                            f"The weights of {where} hold values that are infinite or not numbers "
                            "(NaN)."
                        )

    def _fused(self, plan: Plan) -> list[_Do]:
        """Put rectifiers into the convolutions that they follow."""
        wanted: dict[int, list[int]] = {}
        before: dict[int, list[int]] = {}
        for number, layer in enumerate(self.layers):
            wanted.setdefault(layer.step, []).append(number)
            if layer.saturates:
                before.setdefault(layer.ranking, []).append(number)
        uses: dict[int, list[Work]] = {}
        for work in plan.works:
            for source in work.sources:
                uses.setdefault(source, []).append(work)
        found: list[_Do] = []
        done: set[int] = set()
        for work in plan.works:
            if work.place in done:
                continue
            after = uses.get(work.place, [])
            only = after[0].operator if len(after) == 1 else None
            place, rectifier = work.place, ""
            if (
                isinstance(work.operator, Convolution)
                and work.operator.kernels.can_rectify
                and isinstance(only, Rectifier)
                and only.name in _IN_ONE_CALL
                and work.place not in wanted
                and work.place not in before
                and not work.empty
            ):
                place, rectifier = after[0].place, only.name
                done.add(place)
            layers, early = tuple(wanted.get(place, ())), tuple(before.get(place, ()))
            found.append(_Do(work, place, layers, early, rectifier))
        return found

    def _cut(self, steps: list[_Do]) -> list[_Segment]:
        """Choose how many images go through each step together: never fewer than before it."""
        images = self.batch
        chosen = []
        for do in reversed(steps):
            if self._on_processor:
                values = max(map(self._values, {do.place, *do.work.sources}))
                images = min(images, 2 ** max(0, (_AT_ONCE // max(values, 1)).bit_length() - 1))
            chosen.append(images)
        chosen.reverse()
        segments: list[_Segment] = []
        first = 0
        while first < len(steps):
            last = first
            while last < len(steps) and chosen[last] == chosen[first]:
                last += 1
            made = {do.place for do in steps[:last]} | {-1}
            needed = {source for do in steps[last:] for source in do.work.sources}
            segments.append(
                _Segment(chosen[first], tuple(steps[first:last]), tuple(sorted(made & needed)))
            )
            first = last
        return segments

    def _values(self, place: int) -> int:
        shape = self.network.input_shape if place < 0 else self.network.steps[place].shape
        count = 1
        for size in shape:
            count *= size
        return count

    def _freed(self, steps: list[_Do]) -> dict[int, tuple[int, ...]]:
        """Return for each step the values that nothing needs after it."""
        last: dict[int, int] = {}
        for do in steps:
            last[do.place] = do.place
            for source in do.work.sources:
                last[source] = do.place
        found: dict[int, list[int]] = {}
        for place, at in last.items():
            found.setdefault(at, []).append(place)
        return {at: tuple(places) for at, places in found.items()}

    @torch.no_grad()
    def run(self, images: Float[Tensor, "n c h w"], seen: Seen, before: Seen | None = None) -> None:
        """Send a batch of normalised images through, and show the maps of each layer.

        Args:
            images: on the network's device, in its precision; no more than ``batch``.
            seen: called with each layer's maps, in the order of the steps, for some of the images
                at a time.
            before: called likewise, and earlier, with the values before the rectifier of layers
                whose rectifier has an upper limit.
        """
        self._through(len(self._segments) - 1, laid_out_for_speed(images), 0, seen, before)

    def _through(
        self, number: int, images: Tensor, first: int, seen: Seen, before: Seen | None
    ) -> dict[int, Any]:
        """Run the segments up to one for images that begin at a place in the batch."""
        if number < 0:
            return {-1: images}
        segment = self._segments[number]
        parts = []
        for start in range(0, len(images), segment.images):
            some = images[start : start + segment.images]
            values = self._through(number - 1, some, first + start, seen, before)
            for do in segment.steps:
                values[do.place] = self._done(do, values)
                for layer in do.before:
                    if before is None:
                        break
                    maps = self.layers[layer].as_maps(values[do.place])
                    before(layer, first + start, maps)
                for layer in do.layers:
                    seen(layer, first + start, self.layers[layer].as_maps(values[do.place]))
                for place in self._frees.get(do.place, ()):
                    values.pop(place, None)
            parts.append({place: values[place] for place in segment.carries})
        if len(parts) == 1:
            return parts[0]
        return {place: _joined([part[place] for part in parts]) for place in segment.carries}

    def _done(self, do: _Do, values: dict[int, Any]) -> Any:
        work = do.work
        if work.empty:
            return values[work.sources[0]].new_zeros(
                len(values[work.sources[0]]), *self._plan.shape(work.place)
            )
        inputs, operator = self._plan.inputs(work, values), work.operator
        if do.rectifier:
            assert isinstance(operator, Convolution)
            a, padding = padded(inputs[0], work.part, operator.window)
            return operator.kernels.rectified(a, padding, *_IN_ONE_CALL[do.rectifier])
        if isinstance(operator, MaxPool):
            return operator.pooled(inputs, work.part)
        found = operator.forward(inputs, work.part)[0]
        watched = isinstance(operator, _MAY_FAIL) and isinstance(found, Tensor)
        if watched and not (torch.isfinite(found.sum()) or torch.isfinite(found).all()):
            raise Rot180Error(not_finite(self.network.steps[do.place]))
        return found


def _joined(parts: list[Any]) -> Any:
    """Put the values of several groups of images together; some operators give several."""
    if isinstance(parts[0], Tensor):
        return torch.cat(parts)
    return type(parts[0])(_joined(list(several)) for several in zip(*parts, strict=True))
