"""Convolutions, transposed convolutions, and fully connected layers."""

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from rot180.graph.box import Box, Span, Window
from rot180.graph.operators.conv_kernels import Kernels
from rot180.graph.operators.normalisation import BatchNorm, FrozenNorm
from rot180.graph.operators.operator import (
    NO_MARGINS,
    Axes,
    Kept,
    Margins,
    Nominal,
    Operator,
    Part,
    Rules,
    pair,
)

Chosen = Tensor | slice
"""Channels of a layer: an index of several, or a slice of one."""


@dataclass(frozen=True, eq=False)
class Convolution(Operator):
    """``z = w (correlated with) a + b``: what PyTorch calls a convolution.

    The way back is the transposed convolution: the signal, dilated by the stride, fully convolved
    with the kernel, which is the correlation with the kernel rotated by 180 degrees. A batch
    normalisation that directly follows is part of the kernel. ``before`` are the zeros above and on
    the left; how many there are below and on the right follows from the size of the output.
    """

    weight: Tensor
    bias: Tensor | None
    stride: tuple[int, int]
    before: tuple[int, int]
    dilation: tuple[int, int]
    groups: int
    norm: BatchNorm | FrozenNorm | None = None
    fresh = True
    fresh_back = True
    linear = True

    @classmethod
    def read(cls, given: Mapping[str, Any]) -> "Convolution":
        """Read ``aten.conv2d``; ``padding="same"`` may add one more pixel after than before."""
        weight, padding = given["weight"], given["padding"]
        dilation = pair(given["dilation"])
        if padding == "same":
            total = [d * (k - 1) for d, k in zip(dilation, weight.shape[2:], strict=True)]
            before = (total[0] // 2, total[1] // 2)
        else:
            before = (0, 0) if padding == "valid" else pair(padding)
        return cls(weight, given["bias"], pair(given["stride"]), before, dilation, given["groups"])

    @property
    def kind(self) -> str:
        """What it is."""
        plain = "convolution"
        if self.groups > 1:
            plain = "depthwise convolution" if self.weight.shape[1] == 1 else "grouped convolution"
        return plain if self.dilation == (1, 1) else f"dilated {plain}"

    @cached_property
    def kernels(self) -> Kernels:
        """The kernels as they are multiplied."""
        with torch.no_grad():
            weight, bias = self.weight, self.bias
            if self.norm is not None:
                weight, bias = self.norm.merged(weight, bias)
            return Kernels(weight, bias, self.stride, self.dilation, self.groups)

    @property
    def window(self) -> Window:
        """The sliding window."""
        kh, kw = self.weight.shape[2:]
        return Window((kh, kw), self.stride, self.before, self.dilation)

    def reach(self, axis: int, span: Span, sizes: tuple[int, ...]) -> tuple[Span, ...]:
        """Return the span under the window."""
        return (self.window.reach(axis, span),)

    def nominal(self, axis: int) -> Nominal:
        """Return the window's stride and extent."""
        return nominal_of(self.window, axis)

    def forward(self, inputs: tuple[Tensor, ...], part: Part) -> tuple[Tensor, None]:
        """Correlate."""
        a, padding = padded(inputs[0], part, self.window)
        return self.kernels.correlated(a, padding), None

    def backward(self, signal: Tensor, kept: Kept, rules: Rules, part: Part) -> tuple[Tensor, ...]:
        """Convolve with the rotated kernel; what would fall on the padding is cut off."""
        top, left, bottom, right = part.margins[0]
        crop = min(top, bottom), min(left, right)
        full = self.kernels.convolved(signal, crop)
        return (laid_out(full, (top - crop[0], left - crop[1]), part.needs[0]),)

    def units(self, a: Tensor, channels: Chosen, part: Part) -> Float[Tensor, "k 1 1 1"]:
        """Return z of one unit of each of k features.

        Args:
            a: what the unit needs of the input, (1, i, h, w) for all or (k, i, h, w).
            channels: the k features; a slice of one, if it is the same for all.
            part: of the unit.
        """
        margins = part.margins[0]
        if margins != NO_MARGINS:
            a = _with_margins(a, margins)
        if self.dilation != (1, 1):
            a = a[:, :, :: self.dilation[0], :: self.dilation[1]]
        kernels = self.kernels
        weight = kernels.weight[channels]
        if self.groups > 1:
            mine = a.reshape(len(a), self.groups, -1, *a.shape[2:])
            group = self._group(channels)
            k = max(len(a), len(group))
            a = mine.expand(k, -1, -1, -1, -1)[torch.arange(k, device=a.device), group]
        z = (a * weight).sum((1, 2, 3), keepdim=True)
        return z if kernels.bias is None else z + kernels.bias[channels].reshape(-1, 1, 1, 1)

    def _group(self, channels: Chosen) -> Tensor:
        first = torch.arange(len(self.weight), device=self.weight.device)[channels]
        return first // (len(self.weight) // self.groups)

    def units_back(self, signal: Tensor, channels: Chosen, part: Part) -> Tensor:
        """Carry back one map of each of k features: signals (k, 1, h, w) to (k, i, h, w).

        It costs one input channel a feature, not all of them.
        """
        weight, k = self.kernels.weight[channels], len(signal)
        if signal.shape[-2:] == (1, 1) and self.dilation == (1, 1):
            full = signal * weight
        else:
            each = [
                F.conv_transpose2d(one, kernel, None, self.stride, 0, 0, 1, self.dilation)
                for one, kernel in zip(
                    torch.split(signal, 1),
                    torch.split(weight.expand(k, -1, -1, -1), 1),
                    strict=True,
                )
            ]
            full = each[0] if k == 1 else torch.cat(each)
        top, left, _, _ = part.margins[0]
        full = laid_out(full, (top, left), part.needs[0])
        if self.groups == 1:
            return full
        spread = full.new_zeros(k, self.groups, *full.shape[1:])
        spread[torch.arange(k, device=full.device), self._group(channels)] = full
        return spread.flatten(1, 2)

    def multiply_adds(self, part: Part) -> int:
        """Count the products."""
        return part.out.height * part.out.width * self.weight.numel()


@dataclass(frozen=True, eq=False)
class TransposedConvolution(Operator):
    """The transpose of a convolution, as decoders and generators use it.

    Its way back is a convolution. The weight has the shape (i, o / groups, kh, kw). A batch
    normalisation that directly follows is part of the kernel.
    """

    weight: Tensor
    bias: Tensor | None
    stride: tuple[int, int]
    padding: tuple[int, int]
    groups: int
    dilation: tuple[int, int]
    norm: BatchNorm | FrozenNorm | None = None
    fresh = True
    fresh_back = True
    linear = True

    @classmethod
    def read(cls, given: Mapping[str, Any]) -> "TransposedConvolution":
        """Read ``aten.conv_transpose2d``."""
        return cls(
            given["weight"],
            given["bias"],
            pair(given["stride"]),
            pair(given["padding"]),
            given["groups"],
            pair(given["dilation"]),
        )

    @property
    def kind(self) -> str:
        """What it is."""
        return "transposed convolution"

    @cached_property
    def merged(self) -> tuple[Tensor, Tensor | None]:
        """The weight and the bias with the normalisation in them."""
        if self.norm is None:
            return self.weight, self.bias
        apart = self._turned(self.weight)  # (g, o / g, i / g, kh, kw)
        weight, bias = self.norm.merged(apart.flatten(0, 1), self.bias)
        return self._turned(weight).flatten(0, 1).contiguous(), bias

    def _turned(self, weight: Tensor) -> Tensor:
        """Swap inputs and outputs within each group."""
        return weight.reshape(self.groups, -1, *weight.shape[1:]).transpose(1, 2)

    def _extent(self, axis: int) -> int:
        return self.dilation[axis] * (int(self.weight.shape[2 + axis]) - 1)

    def reach(self, axis: int, span: Span, sizes: tuple[int, ...]) -> tuple[Span, ...]:
        """Return the inputs x with x s - p + d k = y for a y in the span and a tap k."""
        s, p = self.stride[axis], self.padding[axis]
        first = -((self._extent(axis) - span.start - p) // s)
        last = (span.stop - 1 + p) // s
        return (Span(first, max(first, last + 1)),)

    def nominal(self, axis: int) -> Nominal:
        """Return the fraction of a pixel that an output moves by, and the widest reach."""
        s, p = self.stride[axis], self.padding[axis]
        return Nominal(
            Fraction(1, s), Fraction(p - self._extent(axis), s), Fraction(p, s) + Fraction(1)
        )

    def forward(self, inputs: tuple[Tensor, ...], part: Part) -> tuple[Tensor, None]:
        """Spread each input over the output."""
        (weight, bias), channels = self.merged, self.weight.shape[1] * self.groups
        out = self._spread(inputs[0], weight, self.groups, channels, part)
        return out if bias is None else out + bias.reshape(-1, 1, 1), None

    def _spread(self, a: Tensor, weight: Tensor, groups: int, channels: int, part: Part) -> Tensor:
        if not a.numel():
            return a.new_zeros(len(a), channels, part.out.height, part.out.width)
        full = F.conv_transpose2d(a, weight, None, self.stride, 0, 0, groups, self.dilation)
        return laid_out(full, self._offset(part), part.out)

    def _offset(self, part: Part) -> tuple[int, int]:
        """Return where the part of the output begins within what its inputs spread over."""
        (sy, sx), (py, px), need = self.stride, self.padding, part.needs[0]
        return part.out.top + py - need.top * sy, part.out.left + px - need.left * sx

    def situation(self, axis: int, span: Span) -> int:
        """Return where the span lies between two strides."""
        return (span.start + self.padding[axis]) % self.stride[axis]

    def backward(self, signal: Tensor, kept: Kept, rules: Rules, part: Part) -> tuple[Tensor, ...]:
        """Convolve as the forward pass of a convolution does."""
        return (self._gathered(signal, self.merged[0], self.groups, part),)

    def _gathered(self, signal: Tensor, weight: Tensor, groups: int, part: Part) -> Tensor:
        need, (top, left) = part.needs[0], self._offset(part)
        height = (need.height - 1) * self.stride[0] + self._extent(0) + 1
        width = (need.width - 1) * self.stride[1] + self._extent(1) + 1
        whole = laid_out(signal, (-top, -left), Box(0, 0, height, width))
        return F.conv2d(whole, weight, None, self.stride, 0, self.dilation, groups)

    def units(self, a: Tensor, channels: Chosen, part: Part) -> Float[Tensor, "k 1 1 1"]:
        """Return z of one unit of each of k features; see :meth:`Convolution.units`."""
        chosen = torch.arange(self.weight.shape[1] * self.groups)[_on_processor(channels)].tolist()
        k = max(len(a), len(chosen))
        each = []
        for n in range(k):
            kernel, bias, taken = self._feature(chosen[n % len(chosen)])
            mine = a[n % len(a)][None, taken]
            z = self._spread(mine, kernel, 1, 1, part)
            each.append(z if bias is None else z + bias)
        return each[0] if k == 1 else torch.cat(each)

    def units_back(self, signal: Tensor, channels: Chosen, part: Part) -> Tensor:
        """Carry back one map of each of k features: signals (k, 1, h, w) to (k, i, h, w)."""
        chosen = torch.arange(self.weight.shape[1] * self.groups)[_on_processor(channels)].tolist()
        need, inputs = part.needs[0], len(self.weight)
        back = signal.new_zeros(len(signal), inputs, need.height, need.width)
        for n in range(len(signal)):
            kernel, _, taken = self._feature(chosen[n % len(chosen)])
            back[n, taken] = self._gathered(signal[n : n + 1], kernel, 1, part)[0]
        return back

    def _feature(self, channel: int) -> tuple[Tensor, Tensor | None, slice]:
        """Return the kernel (i, 1, kh, kw) of a feature, its bias, and its input channels."""
        weight, bias = self.merged
        each, inputs = weight.shape[1], len(weight) // self.groups
        group, number = divmod(channel, each)
        taken = slice(group * inputs, (group + 1) * inputs)
        kernel = weight[taken, number : number + 1]
        return kernel, None if bias is None else bias[channel], taken

    def multiply_adds(self, part: Part) -> int:
        """Count the products."""
        need = part.needs[0]
        return need.height * need.width * self.weight.numel()


def _on_processor(channels: Chosen) -> Chosen:
    return channels.cpu() if isinstance(channels, Tensor) else channels


@dataclass(frozen=True, eq=False)
class Linear(Operator):
    """A fully connected layer; on maps with the channels last, one at each position."""

    weight: Tensor
    bias: Tensor | None
    vectors: bool = True
    """Whether its input is one vector an image."""

    where: Axes | None = None
    """Which axes of its input, from the end, are rows and columns."""

    fresh = True
    fresh_back = True
    linear = True

    @classmethod
    def read(cls, given: Mapping[str, Any], where: Axes | None = None) -> "Linear":
        """Read ``aten.linear``."""
        vectors = len(given["input"].meta["val"].shape) == 2
        return cls(given["weight"], given["bias"], vectors, where)

    @property
    def kind(self) -> str:
        """What it is."""
        return "linear"

    @property
    def local(self) -> bool:  # type: ignore[override]
        """Whether it works along the channels, and not along rows or columns."""
        return self.where is None or -1 not in self.where

    def forward(self, inputs: tuple[Tensor, ...], part: Part) -> tuple[Tensor, None]:
        """Multiply and add the bias."""
        return F.linear(inputs[0], self.weight, self.bias), None

    def backward(self, signal: Tensor, kept: Kept, rules: Rules, part: Part) -> tuple[Tensor, ...]:
        """Multiply with the transposed weight."""
        return (signal @ self.weight,)

    def units(self, a: Tensor, channels: Chosen, part: Part) -> Tensor:
        """Return z of one unit of each of k neurons; see :meth:`Convolution.units`."""
        weight = self.weight[channels]
        z = (a * weight.reshape(len(weight), *[1] * (a.ndim - 2), -1)).sum(-1, keepdim=True)
        if self.bias is not None:
            z = z + self.bias[channels].reshape(-1, *[1] * (a.ndim - 1))
        return z.reshape(-1, 1, 1, 1)

    def units_back(self, signal: Tensor, channels: Chosen, part: Part) -> Tensor:
        """Carry back one map (k, 1, h, w) of each of k neurons, to the layout of the input."""
        weight = self.weight[channels]
        if self.vectors:
            return signal.reshape(-1, 1) * weight
        return signal.movedim(1, -1) * weight.reshape(len(weight), 1, 1, -1)

    def multiply_adds(self, part: Part) -> int:
        """Count the products."""
        return part.out.height * part.out.width * self.weight.numel()


LayerOperator = Convolution | TransposedConvolution | Linear
"""What the layers of a network begin with."""


def _with_margins(a: Tensor, margins: Margins, value: float = 0.0) -> Tensor:
    """Put a value around an input, which may have no rows or columns itself."""
    top, left, bottom, right = margins
    if a.numel():
        return F.pad(a, (left, right, top, bottom), value=value)
    height, width = a.shape[-2] + top + bottom, a.shape[-1] + left + right
    return a.new_full((*a.shape[:2], height, width), value)


def padded(
    a: Tensor, part: Part, window: Window, value: float = 0.0
) -> tuple[Tensor, tuple[int, int]]:
    """Return the input of a window with what the call itself has to pad: (vertical, horizontal).

    PyTorch pads equally on both sides; it is left to it where it comes out at the part's size.
    """
    top, left, bottom, right = margins = part.margins[0]
    if margins == NO_MARGINS:
        return a, (0, 0)
    if (
        a.numel()
        and _comes_out(a.shape[-2], top, bottom, part.out.height, window, 0)
        and _comes_out(a.shape[-1], left, right, part.out.width, window, 1)
        and (value == 0 or (2 * top <= window.kernel[0] and 2 * left <= window.kernel[1]))
    ):
        return a, (top, left)
    return _with_margins(a, margins, value), (0, 0)


def _comes_out(size: int, before: int, after: int, out: int, window: Window, axis: int) -> bool:
    room = size + 2 * before - window.extent(axis)
    return before >= after and room >= 0 and room // window.stride[axis] + 1 == out


def laid_out(signal: Tensor, offset: tuple[int, int], box: Box) -> Tensor:
    """Cut or pad with zeros, so that row and column ``offset`` come first, at the box's size."""
    top, left = offset
    below, right = box.height + top - signal.shape[-2], box.width + left - signal.shape[-1]
    if not (top or left or below or right):
        return signal
    return F.pad(signal, (-left, right, -top, below))


def nominal_of(window: Window, axis: int) -> Nominal:
    """Return the reach of a window far from every border."""
    reached = window.reach(axis, Span(0, 1))
    return Nominal(Fraction(window.stride[axis]), Fraction(reached.start), Fraction(reached.stop))
