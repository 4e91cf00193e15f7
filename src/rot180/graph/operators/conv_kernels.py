"""The kernels of a convolution as they are multiplied: normalised, rotated, packed.

A batch normalisation that directly follows a convolution is a factor and an offset for each of its
channels, so it is merged into the kernel and the bias. The way back is the correlation with the
rotated kernel, which on a processor is faster than PyTorch's transposed convolution, above all on
the small maps of a receptive field; larger products use oneDNN's packed kernels, the layout that it
would otherwise make anew in each call. All of it is made once and kept.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

_FEW_PRODUCTS, _FEW_WEIGHTS = 4_500_000, 200_000
"""Below both of these a packed kernel does not pay for the longer call."""

_TYPICAL = (56, 56)
"""Rows and columns that a kernel is packed for; what is packed for tiny maps suits no others."""

_LARGE_MATRIX = 1_000_000
"""Weights from which a kernel of one position is faster as a matrix."""


class Kernels:
    """The kernels made from a weight (o, i, kh, kw), a bias, and the factor of a normalisation.

    Args:
        weight, bias: normalised; the bias may be None.
        stride, dilation, groups: of the convolution.
    """

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor | None,
        stride: tuple[int, int],
        dilation: tuple[int, int],
        groups: int,
    ) -> None:
        self.stride, self.dilation, self.groups = stride, dilation, groups
        on_processor = weight.device.type == "cpu"
        layout = torch.channels_last if on_processor else torch.contiguous_format
        self.weight, self.bias = weight.contiguous(memory_format=layout), bias
        self._values = weight.numel()
        self._border = tuple(
            d * (k - 1) for d, k in zip(self.dilation, weight.shape[2:], strict=True)
        )
        self._turns = on_processor and self.groups == 1 and self.stride == (1, 1)
        self._rotated: Tensor | None = None
        self._packed: dict[str, Tensor] = {}
        one_position = weight.shape[2:] == (1, 1)
        self._is_matrix = (
            on_processor
            and one_position
            and self.groups == 1
            and self.stride == (1, 1)
            and self._values >= _LARGE_MATRIX
        )
        self._one_library = (
            on_processor
            and weight.dtype == torch.float32
            and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
            and hasattr(torch.ops.mkldnn, "_convolution_pointwise")
        )
        # What is packed of a kernel of one position suits one size of maps only.
        self._packs = self._one_library and not one_position and self.groups == 1

    @property
    def rotated(self) -> Tensor:
        """The weight (i, o, kh, kw), rotated by 180 degrees, of a convolution without groups."""
        if self._rotated is None:
            turned = self.weight.flip(2, 3).transpose(0, 1)
            self._rotated = turned.contiguous(memory_format=torch.channels_last)
        return self._rotated

    def correlated(self, a: Tensor, padding: tuple[int, int]) -> Tensor:
        """Correlate an input (n, i, h, w) with the kernel and add the bias."""
        weight, bias = self.weight, self.bias
        if self._is_matrix and padding == (0, 0):
            return _multiplied(a, weight, bias)
        if self._packs and self._pays(a, self.stride[0] * self.stride[1]):
            return self._packed_call("forward", a, weight, bias, self.stride, padding)
        return F.conv2d(a, weight, bias, self.stride, padding, self.dilation, self.groups)

    @property
    def can_rectify(self) -> bool:
        """Whether :meth:`rectified` can be called."""
        return self._one_library

    def rectified(
        self, a: Tensor, padding: tuple[int, int], rectifier: str, bounds: list[float]
    ) -> Tensor:
        """Correlate, add the bias and rectify in one call; for many inputs of one size.

        Args:
            a: the input (n, i, h, w).
            padding: zeros on each side.
            rectifier, bounds: as oneDNN calls it.
        """
        key = f"{padding} of {tuple(a.shape[2:])}"
        if key not in self._packed:
            self._packed[key] = torch.ops.mkldnn._reorder_convolution_weight.default(
                self.weight, padding, self.stride, self.dilation, self.groups, list(a.shape)
            )
        found: Tensor = torch.ops.mkldnn._convolution_pointwise.default(
            a.contiguous(memory_format=torch.channels_last),
            self._packed[key],
            self.bias,
            padding,
            self.stride,
            self.dilation,
            self.groups,
            rectifier,
            bounds,
            "",
        )
        return found

    def convolved(self, signal: Tensor, crop: tuple[int, int]) -> Tensor:
        """Fully convolve a signal (n, o, h, w) with the kernel; cut ``crop`` off on each side."""
        padding = (self._border[0] - crop[0], self._border[1] - crop[1])
        if not self._turns or min(padding) < 0:
            return F.conv_transpose2d(
                signal, self.weight, None, self.stride, crop, 0, self.groups, self.dilation
            )
        if self._is_matrix and padding == (0, 0):
            return _multiplied(signal, self.rotated, None)
        if self._packs and self._pays(signal, 1):
            return self._packed_call("backward", signal, self.rotated, None, (1, 1), padding)
        return F.conv2d(signal, self.rotated, None, 1, padding, self.dilation)

    def _pays(self, x: Tensor, stride: int) -> bool:
        """Say whether a packed kernel is worth the longer call."""
        if self._values >= _FEW_WEIGHTS:
            return True
        n, _, height, width = x.shape
        return bool(n * height * width * self._values >= _FEW_PRODUCTS * stride)

    def _packed_call(
        self,
        way: str,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        stride: tuple[int, int],
        padding: tuple[int, int],
    ) -> Tensor:
        if way not in self._packed:
            self._packed[way] = torch.ops.mkldnn._reorder_convolution_weight.default(
                weight, padding, stride, self.dilation, 1, [1, x.shape[1], *_TYPICAL]
            )
        found: Tensor = torch.ops.mkldnn._convolution_pointwise.default(
            x.contiguous(memory_format=torch.channels_last),
            self._packed[way],
            bias,
            padding,
            stride,
            self.dilation,
            1,
            "none",
            [],
            "",
        )
        return found


def _multiplied(a: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Multiply each position (n, i, h, w) with a kernel of one position (o, i, 1, 1)."""
    return F.linear(a.movedim(1, -1), weight.flatten(1), bias).movedim(-1, 1)
