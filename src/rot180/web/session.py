"""The network of an atlas, at hand: images are opened, units and features carried back on demand.

One thread at a time computes here (:mod:`rot180.web.jobs` sees to it); PyTorch uses the cores.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from rot180.atlas.features import Feature
from rot180.atlas.images import Pixels
from rot180.atlas.reading import Atlas
from rot180.atlas.scanned import OtherNetwork, Scanned
from rot180.errors import Rot180Error
from rot180.figures.scanned import Carrying
from rot180.graph.forward_pass import ForwardPass, open_image
from rot180.graph.network import Network
from rot180.models.model import Model
from rot180.projection.project import project
from rot180.projection.result import Projection
from rot180.projection.rules import Rules
from rot180.web.cache import Cache
from rot180.web.errors import ModelUnavailable

log = logging.getLogger("rot180.web")

State = Literal["waiting", "loading", "ready", "absent"]
Loader = Callable[[Atlas], Model]
"""Loads what may be the model of an atlas."""


@dataclass
class OpenedImage:
    """An image whose forward pass is kept.

    Attributes:
        pixels: as the network takes them before normalisation.
        passed: the forward pass, as far as it was needed so far.
    """

    pixels: Pixels
    passed: ForwardPass


class LiveModel:
    """The network of an atlas, from the moment that it is loaded.

    Args:
        atlas: the atlas.
        loaders: each may load its model; the first that is the one that was scanned is taken.
        opened: the images that are open, of all atlases.
        pixels: gives an image of the atlas.
    """

    def __init__(
        self,
        atlas: Atlas,
        loaders: Sequence[Loader],
        opened: Cache[OpenedImage],
        pixels: Callable[[int], Pixels],
    ) -> None:
        self.atlas, self._loaders, self._opened, self._pixels = atlas, loaders, opened, pixels
        self.state: State = "waiting"
        self.reason = ""
        self.notices: tuple[str, ...] = ()
        self._scanned: Scanned | None = None
        self._loading = Lock()
        self._projectors: dict[tuple[str, Rules], Carrying] = {}

    def load(self) -> None:
        """Load the network, if that was not tried yet; ``state`` and ``reason`` say how it went."""
        with self._loading:
            if self.state in ("ready", "absent"):
                return
            self.state = "loading"
            reasons: list[str] = []
            others: list[str] = []
            for loader in self._loaders:
                try:
                    named = loader(self.atlas)
                    self._scanned = Scanned.of(self.atlas, named)
                except OtherNetwork as error:
                    others.append(str(error))
                except Rot180Error as error:
                    reasons.append(str(error))
                except Exception as error:
                    log.exception("Loading the network of %s", self.atlas.path)
                    reasons.append(f"The model cannot be loaded: {type(error).__name__}: {error}.")
                else:
                    self.notices = named.notices
                    self.state = "ready"
                    return
            if reasons and others:
                reasons.append("A model that was given is another network.")
            self.reason = " ".join(dict.fromkeys(reasons or others[:1])) or "No model was given."
            self.state = "absent"

    @property
    def scanned(self) -> Scanned:
        """The network.

        Raises:
            ModelUnavailable: it is not at hand.
        """
        self.load()
        if self._scanned is None:
            raise ModelUnavailable(self.reason)
        return self._scanned

    @property
    def network(self) -> Network:
        """The captured network; raises as ``scanned``."""
        return self.scanned.network

    def projector(self, layer: str, rules: Rules) -> Carrying:
        """Return how units of a layer are carried back."""
        key = (layer, rules)
        if key not in self._projectors:
            self._projectors[key] = Carrying(self.scanned, layer, rules)
        return self._projectors[key]

    def examples(self, feature: Feature, most: int, rules: Rules) -> list[Projection]:
        """Carry a feature's strongest units back, each on the image that it was found on."""
        examples = feature.firing[:most]
        pixels = {one.image: self._pixels(one.image) for one in examples}
        units = [(feature.channel, one) for one in examples]
        return list(self.projector(feature.layer, rules).back(units, pixels))

    def open(self, key: str, pixels: Callable[[], Pixels]) -> OpenedImage:
        """Return an image, opened; ``pixels`` gives it where it is not open any more."""
        network = self.network
        whole = (id(self), key)
        found = self._opened.get(whole)
        if found is None:
            shown = pixels()
            prepared = self.scanned.named.prepare(shown)
            found = OpenedImage(shown, open_image(network, prepared))
        return self._opened.put(whole, found)

    def update_size(self, key: str) -> None:
        """Measure an image again: its forward pass may have gone further."""
        self._opened.remeasure((id(self), key))

    def project(
        self,
        opened: OpenedImage,
        layer: str,
        channels: Sequence[int],
        position: tuple[int, int] | str | None,
        rules: Rules,
    ) -> list[Projection]:
        """Carry features of an open image back together, or a unit of each."""
        found = project(
            self.network,
            opened.passed,
            layer,
            list(channels),
            position,
            method=rules.method,
            unpool=rules.unpooling,
        )
        return [found] if isinstance(found, Projection) else list(found)

    def maps(self, opened: OpenedImage, layer: str) -> Float[Tensor, "c h w"]:
        """Return the feature maps of a layer for an open image."""
        with torch.no_grad():
            maps: Tensor = opened.passed.maps(self.network.layer(layer))[0]
        return maps.float().cpu()

    def peaks(self, opened: OpenedImage, layer: str) -> tuple[list[float], list[tuple[int, int]]]:
        """Return the activation of each feature's strongest unit on an open image, and its place.

        Units at the upper limit of a rectifier are told apart by the values before it.
        """
        part = self.network.layer(layer)
        with torch.no_grad():
            maps = opened.passed.maps(part)[0].flatten(1)
            places = opened.passed.strengths(part)[0].flatten(1).argmax(1, keepdim=True)
            values = maps.gather(1, places)[:, 0].float().tolist()
        return values, [divmod(place, part.width) for place in places[:, 0].tolist()]

    def top_classes(self, opened: OpenedImage, most: int = 5) -> list[tuple[str, float]]:
        """Return the classes that the network names for an open image, with probabilities."""
        with torch.no_grad():
            scores = opened.passed.value(self.network.outputs[0])
        return self.scanned.named.top_classes(scores, most)


def size_in_bytes(opened: OpenedImage) -> int:
    """Return how much memory an open image takes."""
    return opened.pixels.nbytes + opened.passed.nbytes
