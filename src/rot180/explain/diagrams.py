"""Draws layers: perceptrons, cut and shared connections, sliding kernels.

The connections come from :func:`rot180.equations.connections` and the numbers from the caller, who
computes them: no drawing has numbers of its own.
"""

from collections.abc import Sequence

import numpy as np

from rot180.equations.convolution import Array
from rot180.equations.equivalence import CUT, Connections
from rot180.equations.padding import Padding, out_size, pair, resolve_padding
from rot180.explain.blocks import COLOURS, format_number
from rot180.explain.svg import INK, Drawing

_RADIUS, _STEP, _GAP = 17, 52, 190
_CELL = 30


def draw_perceptron(
    sizes: Sequence[int], chosen: tuple[int, int] | None = None, names: Sequence[str] = ()
) -> Drawing:
    """Draw layers of perceptrons, every neuron connected with all of the next layer.

    Args:
        sizes: number of neurons of each layer, from the input on.
        chosen: (layer, neuron) whose connections to the next layer are counted in the drawing.
        names: names of the layers, written below them; empty for none.
    """
    height = max(sizes) * _STEP
    drawing = Drawing(2 * 70 + (len(sizes) - 1) * _GAP, height + 40, "Layers of perceptrons")
    positions = [
        [(70 + layer * _GAP, height / 2 + (k - (size - 1) / 2) * _STEP) for k in range(size)]
        for layer, size in enumerate(sizes)
    ]
    for layer in range(len(sizes) - 1):
        for j, start in enumerate(positions[layer]):
            for k, end in enumerate(positions[layer + 1]):
                counted = chosen == (layer, j)
                colour = f"#{COLOURS[k % len(COLOURS)]}" if counted else INK
                faint = 0.25 if chosen else 0.5
                drawing.line(
                    start, end, colour, width=3 if counted else 1, opacity=1 if counted else faint
                )
                if counted:
                    x, y = (s + 0.62 * (e - s) for s, e in zip(start, end, strict=True))
                    drawing.text(x, y - 11, f"{k + 1}", "bold")
    for layer, column in enumerate(positions):
        for k, (x, y) in enumerate(column):
            drawing.disc(x, y, _RADIUS, bold=chosen == (layer, k))
            counted = chosen is not None and layer == chosen[0] + 1
            symbol = f"δ{k + 1}" if counted else f"a{k + 1}" if layer < len(sizes) - 1 else ""
            drawing.text(x, y, symbol, "mono")
        if names:
            drawing.text(column[0][0], height + 22, names[layer], "name")
    return drawing


def draw_connections(
    layer: Connections,
    stage: str = "shared",
    source: int | None = None,
    target: int | None = None,
) -> Drawing:
    """Draw the connections of a layer, inputs on the left and outputs on the right.

    Args:
        layer: the connections that a convolution leaves.
        stage: "all" (the connections of a perceptron), "cut" (those that are left) or "shared"
            (those that are left, in the colour of their weight).
        source: an input whose connections are emphasised and labelled with their weights.
        target: an output whose connections are emphasised and labelled with their weights.
    """
    outputs, inputs = layer.weight.shape
    height = max(outputs, inputs) * _STEP
    drawing = Drawing(400, height, f"The connections of a layer: {stage}")
    left = [(50.0, height / 2 + (k - (inputs - 1) / 2) * _STEP) for k in range(inputs)]
    right = [(330.0, height / 2 + (k - (outputs - 1) / 2) * _STEP) for k in range(outputs)]
    all_equal = source is None and target is None
    labels = []
    for k, j in np.ndindex(outputs, inputs):
        weight = int(layer.weight[k, j])
        if stage != "all" and weight == CUT:
            continue
        emphasised = source == j or target == k
        colour = f"#{COLOURS[weight % len(COLOURS)]}" if stage == "shared" else INK
        width, opacity = (3.0, 1.0) if emphasised else (2.0, 1.0 if all_equal else 0.18)
        if stage != "shared":
            width, opacity = (1.2, 0.55)
        drawing.line(left[j], right[k], colour, width=width, opacity=opacity)
        if emphasised:
            labels.append((left[j], right[k], weight))
    for start, end, weight in labels:
        share = 0.68 if source is not None else 0.32
        x, y = (s + share * (e - s) for s, e in zip(start, end, strict=True))
        drawing.text(x, y - 10, _symbol(layer, weight), "mono")
    for j, (x, y) in enumerate(left):
        drawing.disc(x, y, _RADIUS, bold=source == j)
        drawing.text(x, y, f"a{_index(j, layer.below)}", "small")
    for k, (x, y) in enumerate(right):
        drawing.disc(x, y, _RADIUS, bold=target == k)
        drawing.text(x, y, f"{'δ' if source is not None else 'z'}{_index(k, layer.above)}", "small")
    return drawing


