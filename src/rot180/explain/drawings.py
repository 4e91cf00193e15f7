"""Drawings of what happens in a layer: perceptrons, cut and shared connections, sliding kernels.

The connections are those of :func:`rot180.equations.connections` and the numbers those that
``rot180.equations`` computes: nothing in a drawing is set by hand.
"""

from collections.abc import Sequence

import numpy as np

from rot180.equations.convolution import Array
from rot180.equations.equivalence import CUT, Connections
from rot180.equations.padding import Padding, out_size, pair, resolve_padding
from rot180.explain.blocks import COLOURS, number
from rot180.explain.svg import INK, Drawing

_RADIUS, _STEP, _GAP = 17, 52, 190
_CELL = 30


def perceptron(
    sizes: Sequence[int], chosen: tuple[int, int] | None = None, names: Sequence[str] = ()
) -> Drawing:
    """Draw layers of perceptrons, every neuron connected with all of the next layer.

    Args:
        sizes: number of neurons of each layer, from the input on.
        chosen: (layer, neuron): its connections to the next layer are counted in the drawing.
        names: of the layers, written below them; empty for none.
    """
    tall = max(sizes) * _STEP
    drawing = Drawing(2 * 70 + (len(sizes) - 1) * _GAP, tall + 40, "Layers of perceptrons")
    places = [
        [(70 + layer * _GAP, tall / 2 + (k - (size - 1) / 2) * _STEP) for k in range(size)]
        for layer, size in enumerate(sizes)
    ]
    for layer in range(len(sizes) - 1):
        for j, start in enumerate(places[layer]):
            for k, end in enumerate(places[layer + 1]):
                counted = chosen == (layer, j)
                colour = f"#{COLOURS[k % len(COLOURS)]}" if counted else INK
                faint = 0.25 if chosen else 0.5
                drawing.line(
                    start, end, colour, width=3 if counted else 1, opacity=1 if counted else faint
                )
                if counted:
                    x, y = (s + 0.62 * (e - s) for s, e in zip(start, end, strict=True))
                    drawing.text(x, y - 11, f"{k + 1}", "bold")
    for layer, column in enumerate(places):
        for k, (x, y) in enumerate(column):
            drawing.disc(x, y, _RADIUS, bold=chosen == (layer, k))
            counted = chosen is not None and layer == chosen[0] + 1
            symbol = f"δ{k + 1}" if counted else f"a{k + 1}" if layer < len(sizes) - 1 else ""
            drawing.text(x, y, symbol, "mono")
        if names:
            drawing.text(column[0][0], tall + 22, names[layer], "name")
    return drawing


def wires(
    found: Connections,
    stage: str = "shared",
    source: int | None = None,
    target: int | None = None,
) -> Drawing:
    """Draw the connections of a layer, inputs on the left and outputs on the right.

    Args:
        found: the connections that a convolution leaves.
        stage: "all" (a perceptron's), "cut" (those that are left, each with its own weight) or
            "shared" (in the colour of the weight that they share).
        source: an input whose connections are emphasised, with their weights written beside them.
        target: an output, likewise.
    """
    outputs, inputs = found.weight.shape
    tall = max(outputs, inputs) * _STEP
    drawing = Drawing(400, tall, f"The connections of a layer: {stage}")
    left = [(50.0, tall / 2 + (k - (inputs - 1) / 2) * _STEP) for k in range(inputs)]
    right = [(330.0, tall / 2 + (k - (outputs - 1) / 2) * _STEP) for k in range(outputs)]
    written = []
    for k, j in np.ndindex(outputs, inputs):
        weight = int(found.weight[k, j])
        if stage != "all" and weight == CUT:
            continue
        meant = source == j or target == k
        told = source is None and target is None
        colour = f"#{COLOURS[weight % len(COLOURS)]}" if stage == "shared" else INK
        wide, seen = (3.0, 1.0) if meant else (2.0, 1.0 if told else 0.18)
        if stage != "shared":
            wide, seen = (1.2, 0.55)
        drawing.line(left[j], right[k], colour, width=wide, opacity=seen)
        if meant:
            written.append((left[j], right[k], weight))
    for start, end, weight in written:
        share = 0.68 if source is not None else 0.32
        x, y = (s + share * (e - s) for s, e in zip(start, end, strict=True))
        drawing.text(x, y - 10, _symbol(found, weight), "mono")
    for j, (x, y) in enumerate(left):
        drawing.disc(x, y, _RADIUS, bold=source == j)
        drawing.text(x, y, f"a{_at(j, found.below)}", "small")
    for k, (x, y) in enumerate(right):
        drawing.disc(x, y, _RADIUS, bold=target == k)
        drawing.text(x, y, f"{'δ' if source is not None else 'z'}{_at(k, found.above)}", "small")
    return drawing


