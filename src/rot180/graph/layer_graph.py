"""The layers of a network as a graph: which layer feeds which, without the steps in between."""

from collections.abc import Sequence

from rot180.graph.network import Layer, Network

IMAGE = -1
"""The number that stands for the image where layers have numbers."""


def layer_edges(network: Network, layers: Sequence[Layer]) -> list[tuple[int, int]]:
    """Return the pairs (from, to) of layers where one feeds the other with no third in between.

    Layers are given by their numbers in ``layers``; -1 is the image. Layers of the network that are
    not among them are passed through, like poolings and sums.

    Args:
        network: the network.
        layers: some of its layers, or all.

    Returns:
        The pairs, sorted by the layer that is fed.
    """
    owner = {
        index: number
        for number, layer in enumerate(layers)
        for index in (layer.weight_step, layer.output_step)
    }
    feeds: dict[int, frozenset[int]] = {-1: frozenset({IMAGE})}
    for index, step in enumerate(network.steps):
        if index in owner:
            feeds[index] = frozenset({owner[index]})
        else:
            feeds[index] = frozenset().union(*(feeds[source] for source in step.inputs))
    edges = []
    for number, layer in enumerate(layers):
        sources = frozenset[int]().union(
            *(feeds[source] for source in network.steps[layer.weight_step].inputs)
        )
        edges += [(source, number) for source in sorted(sources - {number})]
    return edges
