"""Measures the effective receptive fields of an atlas' examples, and stores them in it.

The theoretical receptive field of a deep unit is the whole image. The effective one is the smallest
square that holds most of a projection's energy (see :mod:`rot180.projection.effective`). A scan
measures its typical size at each layer, which is cheap. This measures it for single examples: one
backward pass each, batched by image, so it takes longer than the scan of a small data set. What is
measured is stored at once, so the work can be interrupted, and goes on from there.
"""

from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from rot180.atlas.atlas import Atlas, open_atlas
from rot180.atlas.images import AtlasImages, PreparedImages
from rot180.atlas.model import ScannedModel, load_scanned_model
from rot180.atlas.options import layer_patterns, match_layers
from rot180.atlas.writer import AtlasWriter
from rot180.errors import Rot180Error, as_int
from rot180.projection.effective import LARGE_FIELD
from rot180.projection.units import project_units

_STORED_TOGETHER = 256


class _Unit(NamedTuple):
    feature: int
    rank: int
    image: int
    layer: str
    channel: int
    position: tuple[int, int]


def measure_effective_fields(
    path: Any,
    model: Any = None,
    *,
    examples: Any = 1,
    layers: Any = None,
    data: Any = None,
    progress: Callable[[int, int], None] | None = None,
) -> Atlas:
    """Measure the effective receptive fields of the strongest examples, and store them.

    Sheets and the explorer cut each of these examples to its own field, and not to the typical size
    at its layer. Only layers whose units see 64 pixels or more are measured. The projections are by
    ``method="auto"``. What an earlier call has stored stays.

    Args:
        path: of a finished atlas. It is changed.
        model: the model that was scanned, as :func:`rot180.load` returns it; None: as the atlas
            names it.
        examples: how many of each feature, the strongest first.
        layers: names of layers, or patterns like ``layer4.*``; None: all.
        data: the data set that was scanned, where the atlas holds no pictures.
        progress: called with how many of how many fields are measured.

    Returns:
        The atlas, opened.

    Raises:
        Rot180Error: the atlas is unfinished, its images or its model are not at hand, or the file
            cannot be written. What was measured until then is kept.

    Source:
        Luo et al., Understanding the effective receptive field, NeurIPS 2016.
    """
    path = Path(path)
    count = as_int(examples, "The number of examples")
    if count < 1:
        raise Rot180Error(f"At least one example of each feature is measured; this is {count}.")
    with open_atlas(path) as atlas:
        if not atlas.finished:
            raise Rot180Error(
                f"{path} is unfinished: give the command that scans it again, then measure."
            )
        atlas.check_pages()
        scanned = ScannedModel.for_atlas(
            atlas, load_scanned_model(atlas) if model is None else model
        )
        images = PreparedImages(scanned.model, AtlasImages(atlas, data).pixels)
        chosen = [
            name
            for name in match_layers(list(atlas), layer_patterns(layers) or ("*",))
            if max(atlas.layers[name].receptive_field) >= LARGE_FIELD
        ]
        units = _unmeasured(atlas, chosen, count)
        if units:
            with AtlasWriter(path) as writer:
                _measure(scanned, images, units, writer, progress)
    return open_atlas(path)


def _unmeasured(atlas: Atlas, layers: list[str], examples: int) -> list[_Unit]:
    """Return the examples whose fields are not stored yet, by image."""
    found = []
    for name in layers:
        first, part = atlas.index.starts[atlas.layer_index(name)], atlas.layers[name]
        rows = atlas.rows(
            "SELECT feature, rank, image, y, x FROM example WHERE feature BETWEEN ? AND ? "
            "AND rank < ? AND activation > 0 AND NOT EXISTS (SELECT 1 FROM effective_field "
            "WHERE effective_field.feature = example.feature "
            "AND effective_field.rank = example.rank)",
            first,
            first + len(part) - 1,
            examples,
        )
        for row in rows:
            atlas.check(all(isinstance(one, int) for one in row), "example")
            feature, rank, image, y, x = row
            inside = 0 <= y < part.height and 0 <= x < part.width
            atlas.check(inside, "example")
            found.append(_Unit(feature, rank, image, name, feature - first, (y, x)))
    return sorted(found, key=lambda unit: unit.image)


def _measure(
    scanned: ScannedModel,
    images: PreparedImages,
    units: list[_Unit],
    writer: AtlasWriter,
    progress: Callable[[int, int], None] | None,
) -> None:
    requests = ((one.image, one.layer, one.channel, one.position) for one in units)
    projections = project_units(scanned.network, images, requests)
    measured = (
        (unit.feature, unit.rank, *projection.effective_box())
        for unit, projection in zip(units, projections, strict=True)
    )
    done = 0
    for rows in _batches(measured):
        writer.add_effective_fields(rows)
        done += len(rows)
        if progress is not None:
            progress(done, len(units))


def _batches(rows: Iterator[tuple[int, ...]]) -> Iterator[list[tuple[int, ...]]]:
    while batch := list(islice(rows, _STORED_TOGETHER)):
        yield batch
