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
from rot180.graph.operators.conv_kernels import PackedKernels
from rot180.graph.operators.normalisation import BatchNorm, ChannelAffine
from rot180.graph.operators.operator import (
    NO_PADDING,
    Axes,
    InteriorField,
    MethodRules,
    Operator,
    Padding,
    Region,
    Saved,
    pair,
)

ChannelIndex = Tensor | slice
"""Which channels of a layer: an index of several, or a slice of one."""


@dataclass(frozen=True, eq=False)
class Convolution(Operator):
    """What PyTorch calls a convolution: z is the correlation of a with w, plus b.

    The backward pass is the transposed convolution: the full convolution of the signal, dilated by
    the stride, with the kernel. That is the correlation with the kernel rotated by 180 degrees. A
    batch normalisation that directly follows is folded into the kernel.

    Attributes:
        weight: kernel (o, i / groups, kh, kw).
        bias: bias (o), or None.
        stride, dilation, groups: as in PyTorch.
        before: zeros above and on the left; how many there are below and on the right follows from
            the size of the output.
        norm: the normalisation that follows, if any.
    """

    weight: Tensor
    bias: Tensor | None
    stride: tuple[int, int]
    before: tuple[int, int]
    dilation: tuple[int, int]
    groups: int
    norm: BatchNorm | ChannelAffine | None = None
    allocates_output = True
    allocates_signal = True
    linear = True

    @classmethod
    def read(cls, given: Mapping[str, Any]) -> "Convolution":
        """Return that of ``aten.conv2d``; "same" may pad one pixel more after than before."""
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
        """Name of the operator."""
        plain = "convolution"
        if self.groups > 1:
            plain = "depthwise convolution" if self.weight.shape[1] == 1 else "grouped convolution"
        return plain if self.dilation == (1, 1) else f"dilated {plain}"

    @cached_property
    def kernels(self) -> PackedKernels:
        """The kernels, with the normalisation folded in."""
        with torch.no_grad():
            weight, bias = self.weight, self.bias
            if self.norm is not None:
                weight, bias = self.norm.fold_into(weight, bias)
            return PackedKernels(weight, bias, self.stride, self.dilation, self.groups)

    @property
    def window(self) -> Window:
        """The sliding window."""
        kh, kw = self.weight.shape[2:]
        return Window((kh, kw), self.stride, self.before, self.dilation)

    def input_span(self, axis: int, span: Span, sizes: tuple[int, ...]) -> tuple[Span, ...]:
        """Return the span under the window."""
        return (self.window.input_span(axis, span),)

    def interior_field(self, axis: int) -> InteriorField:
        """Return the window's stride and extent."""
        return interior_field_of(self.window, axis)

    def forward(self, inputs: tuple[Tensor, ...], region: Region) -> tuple[Tensor, None]:
        """Correlate with the kernel and add the bias."""
        a, padding = pad_input(inputs[0], region, self.window)
        return self.kernels.forward(a, padding), None

    def backward(
        self, signal: Tensor, saved: Saved, rules: MethodRules, region: Region
    ) -> tuple[Tensor, ...]:
        """Fully convolve with the kernel; what falls on the padding is cut off."""
        top, left, bottom, right = region.padding[0]
        crop = min(top, bottom), min(left, right)
        full = self.kernels.transpose(signal, crop)
        return (crop_or_pad(full, (top - crop[0], left - crop[1]), region.needs[0]),)

    def forward_units(
        self, a: Tensor, channels: ChannelIndex, region: Region
    ) -> Float[Tensor, "k 1 1 1"]:
        """Return z of one unit for each of k features.

        Args:
            a: what the unit needs of the input: (1, i, h, w) for all, or (k, i, h, w).
            channels: the k features; a slice of one, if it is the same for all.
            region: the region of the unit.
        """
        if region.padding[0] != NO_PADDING:
            a = _padded(a, region.padding[0])
        if self.dilation != (1, 1):
            a = a[:, :, :: self.dilation[0], :: self.dilation[1]]
        kernels = self.kernels
        weight = kernels.weight[channels]
        if self.groups > 1:
            grouped = a.reshape(len(a), self.groups, -1, *a.shape[2:])
            group = self._group(channels)
            k = max(len(a), len(group))
            a = grouped.expand(k, -1, -1, -1, -1)[torch.arange(k, device=a.device), group]
        z = (a * weight).sum((1, 2, 3), keepdim=True)
        return z if kernels.bias is None else z + kernels.bias[channels].reshape(-1, 1, 1, 1)

    def _group(self, channels: ChannelIndex) -> Tensor:
        numbers = torch.arange(len(self.weight), device=self.weight.device)[channels]
        return numbers // (len(self.weight) // self.groups)

    def backward_units(self, signal: Tensor, channels: ChannelIndex, region: Region) -> Tensor:
        """Return the signals (k, i, h, w) at the input for one map (k, 1, h, w) of k features.

        The cost is that of one output channel a feature, not of all of them.
        """
        weight, k = self.kernels.weight[channels], len(signal)
        if signal.shape[-2:] == (1, 1) and self.dilation == (1, 1):
            full = signal * weight
        else:
            each = [
                F.conv_transpose2d(one_map, kernel, None, self.stride, 0, 0, 1, self.dilation)
                for one_map, kernel in zip(
                    torch.split(signal, 1),
                    torch.split(weight.expand(k, -1, -1, -1), 1),
                    strict=True,
                )
            ]
            full = each[0] if k == 1 else torch.cat(each)
        top, left, _, _ = region.padding[0]
        full = crop_or_pad(full, (top, left), region.needs[0])
        if self.groups == 1:
            return full
        all_groups = full.new_zeros(k, self.groups, *full.shape[1:])
        all_groups[torch.arange(k, device=full.device), self._group(channels)] = full
        return all_groups.flatten(1, 2)

    def macs(self, region: Region) -> int:
        """Count the products."""
        return region.out.height * region.out.width * self.weight.numel()


