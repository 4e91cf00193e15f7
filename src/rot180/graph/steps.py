"""The steps of a captured network, and which of them each one depends on."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from rot180.graph.operators.operator import Operator


@dataclass(frozen=True)
class Step:
    """One operator of a network in its place.

    Attributes:
        name: of the call in the captured graph.
        operator: what it computes.
        inputs: the positions, in the list of steps, of those whose outputs it takes; -1: the image.
        shape: of its output for one image, without the batch axis.
        axes: which axes of its output, from the end, are rows and columns; None: it has none.
        path: of the module, in the user's model, that the call was made in.
    """

    name: str
    operator: Operator
    inputs: tuple[int, ...]
    shape: tuple[int, ...]
    axes: tuple[int, int] | None
    path: str = ""


class Ancestors:
    """Which steps each step depends on, itself included.

    A set of steps is one integer, whose bits are their places: a list for each step would take the
    square of the depth of a network in memory, and much more time.

    Args:
        steps: of the network, in order.
    """

    def __init__(self, steps: Sequence[Step]) -> None:
        self._sets = [0] * len(steps) + [0]  # the last one is that of the image, at -1
        for place, step in enumerate(steps):
            self._sets[place] = 1 << place
            for one in step.inputs:
                self._sets[place] |= self._sets[one]

    def of(self, targets: Iterable[int]) -> list[int]:
        """Return, in order, the places of the steps that some depend on, these included."""
        union = 0
        for target in targets:
            union |= self._sets[target]
        held = np.frombuffer(union.to_bytes(len(self._sets) // 8 + 1, "little"), np.uint8)
        places: list[int] = np.flatnonzero(np.unpackbits(held, bitorder="little")).tolist()
        return places


def not_finite(step: Step) -> str:
    """Return the sentence which says that a step is the first with values not finite."""
    return (
        "The network gives values that are infinite or not numbers (NaN), first in the step "
        f"{step.name} ({step.operator.kind}). Check its weights."
    )