def draw_matrix(layer: Connections, column: int | None = None, row: int | None = None) -> Drawing:
    """Draw the weights of the perceptron that a convolution is: rows are outputs, columns inputs.

    Args:
        layer: the connections that the convolution leaves.
        column, row: the input or output to frame.
    """
    outputs, inputs = layer.weight.shape
    named = inputs <= 16  # larger matrices show colours only
    width, height = (50, 26) if named else (14, 14)
    left, top = (58, 26) if named else (8, 8)
    title = f"The weights of a perceptron, {outputs} outputs by {inputs} inputs, cut and shared"
    drawing = Drawing(left + inputs * width + 8, top + outputs * height + 8, title)
    for k, j in np.ndindex(outputs, inputs):
        weight = int(layer.weight[k, j])
        x, y = left + j * width, top + k * height
        if weight == CUT:
            drawing.box(x, y, width, height, faint=True)
            continue
        drawing.box(x, y, width, height, f"#{COLOURS[weight % len(COLOURS)]}")
        if named:
            drawing.text(x + width / 2, y + height / 2 - 1, _symbol(layer, weight), "small")
    if named:
        for j in range(inputs):
            drawing.text(left + (j + 0.5) * width, 12, f"a{_index(j, layer.below)}", "small")
        for k in range(outputs):
            y = top + (k + 0.5) * height
            drawing.text(left - 6, y, f"z{_index(k, layer.above)}", "small", "end")
    if column is not None:
        drawing.box(left + column * width, top, width, outputs * height, bold=True)
    if row is not None:
        drawing.box(left, top + row * height, inputs * width, height, bold=True)
    return drawing


