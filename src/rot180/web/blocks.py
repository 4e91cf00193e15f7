"""The blocks of a network: neighbouring layers that share the beginning of their names."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from rot180.web.representative_tiles import STRIP, RepresentativeTile


@dataclass(frozen=True)
class Block:
    """Neighbouring layers whose names have a common beginning, or one layer.

    Attributes:
        name: the common beginning of the names; the name itself if there is one layer.
        layers: numbers of its layers.
        tiles: tiles that represent the block, those of its last layer first.
    """

    name: str
    layers: list[int]
    tiles: list[RepresentativeTile]


def block_name(layer: str) -> str:
    """Return the beginning of a layer's name that its block shares.

    It ends with the first part that has a digit, and a number after that, if more follows:
    ``_blocks.4`` of ``_blocks.4._project_conv``, ``layer1.0`` of ``layer1.0.downsample.0``,
    ``Mixed_5b`` of ``Mixed_5b.branch1x1.conv``; else, it is all but the last part: ``features`` of
    ``features.28``.
    """
    parts = layer.split(".")
    for place, part in enumerate(parts[:-1]):
        if any(one.isdigit() for one in part):
            numbered = parts[place + 1].isdigit() and place + 2 < len(parts)
            return ".".join(parts[: place + 1 + numbered])
    return ".".join(parts[:-1]) or layer


def blocks_of(
    names: Sequence[str], tiles: Mapping[str, Sequence[RepresentativeTile]]
) -> list[Block]:
    """Group layers into blocks.

    Args:
        names: names of the layers, in the order of the network.
        tiles: representative tiles of each layer, by name.
    """
    made = []
    for name, numbers in groupby(range(len(names)), lambda number: block_name(names[number])):
        layers = list(numbers)
        own = names[layers[0]] if len(layers) == 1 else name
        chosen = _in_turn([tiles.get(names[one], ()) for one in reversed(layers)])
        made.append(Block(own, layers, chosen))
    return made


def cover_tiles(blocks: Sequence[Block], maps: Sequence[bool]) -> list[RepresentativeTile]:
    """Return the tiles that represent a network, taken in turn from its deepest blocks.

    Args:
        blocks: blocks of the network.
        maps: for each layer, whether its features have maps of more than one position. Blocks
            without such a layer are used only if there are no others.
    """
    deep = [one for one in reversed(blocks) if any(maps[number] for number in one.layers)]
    return _in_turn([one.tiles for one in deep or blocks])


def _in_turn(rows: Sequence[Sequence[RepresentativeTile]]) -> list[RepresentativeTile]:
    """Take the first tile of each row, then the second of each; repeated images come last."""
    longest = max(map(len, rows), default=0)
    order = [row[place] for place in range(longest) for row in rows if place < len(row)]
    taken: set[int] = set()
    first: list[RepresentativeTile] = []
    later: list[RepresentativeTile] = []
    for one in order:
        (later if one.image in taken else first).append(one)
        taken.add(one.image)
    return [*first, *later][:STRIP]
