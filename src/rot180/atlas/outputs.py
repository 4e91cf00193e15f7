"""Which classes a network's outputs are: by its own names, by a file's, or by the data set's."""

from dataclasses import asdict, dataclass
from typing import Any

from rot180.datasets import Dataset
from rot180.datasets.base import numbered_classes
from rot180.graph.network import Network


@dataclass(frozen=True)
class Outputs:
    """The names of a network's outputs.

    Attributes:
        layer: whose features they are.
        names: of its features, in order.
        source: who gives the names, in words.
    """

    layer: str
    names: tuple[str, ...]
    source: str

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {**asdict(self), "names": list(self.names)}


def named_outputs(network: Network, classes: tuple[str, ...], data: Dataset) -> Outputs | None:
    """Return the names of a network's outputs, if there is one for each.

    Args:
        network: captured.
        classes: the model's own names of its classes; empty where it has none.
        data: that are scanned. A table of classes with them that numbers outputs names these; where
            there is none, and as many classes as outputs, they are taken to be the same, in order,
            as they are for networks that were trained on such folders.
    """
    layer = network.score_layer
    if layer is None:
        return None
    table = getattr(data, "class_file", None)
    if len(classes) == layer.channels:
        return Outputs(layer.name, classes, "the model")
    if table is not None and table.indexed and len(table.lines) == layer.channels:
        return Outputs(layer.name, table.outputs, table.path.name)
    if len(data.classes) == layer.channels and data.classes != numbered_classes(layer.channels):
        return Outputs(layer.name, data.classes, "the data, which have as many classes")
    return None
