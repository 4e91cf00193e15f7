"""Sends batches of images through a network and takes down what a scan's state wants to know."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor

from rot180.atlas.feature_index import FeatureIndex, LayerSlice, scale_of
from rot180.atlas.map_summary import (
    MapSummary,
    integral_images,
    local_colours,
    positions_first,
    summarise,
)
from rot180.atlas.observation import BatchObservation
from rot180.atlas.tables import ReceptiveFields
from rot180.errors import Rot180Error
from rot180.graph.forward_pass import explain_not_finite
from rot180.graph.network import Layer, Network
from rot180.graph.streaming import StreamingForward


class ActivationRecorder:
    """A network under observation.

    Args:
        network: the network.
        layers: the layers to look at.
        fields: the receptive fields of each.
        batch: the most images in a batch.
    """

    def __init__(
        self,
        network: Network,
        layers: Sequence[Layer],
        fields: dict[str, ReceptiveFields],
        batch: int,
    ) -> None:
        self.network, self.layers = network, tuple(layers)
        self.fields = [fields[one.name] for one in layers]
        self._running = StreamingForward(network, layers, batch)
        self.parts = tuple(
            LayerSlice(one.name, one.channels, one.height, one.width) for one in layers
        )
        self._index = FeatureIndex(self.parts)

    def measure_scales(self, inputs: Float[Tensor, "n c h w"]) -> tuple[LayerSlice, ...]:
        """Return the layers with the scale of their activations on some images.

        Raises:
            Rot180Error: activations are infinite or not numbers.
        """
        summary = self._summary(inputs, [])
        return tuple(
            LayerSlice(
                part.name,
                part.channels,
                part.height,
                part.width,
                scale_of(
                    float(np.abs(summary.peak[:, self._index.slice_of(number)]).max(initial=0))
                ),
            )
            for number, part in enumerate(self.parts)
        )

    def observe(
        self,
        numbers: Int64[np.ndarray, " n"],
        labels: Int64[np.ndarray, " n"],
        images: UInt8[np.ndarray, "n h w c"],
        inputs: Float[Tensor, "n c h w"],
    ) -> BatchObservation:
        """Run a batch.

        Args:
            numbers, labels: of the images.
            images: as pictures.
            inputs: as the network takes them.

        Raises:
            Rot180Error: activations are infinite or not numbers.
        """
        sums = integral_images(images)
        positions = [part.sample_positions(numbers) for part in self.parts]
        samples: list[np.ndarray] = [
            np.empty((*at.shape, part.channels), np.float32)
            for at, part in zip(positions, self.parts, strict=True)
        ]
        summary = self._summary(inputs, list(zip(positions, samples, strict=True)))
        colours = tuple(
            local_colours(sums, at, *fields)
            for at, fields in zip(positions, self.fields, strict=True)
        )
        return BatchObservation(numbers, labels, summary, tuple(samples), colours)

    def _summary(
        self,
        inputs: Float[Tensor, "n c h w"],
        wanted: Sequence[tuple[Int64[np.ndarray, "n _"], np.ndarray]],
    ) -> MapSummary:
        """Run a batch, and write the samples of each layer into its array."""
        summary = MapSummary.empty(len(inputs), self._index.features)
        ranked: dict[int, MapSummary] = {}  # of more or fewer images at a time than are seen

        def before(layer: int, first: int, values: Tensor) -> None:
            if layer not in ranked:
                ranked[layer] = MapSummary.empty(len(inputs), self.parts[layer].channels)
            summarise(values, ranked[layer].part(slice(first, first + len(values)), slice(None)))

        def seen(layer: int, first: int, maps: Tensor) -> None:
            images = slice(first, first + len(maps))
            part = summary.part(images, self._index.slice_of(layer))
            summarise(maps, part)
            if layer in ranked:
                part.strength[:] = ranked[layer].strength[images]
                part.where[:] = ranked[layer].where[images]
            if wanted:
                positions, samples = wanted[layer]
                samples[images] = _sampled(maps, positions[images])

        self._running.run(inputs, seen, before)
        if not np.isfinite(summary.mean).all():
            self._refuse(inputs, summary)
        return summary

    def _refuse(self, inputs: Tensor, summary: MapSummary) -> None:
        image, feature = np.argwhere(~np.isfinite(summary.mean))[0]
        part = int(np.searchsorted(self._index.starts, feature, side="right")) - 1
        raise Rot180Error(
            explain_not_finite(
                self.network, inputs[image : image + 1], self.layers[part].output_step
            )
        )


def _sampled(maps: Tensor, positions: Int64[np.ndarray, "n s"]) -> np.ndarray:
    """Return the activations (n, s, c) at positions of maps (n, c, h, w)."""
    if maps.device.type == "cpu":
        found: np.ndarray = positions_first(maps)[np.arange(len(maps))[:, None], positions]
        return found
    at = torch.from_numpy(positions).to(maps.device)[:, None, :].expand(-1, maps.shape[1], -1)
    taken = maps.flatten(2).gather(2, at).transpose(1, 2)
    return taken.float().cpu().numpy()
