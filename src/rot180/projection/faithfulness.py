"""How faithful the pictures of a layer are: whether its units need the pixels that they mark.

A projection claims to mark the pixels that made a unit fire. That is tested on strong units of some
images, by the unit's own value before its rectifier:

- *deletion*: the marked fifth of the unit's receptive field is blurred; the share of the value that
  is **left** should be small;
- *insertion*: all but the marked fifth is blurred; the share that is **kept** should be large.

Marked are the pixels with the most energy, which is the sum of the signal's squares over the
colours, smoothed. Two rows beside the methods say what the numbers mean: ``chance`` marks smoothed
noise, and ``map`` is no projection but the layer's own feature map, enlarged to the image.

Both tests follow Petsiuk et al., RISE, BMVC 2018, at one fraction of the pixels. A blurred image
replaces the marked pixels there, too, since a grey patch would bring edges of its own.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil, isfinite
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from rot180.errors import Rot180Error
from rot180.graph.forward_pass import ForwardPass, feature_maps
from rot180.graph.network import Layer, Network
from rot180.graph.streaming import StreamingForward
from rot180.projection.batch import UnitRequest, crop_box, crop_from, strengths_of_crops
from rot180.projection.compound import project_from_activations, project_from_crops
from rot180.projection.effective import effective_box
from rot180.projection.rules import CANDIDATES, METHODS, Rules

MARKED = 0.2
"""The share of a receptive field that is marked."""

_SMOOTHED, _BLURRED = 1 / 56, 1 / 22
"""Deviations over the longer side: of the smoothing of energies, by the receptive field's, and of
the blur that replaces pixels, by the image's. At 224 pixels these are 4 and 10 pixels."""

_CLEAR = 0.05
"""Scores that differ by less are called equal: medians over a few units are no more exact."""

_VARIES = 1e-3
"""A feature whose peaks deviate by a smaller share of the layer's largest is a constant."""


class Score(NamedTuple):
    """What became of a unit's value, as shares of it; medians over units.

    Attributes:
        left: after the marked pixels were blurred; small is good.
        kept: when all other pixels were blurred; large is good.
    """

    left: float
    kept: float

    @property
    def value(self) -> float:
        """Kept less left, each between 0 and 1: 1 is the best."""
        return min(max(self.kept, 0.0), 1.0) - min(max(self.left, 0.0), 1.0)


@dataclass(frozen=True)
class Faithfulness:
    """How faithful the pictures of a layer are.

    Attributes:
        layer: name of the layer.
        units: how many units were tested.
        scores: by method.
        map: of the enlarged feature map.
        chance: of smoothed noise.
        method: the best method for this layer; see :func:`best_method`.
        effective: the typical side of its effective receptive fields, in pixels.
    """

    layer: str
    units: int
    scores: Mapping[str, Score]
    map: Score
    chance: Score
    method: str
    effective: float

    @property
    def score(self) -> Score:
        """The score of the best method."""
        return self.scores[self.method]

    def as_numbers(self) -> dict[str, Any]:
        """Return it as what JSON holds."""
        scores = {**self.scores, "map": self.map, "chance": self.chance}
        return {
            "measured_at": self.layer,
            "units": self.units,
            "method": self.method,
            "effective": self.effective,
            "scores": {name: list(one) for name, one in scores.items()},
        }

    @classmethod
    def from_numbers(cls, given: Any) -> "Faithfulness":
        """Return what :meth:`as_numbers` described.

        Raises:
            Rot180Error: it describes nothing of the kind.
        """
        try:
            scores = {
                str(name): Score(float(left), float(kept))
                for name, (left, kept) in given["scores"].items()
            }
            map_, chance = scores.pop("map"), scores.pop("chance")
            layer, method = str(given["measured_at"]), str(given["method"])
            found = cls(
                layer, int(given["units"]), scores, map_, chance, method, float(given["effective"])
            )
        except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
            raise Rot180Error(f"This is no measurement of methods ({error!r}).") from error
        numbers = [x for one in (*scores.values(), map_, chance) for x in one]
        if (
            not all(map(isfinite, (*numbers, found.effective)))
            or found.effective < 0
            or found.units < 1
            or method not in scores
            or not set(scores) <= set(METHODS)
        ):
            raise Rot180Error("This is no measurement of methods: it holds impossible numbers.")
        return found

    @property
    def beats_chance(self) -> bool:
        """Whether the best method marks better than noise does."""
        return self.scores[self.method].value > self.chance.value + _CLEAR

    @property
    def beats_map(self) -> bool:
        """Whether the best method marks at least as well as the layer's own map."""
        return self.scores[self.method].value >= self.map.value - _CLEAR