def draw_sliding(
    below: Array,
    kernel: Array,
    above: Array,
    positions: Sequence[tuple[int, int]],
    *,
    stride: int | tuple[int, int] = 1,
    padding: Padding = "valid",
    numbers: Array | None = None,
    names: tuple[str, str] = ("a", "z"),
) -> Drawing:
    """Draw a kernel that slides over a map: one frame for each chosen entry of the result.

    Args:
        below: (h, w), the map.
        kernel: (kh, kw), as it lies on the map.
        above: (y, x), the result.
        positions: the chosen entries (y, x) of the result.
        stride, padding: see :func:`rot180.equations.convolution.correlation`.
        numbers: (kh, kw), the number of each weight, which gives it its colour; row by row if
            missing.
        names: names of the map and of the result.

    Raises:
        Rot180Error: the kernel does not fit on the map.
        ValueError: ``above`` does not have the size of the result.
    """
    numbers = np.arange(kernel.size).reshape(kernel.shape) if numbers is None else numbers
    steps = pair(stride, "stride")
    pad_width = resolve_padding(padding, kernel.shape, steps)
    if above.shape != out_size(below.shape, kernel.shape, steps, pad_width):
        raise ValueError(f"The result of the sliding is not of the shape {above.shape}.")
    framed = np.pad(below, pad_width)
    inside = np.pad(np.ones(below.shape, bool), pad_width)
    rows, columns = framed.shape
    frame = max(columns, above.shape[1]) * _CELL
    height = (rows + above.shape[0]) * _CELL + 64
    across = min(len(positions), max(1, 860 // (frame + 36)))
    down = -(-len(positions) // across)
    title = f"A kernel slides over {names[0]} and makes {names[1]}"
    drawing = Drawing(across * (frame + 36) - 20, down * (height + 12) - 4, title)
    for number, (y, x) in enumerate(positions):
        left, top = (number % across) * (frame + 36) + 4, (number // across) * (height + 12)
        drawing.text(left, top + 10, names[0], "name", "start")
        window = (steps[0] * y, steps[1] * x)
        for v, u in np.ndindex(rows, columns):
            i, j = v - window[0], u - window[1]
            covered = 0 <= i < kernel.shape[0] and 0 <= j < kernel.shape[1]
            colour = f"#{COLOURS[int(numbers[i, j]) % len(COLOURS)]}" if covered else "none"
            corner = (left + u * _CELL, top + 22 + v * _CELL)
            drawing.box(*corner, _CELL, _CELL, colour, faint=not covered, dashed=not inside[v, u])
            kind = "small" if inside[v, u] else "name"
            text = format_number(float(framed[v, u])) if inside[v, u] or covered else ""
            drawing.text(corner[0] + _CELL / 2, corner[1] + _CELL / 2 - 1, text, kind)
        corner = (left + window[1] * _CELL, top + 22 + window[0] * _CELL)
        drawing.box(*corner, kernel.shape[1] * _CELL, kernel.shape[0] * _CELL, bold=True)
        under = top + 22 + rows * _CELL + 22
        drawing.text(left, under - 8, names[1], "name", "start")
        for v, u in np.ndindex(above.shape):
            here = (v, u) == (y, x)
            corner = (left + u * _CELL, under + 4 + v * _CELL)
            drawing.box(*corner, _CELL, _CELL, bold=here, faint=not here)
            if v * above.shape[1] + u <= y * above.shape[1] + x:
                text = format_number(float(above[v, u]))
                drawing.text(corner[0] + _CELL / 2, corner[1] + _CELL / 2 - 1, text, "small")
    return drawing


def draw_forward_and_backward() -> Drawing:
    """Draw the three parts of a layer, and how the backward pass to the pixels reverses each."""
    drawing = Drawing(860, 236, "The three parts of a layer, and how each is reversed")
    forward = ("filter", "rectify", "pool")
    backward = ("filter with the rotated kernels", "rectify the signal", "unpool")
    hints = ("", "the forward sign is not asked", "switches say where")
    ends = ("pixels, or the layer below", "features")
    drawing.text(430, 14, "forward", "name")
    drawing.text(430, 222, "back", "name")
    for k, (step, reverse, hint) in enumerate(zip(forward, backward, hints, strict=True)):
        x = 160 + k * 195
        drawing.box(x - 8, 34, 166, 44, f"#{COLOURS[k]}")
        drawing.text(x + 75, 56, step, "bold")
        drawing.box(x - 8, 154, 166, 44, f"#{COLOURS[k]}", dashed=True)
        words = reverse.split(" with ")
        drawing.text(x + 75, 176 if len(words) == 1 else 168, words[0], "bold")
        if len(words) > 1:
            drawing.text(x + 75, 186, f"with {words[1]}", "name")
        if k:
            drawing.arrow((x - 37, 56), (x - 11, 56))
            drawing.arrow((x - 8, 176), (x - 34, 176))
        if hint == hints[2]:
            drawing.arrow((x + 75, 78), (x + 75, 151))
            drawing.text(x + 67, 108, hint.split(" say ")[0], "name", "end")
            drawing.text(x + 67, 124, f"say {hint.split(' say ')[1]}", "name", "end")
        if hint == hints[1]:
            drawing.text(x + 75, 116, hint, "name")
    drawing.text(78, 106, ends[0].split(", ")[0], "mono")
    drawing.text(78, 126, ends[0].split(", ")[1], "name")
    drawing.text(785, 116, ends[1], "mono")
    drawing.arrow((78, 92), (149, 58))
    drawing.arrow((152, 174), (78, 140))
    drawing.arrow((708, 58), (785, 98))
    drawing.arrow((785, 134), (711, 174))
    return drawing


def _symbol(layer: Connections, weight: int) -> str:
    """Return the symbol of a weight: w[0,1], or w[1] in one dimension."""
    i, j = divmod(weight % (layer.kernel[2] * layer.kernel[3]), layer.kernel[3])
    return f"w[{j}]" if layer.kernel[2] == layer.below[1] == 1 else f"w[{i},{j}]"


def _index(number: int, shape: tuple[int, int, int]) -> str:
    """Return the index of an entry as text: [0,1], or [1] in one dimension."""
    i, j = divmod(number % (shape[1] * shape[2]), shape[2])
    return f"[{j}]" if shape[1] == 1 else f"[{i},{j}]"
