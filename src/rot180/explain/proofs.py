"""The two proofs of an explanation: finite differences, and the error of a wrong rotation."""

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
from rot180.explain.blocks import Cell, Figure, Grid, Paragraph, Section, format_number
from rot180.explain.worked import WorkedExample, format_error, format_index


def finite_difference_table(worked: WorkedExample) -> Section:
    """Compare every gradient of the example with central differences of its cost."""
    names: list[str] = []
    gradients: list[float] = []
    slopes: list[float] = []
    crossed: list[bool] = []
    by_name = {"w": worked.gradient, "b": np.array([worked.bias_gradient]), "a": worked.error}
    for name, gradient in by_name.items():
        names += [
            f"dC/d{name}{'' if name == 'b' else format_index(index)}"
            for index in np.ndindex(gradient.shape)
        ]
        gradients += gradient.reshape(-1).tolist()
        slopes += worked.differences[name].reshape(-1).tolist()
        crossed += worked.kinks[name].reshape(-1).tolist()
    errors = np.abs(np.subtract(gradients, slopes)) / max(np.abs(slopes).max(), 1e-300)
    kinks = sum(crossed)
    worst = errors[~np.array(crossed)].max(initial=0)
    rows = [
        [
            Cell(name),
            Cell(format_number(gradient), gradient),
            Cell(f"{slope:.8g}", slope),
            Cell("at a kink") if kink else Cell(format_error(error), float(error)),
        ]
        for name, gradient, slope, error, kink in zip(
            names, gradients, slopes, errors, crossed, strict=True
        )
    ]
    heads = ["", "back-propagation", "finite difference", "difference, relative"]
    left_out = (
        f" {kinks} entries lie at a kink, where the two sides have different slopes and there "
        "is nothing to compare with."
        if kinks
        else ""
    )
    return Section(
        "Beside finite differences",
        [
            Paragraph(
                "Change one number a little in both directions, go forward again, and see by "
                "how much the cost has changed: `(C(w + h) - C(w - h)) / 2h`, with h = 6e-6, "
                "or more for numbers above 1. This knows nothing of back-propagation."
            ),
            Figure([Grid("", rows, column_names=heads)]),
            Paragraph(
                "The largest difference, over the largest of these numbers, is "
                f"{format_error(worst)}.{left_out}"
            ),
        ],
    )


@dataclass(frozen=True)
class OperationTrial:
    """The gradients that one operation gives for an example, beside those of the perceptron.

    The perceptron's matrix knows nothing of convolutions, so it is the reference.

    Attributes:
        error, gradient: dC/da and dC/dw of the example's delta.
        error_difference: largest difference of dC/da from the perceptron's.
        gradient_difference: largest difference of dC/dw from the perceptron's.
        wrong_way_difference: largest difference of dC/da if the backward pass slid the kernel the
            other way round.
    """

    error: Array
    gradient: Array
    error_difference: float
    gradient_difference: float
    wrong_way_difference: float


def try_operation(worked: WorkedExample, operation: str) -> OperationTrial:
    """Return the gradients of an example by "correlation" or "convolution", its own or not."""
    image, delta = worked.example.image[None, None], worked.delta[None, None]
    kernel = worked.example.kernel[None, None]
    stride = worked.example.stride
    size, kernel_size = worked.example.image.shape, worked.example.kernel.shape
    rotated = operation == "convolution"
    pad_width = resolve_padding(worked.example.padding, kernel_size, stride, rotated)
    layer = connections((1, *size), (1, 1, *kernel_size), stride, pad_width, operation=operation)
    reference = (layer.matrix(kernel).T @ delta.reshape(-1)).reshape(size)
    backward = convolution_error if rotated else correlation_error
    weight_gradient = convolution_gradient if rotated else correlation_gradient
    error = backward(delta, kernel, size, stride, pad_width)[0, 0]
    wrong_way = backward(delta, rot180(kernel), size, stride, pad_width)[0, 0]
    gradient = weight_gradient(image, delta, kernel_size, stride, pad_width)
    dense = np.outer(delta.reshape(-1), image.reshape(-1))
    return OperationTrial(
        error,
        gradient[0, 0],
        float(np.abs(error - reference).max()),
        float(np.abs(gradient - layer.shared_gradient(dense)).max()),
        float(np.abs(wrong_way - reference).max()),
    )


def rotation_proof(worked: WorkedExample) -> Section:
    """Try both operations with both directions of the kernel, and show which are right."""
    rows = []
    for formula, operation, directions in (
        ("corr(w, a)", "correlation", ("as it is", "rotated")),
        ("w * a", "convolution", ("rotated", "as it is")),
    ):
        trial = try_operation(worked, operation)
        differences = (
            trial.error_difference,
            trial.wrong_way_difference,
            trial.gradient_difference,
        )
        texts = (formula, *directions, *map(format_error, differences))
        rows.append([Cell(text) for text in texts])
    heads = ["layer", "w forward", "w back", "dC/da off by", "the other way", "dC/dw off by"]
    symmetric = np.array_equal(worked.example.kernel, rot180(worked.example.kernel))
    if symmetric:
        note = " (This kernel is the same when it is rotated, so here one cannot tell.)"
    elif not worked.delta.any():
        note = " (Here all errors are zero, so one cannot tell.)"
    else:
        note = ""
    return Section(
        "The rotation is never lost",
        [
            Paragraph(
                "A layer may correlate, as PyTorch's do, or convolve, as the equations are "
                "usually written. The table shows both, with the same image, kernel and `delta`: "
                "how far `dC/da` and `dC/dw` are from those of the perceptron's matrix, and how "
                "far `dC/da` would be if the kernel slid back the other way round."
            ),
            Figure([Grid("", rows, column_names=heads)]),
            Paragraph(
                "Exactly one of the two directions carries the rotation. A network that learns "
                "its kernels does as well with either, for it learns them rotated; but the "
                f"backward pass has to slide the kernel the other way than the forward pass.{note}"
            ),
        ],
    )
