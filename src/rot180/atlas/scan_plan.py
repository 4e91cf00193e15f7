"""What a scan is of: its model, data, layers and options, and the new atlas that holds them."""

import platform
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rot180 import __version__
from rot180.atlas.accumulator import ScanState
from rot180.atlas.feature_index import FeatureIndex
from rot180.atlas.identity import ScanIdentity
from rot180.atlas.model import portable_model_name
from rot180.atlas.options import ScanModel, ScanOptions, default_batch_size, select_layers
from rot180.atlas.outputs import named_outputs
from rot180.atlas.recorder import ActivationRecorder
from rot180.atlas.tables import ReceptiveFields
from rot180.atlas.writer import AtlasWriter, create, create_atomically
from rot180.datasets import Dataset
from rot180.datasets.base import image_name
from rot180.datasets.loader import BatchLoader
from rot180.errors import Rot180Error
from rot180.graph.layer_graph import layer_edges
from rot180.graph.receptive_field import receptive_fields

Range = tuple[int, int, int]
"""First image, the one after the last, and the next one to be scanned."""


class ScanPlan:
    """A scan before its first batch.

    Attributes:
        model, data, options: as :func:`rot180.scan` takes them, checked.
        network: network of the model.
        layers: layers to scan, in the order of the network.
        batch: maximal number of images in a batch.
        fields: receptive fields of each layer.
        recorder: runs the batches.
        identity: what makes two scans the same.
    """

    def __init__(self, model: ScanModel, data: Dataset, options: ScanOptions) -> None:
        self.model, self.data, self.options = model, data, options
        self.network = model.network
        self.batch = options.batch or default_batch_size(model.size)
        self.layers = select_layers(self.network, options.layers)
        self.fields = {
            name: ReceptiveFields(*spans)
            for name, spans in receptive_fields(self.network, self.layers).items()
        }
        self.recorder = ActivationRecorder(self.network, self.layers, self.fields, self.batch)
        names = [layer.name for layer in self.layers]
        self.identity = ScanIdentity.for_scan(model, data, names, options, self.batch)

    @property
    def channels(self) -> int:
        """Number of channels of the images, 3 or 1."""
        return self.network.input_shape[0]

    def image_info(self, number: int) -> tuple[str, int | None]:
        """Return the name and the class of an image."""
        return image_name(self.data, number), self.data.label(number)

    def names(self) -> dict[str, Any]:
        """Return the metadata about names: of the network's outputs, and of class folders."""
        names: dict[str, Any] = {}
        outputs = named_outputs(self.network, self.model.classes, self.data)
        if outputs is not None and outputs.layer in self.fields:
            names["outputs"] = outputs.to_json()
        folders = getattr(self.data, "folders", ())
        if folders and folders != self.data.classes:
            names["folders"] = list(folders)
        return names

    def ranges(self) -> list[Range]:
        """Return the range of images of this part of the scan; it begins with a whole batch.

        Raises:
            Rot180Error: there are more parts than batches, and this one is empty.
        """
        batch, total = self.batch, len(self.data)
        batches, (number, parts) = -(-total // batch), self.options.shard
        first, last = batches * (number - 1) // parts, batches * number // parts
        if first == last:
            raise Rot180Error(
                f"Part {number} of {parts} is empty: {total} images are {batches} batches of "
                f"{batch}. Use fewer parts, or a smaller batch."
            )
        return [(first * batch, min(last * batch, total), first * batch)]

    def make_index(self) -> FeatureIndex:
        """Return the features, with scales measured on the data's first images.

        Every part of a scan measures on the same images, so that all have the same scales.

        Raises:
            Rot180Error: no image can be read.
        """
        size = self.model.size
        with BatchLoader(
            self.data,
            [range(len(self.data))],
            self.batch,
            size,
            self.channels,
            on_bad_image="skip",
            ahead=1,
        ) as batches:
            first = next((batch for batch in batches if len(batch.indices)), None)
        if first is None:
            raise Rot180Error(f"No image of {self.data.name} ({self.data.split}) can be read.")
        layers = self.recorder.measure_scales(self.model.prepare(first.images))
        classes, options = len(self.data.classes), self.options
        return FeatureIndex(layers, classes, self.channels, options.examples, options.sample)

    def create(self, path: Path, index: FeatureIndex) -> AtlasWriter:
        """Make the atlas, without any image, and return a writer of it."""
        ranges, classes = self.ranges(), self.data.classes
        rows = self._layer_rows(index)
        with (
            create_atomically(path) as new,
            create(new, self._metadata(path), rows, self.fields, classes, index, ranges) as writer,
        ):
            writer.save(ScanState(index), self.fields, self.image_info, ranges, None, ())
        return AtlasWriter(path)

    def _metadata(self, path: Path) -> dict[str, Any]:
        return {
            "identity": self.identity.to_json(),
            "model": portable_model_name(self.model.name, path.parent),
            "weights": self.model.weights,
            **self.names(),
            "data": {"name": self.data.name, "split": self.data.split},
            "images": len(self.data),
            "network": {
                "input": list(self.network.input_shape),
                "error": self.network.error,
                "connections": layer_edges(self.network, self.layers),
            },
            "versions": {
                "rot180": __version__,
                "torch": torch.__version__,
                "numpy": np.__version__,
                "python": platform.python_version(),
            },
            "started": utc_now(),
            "seconds": 0.0,
        }

    def _layer_rows(self, index: FeatureIndex) -> list[tuple[Any, ...]]:
        return [
            (
                layer.name,
                number,
                layer.kind,
                layer.rectifier,
                layer.channels,
                layer.height,
                layer.width,
                *layer.receptive_field,
                *map(float, layer.stride),
                part.sample_grid[0] * part.sample_grid[1],
            )
            for number, (layer, part) in enumerate(zip(self.layers, index.layers, strict=True))
        ]


def utc_now() -> str:
    """Return the time in UTC as ISO 8601, which sorts as text."""
    return datetime.now(UTC).isoformat(timespec="seconds")
