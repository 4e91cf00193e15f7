"""The two proofs of an explanation: finite differences, and what a wrong rotation would do."""

from dataclasses import dataclass

import numpy as np

from rot180.equations.convolution import (
    Array,
    convolution_error,
    convolution_gradient,
    correlation_error,
    correlation_gradient,
    rot180,
)
from rot180.equations.equivalence import connections
from rot180.equations.padding import resolve_padding
from rot180.explain.blocks import Cell, Figure, Grid, Section, Words, number
from rot180.explain.worked import Worked, at_text, tiny


def beside_differences(worked: Worked) -> Section:
    """Compare every gradient of the case with central differences of its cost."""
    names: list[str] = []
    ours: list[float] = []
    slopes: list[float] = []
    crossed: list[bool] = []
    gradients = {"w": worked.gradient, "b": np.array([worked.bias_gradient]), "a": worked.error}
    for name, found in gradients.items():
        places = np.ndindex(found.shape)
        names += [f"dC/d{name}{'' if name == 'b' else at_text(at)}" for at in places]
        ours += found.reshape(-1).tolist()
        slopes += worked.differences[name].reshape(-1).tolist()
        crossed += worked.kinks[name].reshape(-1).tolist()
    off = np.abs(np.subtract(ours, slopes)) / max(np.abs(slopes).max(), 1e-300)
    kinks = sum(crossed)
    worst = off[~np.array(crossed)].max(initial=0)
    rows = [
        [
            Cell(name),
            Cell(number(one), one),
            Cell(f"{slope:.8g}", slope),
            Cell("at a kink") if kink else Cell(tiny(error), float(error)),
        ]
        for name, one, slope, error, kink in zip(names, ours, slopes, off, crossed, strict=True)
    ]
    heads = ["", "back-propagation", "finite difference", "difference, relative"]
    left = (
        f" {kinks} entries lie at a kink, where the two sides have different slopes and there "
        "is nothing to compare with."
        if kinks
        else ""
    )
    return Section(
        "Beside finite differences",
        [
            Words(
                "Change one number a little in both directions, go forward again, and see by "
                "how much the cost has changed: `(C(w + h) - C(w - h)) / 2h`, with h = 6e-6, "
                "or more for numbers above 1. This knows nothing of back-propagation."
            ),
            Figure([Grid("", rows, column_names=heads)]),
            Words(
                f"The largest difference, over the largest of these numbers, is {tiny(worst)}."
                f"{left}"
            ),
        ],
    )


@dataclass(frozen=True)
class Tried:
    """A case's error and weight gradient by one operation, beside what the perceptron says.

    Attributes:
        error, gradient: dC/da and dC/dw of the case's delta.
        off, gradient_off: the largest differences from the perceptron's, whose matrix knows nothing
            of convolutions.
        otherwise: of dC/da, if the kernel slid back the other way round.
    """

    error: Array
    gradient: Array
    off: float
    gradient_off: float
    otherwise: float


def tried(worked: Worked, operation: str) -> Tried:
    """Go back through a case by "correlation" or "convolution", whatever its own operation is."""
    image, delta = worked.case.image[None, None], worked.delta[None, None]
    kernel = worked.case.kernel[None, None]
    stride, size, k = worked.case.stride, worked.case.image.shape, worked.case.kernel.shape
    rotated = operation == "convolution"
    pad_width = resolve_padding(worked.case.padding, k, stride, rotated)
    wires = connections((1, *size), (1, 1, *k), stride, pad_width, operation=operation)
    right = (wires.matrix(kernel).T @ delta.reshape(-1)).reshape(size)
    back = convolution_error if rotated else correlation_error
    weights = convolution_gradient if rotated else correlation_gradient
    error = back(delta, kernel, size, stride, pad_width)[0, 0]
    other_way = back(delta, rot180(kernel), size, stride, pad_width)[0, 0]
    gradient = weights(image, delta, k, stride, pad_width)
    dense = np.outer(delta.reshape(-1), image.reshape(-1))
    return Tried(
        error,
        gradient[0, 0],
        float(np.abs(error - right).max()),
        float(np.abs(gradient - wires.shared_gradient(dense)).max()),
        float(np.abs(other_way - right).max()),
    )


def never_lost(worked: Worked) -> Section:
    """Try every combination on this case, and say which ones are right."""
    rows = []
    for formula, operation, ways in (
        ("corr(w, a)", "correlation", ("as it is", "rotated")),
        ("w * a", "convolution", ("rotated", "as it is")),
    ):
        found = tried(worked, operation)
        differences = map(tiny, (found.off, found.otherwise, found.gradient_off))
        rows.append([Cell(text) for text in (formula, *ways, *differences)])
    heads = ["layer", "w forward", "w back", "dC/da off by", "the other way", "dC/dw off by"]
    symmetric = np.array_equal(worked.case.kernel, rot180(worked.case.kernel))
    if symmetric:
        note = " (This kernel is the same when it is rotated, so here one cannot tell.)"
    elif not worked.delta.any():
        note = " (Here all errors are zero, so one cannot tell.)"
    else:
        note = ""
    return Section(
        "The rotation is never lost",
        [
            Words(
                "A layer may correlate, as PyTorch's do, or convolve, as the equations are "
                "usually written. Here are both, with the same image, kernel and `delta`: how "
                "far what comes back is from what the perceptron's matrix says, and how far "
                "it would be if the kernel slid back the other way round."
            ),
            Figure([Grid("", rows, column_names=heads)]),
            Words(
                "Exactly one of the two directions carries the rotation. A network that learns "
                "its kernels does as well with either, it learns them turned; but the way back "
                f"has to be the opposite of the way forward.{note}"
            ),
        ],
    )
