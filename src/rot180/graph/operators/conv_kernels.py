"""The kernels of a convolution in the forms in which they are fast: rotated, packed, as a matrix.

The backward pass is the correlation with the rotated kernel. On a CPU that is faster than PyTorch's
transposed convolution, above all on the small maps of a receptive field. Larger products use
kernels that are packed for oneDNN, which it would otherwise pack anew in each call. Each form is
made once and cached.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

_FEW_PRODUCTS, _FEW_WEIGHTS = 4_500_000, 200_000
"""Below both of these a packed kernel is not worth its longer call."""

_TYPICAL = (56, 56)
"""Rows and columns that a kernel is packed for; one packed for tiny maps suits no others."""

_LARGE_MATRIX = 1_000_000
"""Number of weights from which a kernel of one position is faster as a matrix."""


class PackedKernels:
    """The kernels of one convolution.

    Args:
        weight: kernel (o, i, kh, kw), with the factors of a normalisation in it.
        bias: bias (o), with the offsets of a normalisation in it; may be None.
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
        self._size = weight.numel()
        self._border = tuple(
            d * (k - 1) for d, k in zip(self.dilation, weight.shape[2:], strict=True)
        )
        self._rotates = on_processor and self.groups == 1 and self.stride == (1, 1)
        self._rotated: Tensor | None = None
        self._packed: dict[str, Tensor] = {}
        one_position = weight.shape[2:] == (1, 1)
        self._is_matrix = (
            on_processor
            and one_position
            and self.groups == 1
            and self.stride == (1, 1)
            and self._size >= _LARGE_MATRIX
        )
        self._has_onednn = (
            on_processor
            and weight.dtype == torch.float32
            and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
            and hasattr(torch.ops.mkldnn, "_convolution_pointwise")
        )
        # A packed kernel of one position suits one size of maps only.
        self._packs = self._has_onednn and not one_position and self.groups == 1

    @property
    def rotated(self) -> Tensor:
        """The weight (i, o, kh, kw), rotated by 180 degrees, of a convolution without groups."""
        if self._rotated is None:
            rotated = self.weight.flip(2, 3).transpose(0, 1)
            self._rotated = rotated.contiguous(memory_format=torch.channels_last)
        return self._rotated

    def forward(self, a: Tensor, padding: tuple[int, int]) -> Tensor:
        """Return an input (n, i, h, w) correlated with the kernel, plus the bias."""
        weight, bias = self.weight, self.bias
        if self._is_matrix and padding == (0, 0):
            return _multiplied(a, weight, bias)
        if self._packs and self._pays(a, self.stride[0] * self.stride[1]):
            return self._packed_call("forward", a, weight, bias, self.stride, padding)
        return F.conv2d(a, weight, bias, self.stride, padding, self.dilation, self.groups)

    @property
    def can_rectify(self) -> bool:
        """Whether :meth:`forward_rectified` can be called."""
        return self._has_onednn

    def forward_rectified(
        self, a: Tensor, padding: tuple[int, int], rectifier: str, bounds: list[float]
    ) -> Tensor:
        """Return the rectified output of the convolution in one call, for many inputs of one size.

        Args:
            a: the input (n, i, h, w).
            padding: zeros on each side.
            rectifier: name of the rectifier in oneDNN.
            bounds: its bounds there.
        """
        key = f"{padding} of {tuple(a.shape[2:])}"
        if key not in self._packed:
            self._packed[key] = torch.ops.mkldnn._reorder_convolution_weight.default(
                self.weight, padding, self.stride, self.dilation, self.groups, list(a.shape)
            )
        output: Tensor = torch.ops.mkldnn._convolution_pointwise.default(
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
        return output

    def transpose(self, signal: Tensor, crop: tuple[int, int]) -> Tensor:
        """Return the full convolution of a signal (n, o, h, w), less ``crop`` on each side."""
        padding = (self._border[0] - crop[0], self._border[1] - crop[1])
        if not self._rotates or min(padding) < 0:
            return F.conv_transpose2d(
                signal, self.weight, None, self.stride, crop, 0, self.groups, self.dilation
            )
        if self._is_matrix and padding == (0, 0):
            return _multiplied(signal, self.rotated, None)
        if self._packs and self._pays(signal, 1):
            return self._packed_call("backward", signal, self.rotated, None, (1, 1), padding)
        return F.conv2d(signal, self.rotated, None, 1, padding, self.dilation)

    def _pays(self, x: Tensor, stride: int) -> bool:
        """Say whether a packed kernel is worth its longer call."""
        if self._size >= _FEW_WEIGHTS:
            return True
        n, _, height, width = x.shape
        return bool(n * height * width * self._size >= _FEW_PRODUCTS * stride)

    def _packed_call(
        self,
        direction: str,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        stride: tuple[int, int],
        padding: tuple[int, int],
    ) -> Tensor:
        if direction not in self._packed:
            self._packed[direction] = torch.ops.mkldnn._reorder_convolution_weight.default(
                weight, padding, stride, self.dilation, 1, [1, x.shape[1], *_TYPICAL]
            )
        output: Tensor = torch.ops.mkldnn._convolution_pointwise.default(
            x.contiguous(memory_format=torch.channels_last),
            self._packed[direction],
            bias,
            padding,
            stride,
            self.dilation,
            1,
            "none",
            [],
            "",
        )
        return output


def _multiplied(a: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Multiply each position (n, i, h, w) by a kernel of one position (o, i, 1, 1)."""
    return F.linear(a.movedim(1, -1), weight.flatten(1), bias).movedim(-1, 1)