def matrix(found: Connections, column: int | None = None, row: int | None = None) -> Drawing:
    """Draw the weights of the perceptron that a convolution is: a row an output, a column an input.

    Args:
        found: the connections.
        column, row: the input or output to frame.
    """
    outputs, inputs = found.weight.shape
    wide = 50 if inputs <= 16 else 14
    high = 26 if inputs <= 16 else 14
    named = wide > 20
    left, top = (58, 26) if named else (8, 8)
    title = f"The weights of a perceptron, {outputs} outputs by {inputs} inputs, cut and shared"
    drawing = Drawing(left + inputs * wide + 8, top + outputs * high + 8, title)
    for k, j in np.ndindex(outputs, inputs):
        weight = int(found.weight[k, j])
        x, y = left + j * wide, top + k * high
        if weight == CUT:
            drawing.box(x, y, wide, high, faint=True)
            continue
        drawing.box(x, y, wide, high, f"#{COLOURS[weight % len(COLOURS)]}")
        if named:
            drawing.text(x + wide / 2, y + high / 2 - 1, _symbol(found, weight), "small")
    if named:
        for j in range(inputs):
            drawing.text(left + (j + 0.5) * wide, 12, f"a{_at(j, found.below)}", "small")
        for k in range(outputs):
            y = top + (k + 0.5) * high
            drawing.text(left - 6, y, f"z{_at(k, found.above)}", "small", "end")
    if column is not None:
        drawing.box(left + column * wide, top, wide, outputs * high, bold=True)
    if row is not None:
        drawing.box(left, top + row * high, inputs * wide, high, bold=True)
    return drawing


