"""The loaded network of an atlas: it opens images and projects units and features on demand.

Only one thread at a time computes here (see :mod:`rot180.web.jobs`); PyTorch uses all cores.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from rot180.atlas.atlas import Atlas
from rot180.atlas.feature import Feature
from rot180.atlas.images import Pixels
from rot180.atlas.model import OtherNetwork, ScannedModel
from rot180.errors import Rot180Error
from rot180.figures.projector import LayerProjector
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
"""Loads a candidate for the model of an atlas."""


@dataclass
class OpenedImage:
    """An image with its forward pass.

    Attributes:
        pixels: the image in the network's input size, before normalisation.
        passed: the forward pass, computed as far as needed so far.
    """

    pixels: Pixels
    passed: ForwardPass


class LiveModel:
    """The network of an atlas, loaded on first use.

    Args:
        atlas: the atlas.
        loaders: candidates for its model; the first that matches the scanned network is used.
        opened: cache of the open images of all atlases.
        pixels: returns an image of the atlas.
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
        self._scanned: ScannedModel | None = None
        self._loading = Lock()
        self._projectors: dict[tuple[str, Rules], LayerProjector] = {}

    def load(self) -> None:
        """Load the network, once; ``state`` and ``reason`` record the result."""
        with self._loading:
            if self.state in ("ready", "absent"):
                return
            self.state = "loading"
            reasons: list[str] = []
            others: list[str] = []
            for loader in self._loaders:
                try:
                    named = loader(self.atlas)
                    self._scanned = ScannedModel.for_atlas(self.atlas, named)
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
                reasons.append("A given model is a different network.")
            self.reason = " ".join(dict.fromkeys(reasons or others[:1])) or "No model was given."
            self.state = "absent"

    @property
    def scanned(self) -> ScannedModel:
        """The network.

        Raises:
            ModelUnavailable: it cannot be loaded.
        """
        self.load()
        if self._scanned is None:
            raise ModelUnavailable(self.reason)
        return self._scanned

    @property
    def network(self) -> Network:
        """The captured network; see ``scanned`` for errors."""
        return self.scanned.network

    def projector(self, layer: str, rules: Rules) -> LayerProjector:
        """Return the projector of a layer's units; it is made once."""
        key = (layer, rules)
        if key not in self._projectors:
            self._projectors[key] = LayerProjector(self.scanned, layer, rules)
        return self._projectors[key]

    def examples(self, feature: Feature, most: int, rules: Rules) -> list[Projection]:
        """Project a feature's strongest units, each on its own image."""
        examples = feature.firing[:most]
        pixels = {one.image: self._pixels(one.image) for one in examples}
        units = [(feature.channel, one) for one in examples]
        return list(self.projector(feature.layer, rules).project(units, pixels))

    def open(self, key: str, pixels: Callable[[], Pixels]) -> OpenedImage:
        """Return an open image; ``pixels`` returns its pixels if it has to be opened."""
        network = self.network
        whole = (id(self), key)
        found = self._opened.get(whole)
        if found is None:
            shown = pixels()
            prepared = self.scanned.model.prepare(shown)
            found = OpenedImage(shown, open_image(network, prepared))
        return self._opened.put(whole, found)

    def update_size(self, key: str) -> None:
        """Update the cached size of an image, whose forward pass may have grown."""
        self._opened.remeasure((id(self), key))

    def project(
        self,
        opened: OpenedImage,
        layer: str,
        channels: Sequence[int],
        position: tuple[int, int] | str | None,
        rules: Rules,
    ) -> list[Projection]:
        """Project features of an open image together, or one unit of each."""
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
        """Return the activation and position of each feature's strongest unit on an open image.

        Units at the upper limit of a rectifier are ranked by their values before it.
        """
        part = self.network.layer(layer)
        with torch.no_grad():
            maps = opened.passed.maps(part)[0].flatten(1)
            places = opened.passed.strengths(part)[0].flatten(1).argmax(1, keepdim=True)
            values = maps.gather(1, places)[:, 0].float().tolist()
        return values, [divmod(place, part.width) for place in places[:, 0].tolist()]

    def top_classes(self, opened: OpenedImage, most: int = 5) -> list[tuple[str, float]]:
        """Return the network's top classes for an open image, with probabilities."""
        with torch.no_grad():
            scores = opened.passed.output(self.network.outputs[0])
        return self.scanned.model.top_classes(scores, most)


def size_in_bytes(opened: OpenedImage) -> int:
    """Return the memory of an open image, in bytes."""
    return opened.pixels.nbytes + opened.passed.nbytes