def best_method(scores: Mapping[str, Score], by_image: Callable[[str], bool]) -> str:
    """Return the candidate with the best score; of nearly equal ones the first of ``CANDIDATES``.

    Args:
        scores: by method, of one candidate at least.
        by_image: whether a method's backward pass depends on the image. One that does not, as the
            deconvnet without max pooling, is taken only where it is clearly better.
    """
    candidates = [name for name in CANDIDATES if name in scores]
    best = max(scores[name].value for name in candidates)
    good = [name for name in candidates if scores[name].value >= best - _CLEAR]
    return next((name for name in good if by_image(name)), good[0])


def faithfulness(
    network: Network,
    layer: Layer,
    images: Float[Tensor, "n c h w"],
    units: Sequence[UnitRequest],
    methods: Sequence[str] = CANDIDATES,
) -> Faithfulness | None:
    """Test the methods on units of a layer; None where there is no unit.

    Args:
        network, layer: whose pictures these are.
        images: normalised.
        units: strong units of the layer, as :func:`strong_units` finds them.
        methods: to be tested, a candidate among them.
    """
    if not units:
        return None
    units = [one for one in units if _sees(network, one)]
    tested = [Trial(network, images, one, number) for number, one in enumerate(units)]
    found: dict[str, list[tuple[float, float]]] = {}
    sides: dict[str, list[int]] = {}

    passed = None
    if len(methods) * _work(network, units) > len(images) * network.macs(layer):
        passed = ForwardPass(network, images, None, frozenset({layer.output_step}))

    def test(name: str) -> None:
        try:
            if passed is None:
                signals = project_from_crops(network, units, crop_from(images), Rules(name))
            else:
                signals = project_from_activations(network, passed, units, Rules(name))
        except Rot180Error:  # the method refuses a step of this network
            return
        for unit, signal in zip(tested, signals, strict=True):
            pair = unit.test(signal.pixels.float().square().sum(0))
            side = effective_box(signal.pixels, signal.box)
            if pair is not None:
                found.setdefault(name, []).append(pair)
                sides.setdefault(name, []).append(max(side.height, side.width))

    for name in methods:
        test(name)
    scores = _medians(found)
    if not scores:
        return None
    others = {
        "map": [unit.test(unit.enlarged_map()) for unit in tested],
        "chance": [unit.test(unit.noise()) for unit in tested],
    }
    beside = _medians({name: [p for p in pairs if p] for name, pairs in others.items()})
    chance, map_ = beside["chance"], beside["map"]
    chosen = best_method(scores, lambda name: name != "deconvnet" or switched(network, layer))
    effective = float(np.median(sides[chosen]))
    return Faithfulness(layer.name, len(units), scores, map_, chance, chosen, effective)


def effective_side(
    network: Network, images: Float[Tensor, "n c h w"], units: Sequence[UnitRequest], method: str
) -> float | None:
    """Return the typical side of units' effective receptive fields, in pixels; None without any."""
    units = [one for one in units if _sees(network, one)]
    if not units:
        return None

    try:
        signals = project_from_crops(network, units, crop_from(images), Rules(method))
    except Rot180Error:  # the method refuses a step below this layer
        return None
    boxes = [effective_box(one.pixels, one.box) for one in signals]
    return float(np.median([max(one.height, one.width) for one in boxes]))


def _work(network: Network, units: Sequence[UnitRequest]) -> int:
    """Return how many products the forward passes of units' receptive fields sum."""
    aims = [network.unit_plan(one.layer, one.position, "gradient") for one in units]
    return sum(one.plan.macs for one in aims)


def _medians(pairs: Mapping[str, Sequence[tuple[float, float]]]) -> dict[str, Score]:
    return {name: Score(*np.median(some, axis=0).tolist()) for name, some in pairs.items()}


def _sees(network: Network, unit: UnitRequest) -> bool:
    """Say whether a unit sees anything of the image."""
    box = network.unit_plan(unit.layer, unit.position, "deconvnet").box
    return box.height > 0 and box.width > 0


def switched(network: Network, layer: Layer) -> bool:
    """Say whether a layer's deconvnet pictures depend on the image as much as the gradient's do.

    They do by switches and derivatives in the backward pass; and in a first layer, where the signal
    meets neither, both methods give the same.
    """
    looks = {
        method: any(work.needs_saved for work in network.unit_plan(layer, None, method).plan.steps)
        for method in ("deconvnet", "gradient")
    }
    return looks["deconvnet"] or not looks["gradient"]


