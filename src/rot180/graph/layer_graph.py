"""Which layers feed which: the network as it is connected, without the steps between layers."""

from collections.abc import Sequence

from rot180.graph.network import Layer, Network

IMAGE = -1
"""Stands for the image where layers are named by their number."""


def connections(network: Network, layers: Sequence[Layer]) -> list[tuple[int, int]]:
    """Return the pairs (from, to) of layers of which one feeds the other without a third between.

    Layers are given by their numbers in ``layers``; -1 is the image. Layers of the network that are
    not among them are passed through, like poolings and sums.

    Args:
        network: the network.
        layers: some of its layers, or all.

    Returns:
        The pairs, sorted by the layer that is fed.
    """
    owner = {
        place: number for number, layer in enumerate(layers) for place in (layer.linear, layer.step)
    }
    feeds: dict[int, frozenset[int]] = {-1: frozenset({IMAGE})}
    for place, step in enumerate(network.steps):
        if place in owner:
            feeds[place] = frozenset({owner[place]})
        else:
            feeds[place] = frozenset().union(*(feeds[one] for one in step.inputs))
    found = []
    for number, layer in enumerate(layers):
        sources = frozenset[int]().union(
            *(feeds[one] for one in network.steps[layer.linear].inputs)
        )
        found += [(source, number) for source in sorted(sources - {number})]
    return found
