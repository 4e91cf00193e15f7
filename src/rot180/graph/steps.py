"""The steps of a captured network, and which of them each one depends on."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from rot180.graph.operators.operator import Operator


@dataclass(frozen=True)
class Step:
    """One operator of a network, with the steps that it takes its inputs from.

    Attributes:
        name: name of the call in the captured graph.
        operator: what it computes.
        inputs: indices of the steps whose outputs it takes; -1 for the image.
        shape: shape of its output for one image, without the batch axis.
        axes: which axes of its output, counted from the end, are rows and columns; None where it
            has none.
        path: path, in the user's model, of the module that made the call.
    """

    name: str
    operator: Operator
    inputs: tuple[int, ...]
    shape: tuple[int, ...]
    axes: tuple[int, int] | None
    path: str = ""


class Ancestors:
    """The steps that each step depends on, itself included.

    A set of steps is one integer, whose bits are their indices: a list for each step would take
    memory with the square of the network's depth, and much more time.

    Args:
        steps: the steps of the network, in order.
    """

    def __init__(self, steps: Sequence[Step]) -> None:
        self._sets = [0] * len(steps) + [0]  # the last one is that of the image, at -1
        for index, step in enumerate(steps):
            self._sets[index] = 1 << index
            for source in step.inputs:
                self._sets[index] |= self._sets[source]

    def of(self, targets: Iterable[int]) -> list[int]:
        """Return, in order, the indices of the steps that some depend on, these included."""
        union = 0
        for target in targets:
            union |= self._sets[target]
        packed = np.frombuffer(union.to_bytes(len(self._sets) // 8 + 1, "little"), np.uint8)
        indices: list[int] = np.flatnonzero(np.unpackbits(packed, bitorder="little")).tolist()
        return indices


def not_finite(step: Step) -> str:
    """Return the sentence which says that a step is the first with values not finite."""
    return (
        "The network gives values that are infinite or not numbers (NaN), first in the step "
        f"{step.name} ({step.operator.kind}). Check its weights."
    )