def strong_units(
    network: Network, layers: Sequence[Layer], images: Float[Tensor, "n c h w"], most: int
) -> dict[str, list[UnitRequest]]:
    """Choose units of each layer that are strong on an image, each of another feature.

    On every image that feature is taken which exceeds its mean over the images most, in its own
    deviations; of the feature its strongest position.

    Args:
        network, layers: whose units.
        images: normalised; a few, from which the features' means are taken.
        most: units of each layer.
    """
    peaks: dict[int, list[Tensor]] = {}
    places: dict[int, list[Tensor]] = {}

    def before(number: int, first: int, values: Tensor) -> None:
        found = values.flatten(2).max(2)
        peaks.setdefault(number, []).append(found.values.float().cpu())
        places.setdefault(number, []).append(found.indices.cpu())

    def seen(number: int, first: int, maps: Tensor) -> None:
        if not layers[number].saturates:
            before(number, first, maps)

    StreamingForward(network, layers, len(images)).run(images, seen, before)
    chosen = {}
    for number, layer in enumerate(layers):
        peak, place = torch.cat(peaks[number]), torch.cat(places[number])
        spread = peak.std(0, correction=0) if len(peak) > 1 else peak.abs().amax(0)
        constant = spread <= _VARIES * peak.abs().max()
        excess = (peak - peak.mean(0) * (len(peak) > 1)) / spread.clamp(min=1e-30)
        excess[(peak <= 0) | constant] = -torch.inf
        requests = []
        for turn in range(most):
            image = turn % len(peak)
            channel = int(excess[image].argmax())
            if excess[image, channel] == -torch.inf:
                continue
            excess[:, channel] = -torch.inf
            position = divmod(int(place[image, channel]), layer.width)
            requests.append(UnitRequest(image, layer, channel, position))
        chosen[layer.name] = requests
    return chosen


class Trial:
    """A unit under test: what is left and kept of its value for any marking of its pixels."""

    def __init__(
        self, network: Network, images: Float[Tensor, "n c h w"], request: UnitRequest, number: int
    ) -> None:
        assert request.position is not None
        self._network, self._request = network, request
        self._aim = network.unit_plan(request.layer, request.position, "deconvnet")
        image = images[request.image : request.image + 1]
        box = self._aim.box
        self._patch = crop_box(image, box)
        self._blurred = crop_box(blurred(image, _BLURRED * max(image.shape[-2:])), box)
        self._image, self._box, self._number = image, box, number
        (self._whole,) = self._values(self._patch)

    def test(self, energy: Float[Tensor, "h w"]) -> tuple[float, float] | None:
        """Return (left, kept) for the pixels with the most energy, on the receptive field.

        None where the unit's value is not positive, as it may be below a softplus.
        """
        if not self._whole > 0:
            return None
        box, area = self._box, self._box.height * self._box.width
        energy = blurred(energy[None, None], _SMOOTHED * max(box.height, box.width))
        marked = torch.zeros(area, dtype=torch.bool, device=energy.device)
        marked[energy.flatten().topk(ceil(MARKED * area)).indices] = True
        marked = marked.reshape(box.height, box.width)
        pieces = [
            torch.where(marked, self._blurred, self._patch),
            torch.where(marked, self._patch, self._blurred),
        ]
        left, kept = self._values(torch.cat(pieces))
        return left / self._whole, kept / self._whole

    def _values(self, patches: Tensor) -> list[float]:
        return strengths_of_crops(self._network, self._aim, patches, self._request.channel)

    def noise(self) -> Float[Tensor, "h w"]:
        """Return noise on the receptive field, another for each unit."""
        generator = torch.Generator().manual_seed(self._number)
        found = torch.rand(self._box.height, self._box.width, generator=generator)
        return found.to(self._patch.device)

    def enlarged_map(self) -> Float[Tensor, "h w"]:
        """Return the unit's feature map at the size of the image, on its receptive field."""
        maps = feature_maps(self._network, self._image, self._request.layer.name)
        one = maps[:, self._request.channel : self._request.channel + 1].float().clamp(min=0)
        size = self._network.input_shape[1:]
        large = F.interpolate(one, size=size, mode="bilinear", align_corners=False)
        return crop_box(large, self._box)[0, 0]


def blurred(images: Float[Tensor, "n c h w"], deviation: float) -> Float[Tensor, "n c h w"]:
    """Blur images by a Gaussian of a deviation in pixels; beyond the border they are repeated."""
    found = images
    for axis in (-2, -1):
        reach = max(1, ceil(3 * deviation))
        offsets = torch.arange(-reach, reach + 1, dtype=images.dtype, device=images.device)
        weights = torch.exp(-0.5 * (offsets / max(deviation, 1e-3)) ** 2)
        shape = [1, 1, 1, 1]
        shape[axis] = -1
        kernel = (weights / weights.sum()).reshape(shape)
        pad = (0, 0, reach, reach) if axis == -2 else (reach, reach, 0, 0)
        flat = F.pad(found.reshape(-1, 1, *found.shape[-2:]), pad, mode="replicate")
        found = F.conv2d(flat, kernel).reshape(images.shape)
    return found
