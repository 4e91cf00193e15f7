"""The running state of a scan, restored from the rows of its atlas and checked."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from rot180.atlas.accumulator import ScanState
from rot180.atlas.writer import unpack_array

if TYPE_CHECKING:
    from rot180.atlas.atlas import Atlas


def restore_state(atlas: "Atlas", rows: Iterable[Sequence[Any]]) -> ScanState:
    """Return the state that the rows (name, type, shape, numbers) of an atlas hold.

    Raises:
        Rot180Error: the state is damaged.
    """
    arrays = {str(name): unpack_array(str(name), *columns) for name, *columns in rows}
    # Impossible sizes are refused before memory is allocated for them.
    index = atlas.index
    best = arrays.get("best_image", np.empty(0))
    atlas.check(best.shape == (index.features, index.examples), "state")
    state = ScanState.from_arrays(index, arrays)
    for numbers in (state.best_image[state.best_image >= 0], state.sample_images):
        scanned = np.zeros(numbers.shape, bool)
        for first, _, after in atlas.progress:
            scanned |= (first <= numbers) & (numbers < after)
        atlas.check(bool(scanned.all()), "state")
    sizes = index.per_feature([layer.height * layer.width for layer in index.layers])
    inside = (state.best_position >= 0) & (state.best_position < sizes[:, None])
    atlas.check(bool(inside.all()), "state")
    return state