def sliding(
    below: Array,
    kernel: Array,
    above: Array,
    places: Sequence[tuple[int, int]],
    *,
    stride: int | tuple[int, int] = 1,
    padding: Padding = "valid",
    numbers: Array | None = None,
    names: tuple[str, str] = ("a", "z"),
) -> Drawing:
    """Draw a kernel as it slides over a map: one frame for each position of the result.

    Args:
        below: (h, w), what it slides over.
        kernel: (kh, kw), as it lies on the map while it slides.
        above: (y, x), the result, of which each frame shows one entry.
        places: (y, x) of these entries.
        stride, padding: of the windows, see :func:`rot180.equations.convolution.correlation`.
        numbers: (kh, kw), the number of each weight, which gives it its colour; if missing they
            are counted in rows.
        names: of the map and of the result.

    Raises:
        Rot180Error: the kernel does not fit on the map.
        ValueError: ``above`` is not of the size that the sliding makes.
    """
    numbers = np.arange(kernel.size).reshape(kernel.shape) if numbers is None else numbers
    steps = pair(stride, "stride")
    pad_width = resolve_padding(padding, kernel.shape, steps)
    if above.shape != out_size(below.shape, kernel.shape, steps, pad_width):
        raise ValueError(f"What the sliding makes is not of the shape {above.shape}.")
    whole = np.pad(below, pad_width)
    inside = np.pad(np.ones(below.shape, bool), pad_width)
    rows, columns = whole.shape
    frame = max(columns, above.shape[1]) * _CELL
    high = (rows + above.shape[0]) * _CELL + 64
    across = min(len(places), max(1, 860 // (frame + 36)))
    down = -(-len(places) // across)
    title = f"A kernel slides over {names[0]} and makes {names[1]}"
    drawing = Drawing(across * (frame + 36) - 20, down * (high + 12) - 4, title)
    for shown, (y, x) in enumerate(places):
        left, top = (shown % across) * (frame + 36) + 4, (shown // across) * (high + 12)
        drawing.text(left, top + 10, names[0], "name", "start")
        window = (steps[0] * y, steps[1] * x)
        for v, u in np.ndindex(rows, columns):
            i, j = v - window[0], u - window[1]
            on = 0 <= i < kernel.shape[0] and 0 <= j < kernel.shape[1]
            colour = f"#{COLOURS[int(numbers[i, j]) % len(COLOURS)]}" if on else "none"
            corner = (left + u * _CELL, top + 22 + v * _CELL)
            drawing.box(*corner, _CELL, _CELL, colour, faint=not on, dashed=not inside[v, u])
            kind = "small" if inside[v, u] else "name"
            words = number(float(whole[v, u])) if inside[v, u] or on else ""
            drawing.text(corner[0] + _CELL / 2, corner[1] + _CELL / 2 - 1, words, kind)
        corner = (left + window[1] * _CELL, top + 22 + window[0] * _CELL)
        drawing.box(*corner, kernel.shape[1] * _CELL, kernel.shape[0] * _CELL, bold=True)
        under = top + 22 + rows * _CELL + 22
        drawing.text(left, under - 8, names[1], "name", "start")
        for v, u in np.ndindex(above.shape):
            here = (v, u) == (y, x)
            corner = (left + u * _CELL, under + 4 + v * _CELL)
            drawing.box(*corner, _CELL, _CELL, bold=here, faint=not here)
            if v * above.shape[1] + u <= y * above.shape[1] + x:
                words = number(float(above[v, u]))
                drawing.text(corner[0] + _CELL / 2, corner[1] + _CELL / 2 - 1, words, "small")
    return drawing


def layer_and_back() -> Drawing:
    """Draw the three parts of a layer, and how each is reversed on the way back to the pixels."""
    drawing = Drawing(860, 236, "The three parts of a layer, and how each is reversed")
    there = ("filter", "rectify", "pool")
    back = ("filter with the rotated kernels", "rectify the signal", "unpool")
    asked = ("", "the forward sign is not asked", "switches say where")
    ends = ("pixels, or the layer below", "features")
    drawing.text(430, 14, "forward", "name")
    drawing.text(430, 222, "back", "name")
    for k, (one, other, hint) in enumerate(zip(there, back, asked, strict=True)):
        x = 160 + k * 195
        drawing.box(x - 8, 34, 166, 44, f"#{COLOURS[k]}")
        drawing.text(x + 75, 56, one, "bold")
        drawing.box(x - 8, 154, 166, 44, f"#{COLOURS[k]}", dashed=True)
        words = other.split(" with ")
        drawing.text(x + 75, 176 if len(words) == 1 else 168, words[0], "bold")
        if len(words) > 1:
            drawing.text(x + 75, 186, f"with {words[1]}", "name")
        if k:
            drawing.arrow((x - 37, 56), (x - 11, 56))
            drawing.arrow((x - 8, 176), (x - 34, 176))
        if hint == asked[2]:
            drawing.arrow((x + 75, 78), (x + 75, 151))
            drawing.text(x + 67, 108, hint.split(" say ")[0], "name", "end")
            drawing.text(x + 67, 124, f"say {hint.split(' say ')[1]}", "name", "end")
        if hint == asked[1]:
            drawing.text(x + 75, 116, hint, "name")
    drawing.text(78, 106, ends[0].split(", ")[0], "mono")
    drawing.text(78, 126, ends[0].split(", ")[1], "name")
    drawing.text(785, 116, ends[1], "mono")
    drawing.arrow((78, 92), (149, 58))
    drawing.arrow((152, 174), (78, 140))
    drawing.arrow((708, 58), (785, 98))
    drawing.arrow((785, 134), (711, 174))
    return drawing


def _symbol(found: Connections, weight: int) -> str:
    """Return the name of a weight as w[0,1], w[1] in one dimension."""
    i, j = divmod(weight % (found.kernel[2] * found.kernel[3]), found.kernel[3])
    return f"w[{j}]" if found.kernel[2] == found.below[1] == 1 else f"w[{i},{j}]"


def _at(place: int, shape: tuple[int, int, int]) -> str:
    """Return the index of an entry as [0,1], as [1] in one dimension."""
    i, j = divmod(place % (shape[1] * shape[2]), shape[2])
    return f"[{j}]" if shape[1] == 1 else f"[{i},{j}]"
