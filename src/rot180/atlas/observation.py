"""What a batch of images shows: the input of a scan's state."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Float64, Int64

from rot180.atlas.map_summary import MapSummary


@dataclass(frozen=True)
class BatchObservation:
    """A batch of images as the state of a scan takes it.

    Attributes:
        numbers: of the images in the data set.
        labels: their classes; -1 where there is none.
        summary: of all features of all layers, (n, features).
        samples: for each layer the activations at its s sampled positions (n, s, channels).
        colours: for each layer the mean colour under the receptive fields of these positions, from
            0 to 1, (n, s, 1 or 3).
    """

    numbers: Int64[np.ndarray, " n"]
    labels: Int64[np.ndarray, " n"]
    summary: MapSummary
    samples: tuple[Float32[np.ndarray, "n _ _"], ...]
    colours: tuple[Float64[np.ndarray, "n _ _"], ...]

    def __len__(self) -> int:
        return len(self.numbers)