@dataclass(frozen=True, eq=False)
class TransposedConvolution(Operator):
    """The transpose of a convolution, as decoders and generators use it.

    Its backward pass is a convolution. A batch normalisation that directly follows is folded into
    the kernel.

    Attributes:
        weight: kernel (i, o / groups, kh, kw).
        bias: bias (o), or None.
        stride, padding, groups, dilation: as in PyTorch.
        norm: the normalisation that follows, if any.
    """

    weight: Tensor
    bias: Tensor | None
    stride: tuple[int, int]
    padding: tuple[int, int]
    groups: int
    dilation: tuple[int, int]
    norm: BatchNorm | ChannelAffine | None = None
    allocates_output = True
    allocates_signal = True
    linear = True

    @classmethod
    def read(cls, given: Mapping[str, Any]) -> "TransposedConvolution":
        """Return that of ``aten.conv_transpose2d``."""
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
        """Name of the operator."""
        return "transposed convolution"

    @cached_property
    def folded(self) -> tuple[Tensor, Tensor | None]:
        """The weight and the bias, with the normalisation folded in."""
        if self.norm is None:
            return self.weight, self.bias
        grouped = self._swapped(self.weight)  # (g, o / g, i / g, kh, kw)
        weight, bias = self.norm.fold_into(grouped.flatten(0, 1), self.bias)
        return self._swapped(weight).flatten(0, 1).contiguous(), bias

    def _swapped(self, weight: Tensor) -> Tensor:
        """Return a weight with inputs and outputs swapped within each group."""
        return weight.reshape(self.groups, -1, *weight.shape[1:]).transpose(1, 2)

    def _extent(self, axis: int) -> int:
        return self.dilation[axis] * (int(self.weight.shape[2 + axis]) - 1)

    def input_span(self, axis: int, span: Span, sizes: tuple[int, ...]) -> tuple[Span, ...]:
        """Return the inputs x with x s - p + d k = y for some y in the span and some k."""
        s, p = self.stride[axis], self.padding[axis]
        first = -((self._extent(axis) - span.start - p) // s)
        last = (span.stop - 1 + p) // s
        return (Span(first, max(first, last + 1)),)

    def interior_field(self, axis: int) -> InteriorField:
        """Return the scale 1 / stride, and the widest span of inputs."""
        s, p = self.stride[axis], self.padding[axis]
        return InteriorField(
            Fraction(1, s), Fraction(p - self._extent(axis), s), Fraction(p, s) + Fraction(1)
        )

    def forward(self, inputs: tuple[Tensor, ...], region: Region) -> tuple[Tensor, None]:
        """Add each input times the kernel to the output."""
        (weight, bias), channels = self.folded, self.weight.shape[1] * self.groups
        out = self._transpose(inputs[0], weight, self.groups, channels, region)
        return out if bias is None else out + bias.reshape(-1, 1, 1), None

    def _transpose(
        self, a: Tensor, weight: Tensor, groups: int, channels: int, region: Region
    ) -> Tensor:
        if not a.numel():
            return a.new_zeros(len(a), channels, region.out.height, region.out.width)
        full = F.conv_transpose2d(a, weight, None, self.stride, 0, 0, groups, self.dilation)
        return crop_or_pad(full, self._offset(region), region.out)

    def _offset(self, region: Region) -> tuple[int, int]:
        """Return where the output's region begins in the transposed convolution of its inputs."""
        (sy, sx), (py, px), need = self.stride, self.padding, region.needs[0]
        return region.out.top + py - need.top * sy, region.out.left + px - need.left * sx

    def alignment(self, axis: int, span: Span) -> int:
        """Return the position of the span's start between two strides."""
        return (span.start + self.padding[axis]) % self.stride[axis]

    def backward(
        self, signal: Tensor, saved: Saved, rules: MethodRules, region: Region
    ) -> tuple[Tensor, ...]:
        """Correlate with the kernel, as the forward pass of a convolution does."""
        return (self._correlate(signal, self.folded[0], self.groups, region),)

    def _correlate(self, signal: Tensor, weight: Tensor, groups: int, region: Region) -> Tensor:
        need, (top, left) = region.needs[0], self._offset(region)
        height = (need.height - 1) * self.stride[0] + self._extent(0) + 1
        width = (need.width - 1) * self.stride[1] + self._extent(1) + 1
        full = crop_or_pad(signal, (-top, -left), Box(0, 0, height, width))
        return F.conv2d(full, weight, None, self.stride, 0, self.dilation, groups)

    def forward_units(
        self, a: Tensor, channels: ChannelIndex, region: Region
    ) -> Float[Tensor, "k 1 1 1"]:
        """Return z of one unit for each of k features; see :meth:`Convolution.forward_units`."""
        chosen = torch.arange(self.weight.shape[1] * self.groups)[_on_processor(channels)].tolist()
        k = max(len(a), len(chosen))
        each = []
        for n in range(k):
            kernel, bias, inputs = self._feature(chosen[n % len(chosen)])
            z = self._transpose(a[n % len(a)][None, inputs], kernel, 1, 1, region)
            each.append(z if bias is None else z + bias)
        return each[0] if k == 1 else torch.cat(each)

    def backward_units(self, signal: Tensor, channels: ChannelIndex, region: Region) -> Tensor:
        """Return the signals (k, i, h, w) at the input for one map (k, 1, h, w) of k features."""
        chosen = torch.arange(self.weight.shape[1] * self.groups)[_on_processor(channels)].tolist()
        need = region.needs[0]
        back = signal.new_zeros(len(signal), len(self.weight), need.height, need.width)
        for n in range(len(signal)):
            kernel, _, inputs = self._feature(chosen[n % len(chosen)])
            back[n, inputs] = self._correlate(signal[n : n + 1], kernel, 1, region)[0]
        return back

    def _feature(self, channel: int) -> tuple[Tensor, Tensor | None, slice]:
        """Return the kernel (i, 1, kh, kw) of a feature, its bias, and its input channels."""
        weight, bias = self.folded
        outputs, inputs = weight.shape[1], len(weight) // self.groups
        group, number = divmod(channel, outputs)
        group_inputs = slice(group * inputs, (group + 1) * inputs)
        kernel = weight[group_inputs, number : number + 1]
        return kernel, None if bias is None else bias[channel], group_inputs

    def macs(self, region: Region) -> int:
        """Count the products."""
        need = region.needs[0]
        return need.height * need.width * self.weight.numel()


def _on_processor(channels: ChannelIndex) -> ChannelIndex:
    return channels.cpu() if isinstance(channels, Tensor) else channels


@dataclass(frozen=True, eq=False)
class Linear(Operator):
    """A fully connected layer; on maps with the channels last, one at each position.

    Attributes:
        weight: weight (o, i).
        bias: bias (o), or None.
        vectors: whether its input is one vector an image.
        map_axes: the input's axes of rows and columns, counted from the end; None where there are
            none.
    """

    weight: Tensor
    bias: Tensor | None
    vectors: bool = True
    map_axes: Axes | None = None

    allocates_output = True
    allocates_signal = True
    linear = True

    @classmethod
    def read(cls, given: Mapping[str, Any], map_axes: Axes | None = None) -> "Linear":
        """Return that of ``aten.linear``."""
        vectors = len(given["input"].meta["val"].shape) == 2
        return cls(given["weight"], given["bias"], vectors, map_axes)

    @property
    def kind(self) -> str:
        """Name of the operator."""
        return "linear"

    @property
    def local(self) -> bool:  # type: ignore[override]
        """Whether it acts along the channels and not along rows or columns."""
        return self.map_axes is None or -1 not in self.map_axes

    def forward(self, inputs: tuple[Tensor, ...], region: Region) -> tuple[Tensor, None]:
        """Multiply by the weight and add the bias."""
        return F.linear(inputs[0], self.weight, self.bias), None

    def backward(
        self, signal: Tensor, saved: Saved, rules: MethodRules, region: Region
    ) -> tuple[Tensor, ...]:
        """Multiply by the transposed weight."""
        return (signal @ self.weight,)

    def forward_units(self, a: Tensor, channels: ChannelIndex, region: Region) -> Tensor:
        """Return z of one unit for each of k neurons; see :meth:`Convolution.forward_units`."""
        weight = self.weight[channels]
        z = (a * weight.reshape(len(weight), *[1] * (a.ndim - 2), -1)).sum(-1, keepdim=True)
        if self.bias is not None:
            z = z + self.bias[channels].reshape(-1, *[1] * (a.ndim - 1))
        return z.reshape(-1, 1, 1, 1)

    def backward_units(self, signal: Tensor, channels: ChannelIndex, region: Region) -> Tensor:
        """Return the signals at the input, in its layout, for one map (k, 1, h, w) of k neurons."""
        weight = self.weight[channels]
        if self.vectors:
            return signal.reshape(-1, 1) * weight
        return signal.movedim(1, -1) * weight.reshape(len(weight), 1, 1, -1)

    def macs(self, region: Region) -> int:
        """Count the products."""
        return region.out.height * region.out.width * self.weight.numel()


LayerOperator = Convolution | TransposedConvolution | Linear
"""The operators that a layer begins with."""


def _padded(a: Tensor, padding: Padding, value: float = 0.0) -> Tensor:
    """Return an input with a value around it; it may have no rows or columns itself."""
    top, left, bottom, right = padding
    if a.numel():
        return F.pad(a, (left, right, top, bottom), value=value)
    height, width = a.shape[-2] + top + bottom, a.shape[-1] + left + right
    return a.new_full((*a.shape[:2], height, width), value)


def pad_input(
    a: Tensor, region: Region, window: Window, value: float = 0.0
) -> tuple[Tensor, tuple[int, int]]:
    """Return the input of a sliding window, and the padding (vertical, horizontal) of the call.

    PyTorch's calls pad equally on both sides. Where that gives an output of the region's size, the
    call pads; elsewhere the input is padded here.
    """
    top, left, bottom, right = padding = region.padding[0]
    if padding == NO_PADDING:
        return a, (0, 0)
    if (
        a.numel()
        and _fits(a.shape[-2], top, bottom, region.out.height, window, 0)
        and _fits(a.shape[-1], left, right, region.out.width, window, 1)
        and (value == 0 or (2 * top <= window.kernel[0] and 2 * left <= window.kernel[1]))
    ):
        return a, (top, left)
    return _padded(a, padding, value), (0, 0)


def _fits(size: int, before: int, after: int, out: int, window: Window, axis: int) -> bool:
    room = size + 2 * before - window.extent(axis)
    return before >= after and room >= 0 and room // window.stride[axis] + 1 == out


def crop_or_pad(signal: Tensor, offset: tuple[int, int], box: Box) -> Tensor:
    """Return what begins at ``offset``, at the box's size: cropped, or padded with zeros."""
    top, left = offset
    below, right = box.height + top - signal.shape[-2], box.width + left - signal.shape[-1]
    if not (top or left or below or right):
        return signal
    return F.pad(signal, (-left, right, -top, below))


def interior_field_of(window: Window, axis: int) -> InteriorField:
    """Return the interior field of a sliding window."""
    span = window.input_span(axis, Span(0, 1))
    return InteriorField(Fraction(window.stride[axis]), Fraction(span.start), Fraction(span.stop))
