"""rot180: see what a convolutional network has learned, and the arithmetic that taught it.

The names below are loaded when they are first used, so that ``import rot180`` stays light.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from rot180.errors import Rot180Error

if TYPE_CHECKING:
    from rot180.atlas.atlas import Atlas
    from rot180.atlas.atlas import open_atlas as open
    from rot180.atlas.compare import compare
    from rot180.atlas.effective_fields import measure_effective_fields
    from rot180.atlas.merge import merge
    from rot180.atlas.scan import scan
    from rot180.datasets import open_dataset
    from rot180.graph.capture import capture
    from rot180.graph.forward_pass import feature_maps, model_outputs, open_image
    from rot180.graph.network import Layer, Network
    from rot180.graph.report import report
    from rot180.models.load import load
    from rot180.projection.automatic import use_sample
    from rot180.projection.project import project
    from rot180.projection.result import Projection, Projections
    from rot180.projection.units import project_units

__version__ = "0.1.0"

_HOME = {
    "Atlas": "rot180.atlas.atlas",
    "capture": "rot180.graph.capture",
    "compare": "rot180.atlas.compare",
    "feature_maps": "rot180.graph.forward_pass",
    "Layer": "rot180.graph.network",
    "Network": "rot180.graph.network",
    "load": "rot180.models.load",
    "measure_effective_fields": "rot180.atlas.effective_fields",
    "merge": "rot180.atlas.merge",
    "model_outputs": "rot180.graph.forward_pass",
    "open_dataset": "rot180.datasets",
    "open_image": "rot180.graph.forward_pass",
    "project": "rot180.projection.project",
    "project_units": "rot180.projection.units",
    "Projection": "rot180.projection.result",
    "Projections": "rot180.projection.result",
    "report": "rot180.graph.report",
    "scan": "rot180.atlas.scan",
    "use_sample": "rot180.projection.automatic",
}

__all__ = [
    "Atlas",
    "Layer",
    "Network",
    "Projection",
    "Projections",
    "Rot180Error",
    "capture",
    "compare",
    "feature_maps",
    "load",
    "measure_effective_fields",
    "merge",
    "model_outputs",
    "open",
    "open_dataset",
    "open_image",
    "project",
    "project_units",
    "report",
    "scan",
    "use_sample",
]


def __getattr__(name: str) -> Any:
    if name == "open":
        return import_module("rot180.atlas.atlas").open_atlas
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'rot180' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
