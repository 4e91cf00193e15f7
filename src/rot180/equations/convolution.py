"""The convolution of a network and its two gradients, each written as its equation.

Everything rests on one sum, the cross-correlation. The other functions rotate kernels, dilate
errors, and swap axes. ``rot180.equations.fast`` computes the same numbers faster.

========  =========================  ==========================================================
array     shape                      meaning
========  =========================  ==========================================================
a         (n, c, h, w)               activations: images, channels, rows, columns
w         (f, c / groups, kh, kw)    kernels: features, channels, rows, columns
z         (n, f, y, x)               weighted inputs of the next layer
delta     shape of z                 the error dC/dz
========  =========================  ==========================================================

Write * for the convolution and rot180(w) for a kernel rotated by 180 degrees. A layer may use
either operation in its forward pass. The backward pass then slides the kernel the other way round,
so that the rotation appears in exactly one of the two:

===================  ==================  =====================================================
forward              kernel in the       error of the input, a *full* convolution
                     forward pass
===================  ==================  =====================================================
z = w * a            rotated             (delta * rot180(w)): slide the kernel as it is
z = corr(w, a)       as it is            (delta * w): slide the rotated kernel
===================  ==================  =====================================================

Why rotated? In a correlation z[y] takes a[y + i] with weight w[i]. So a[x] goes into z[x - i], by
that same w[i]: what lies i steps ahead in the forward pass lies i steps behind in the backward
pass.
"""

from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from rot180.equations.padding import (
    Padding,
    PadWidth,
    check_groups,
    out_size,
    pair,
    resolve_padding,
)
from rot180.errors import Rot180Error

Array = NDArray[Any]


def rot180(w: Array) -> Array:
    """Rotate kernels by 180 degrees: reverse rows and columns, the last two axes.

    Example:
        >>> import numpy as np
        >>> from rot180.equations import rot180
        >>> rot180(np.arange(6).reshape(2, 3))
        array([[5, 4, 3],
               [2, 1, 0]])
    """
    return w[..., ::-1, ::-1]


def correlation(
    a: Array,
    w: Array,
    stride: int | tuple[int, int] = 1,
    padding: Padding = "valid",
    groups: int = 1,
) -> Array:
    """Cross-correlate: z[n,f,y,x] = sum of w[f,c,i,j] a[n,c,sy+i,sx+j] over c, i, j.

    This is what PyTorch's ``Conv2d`` computes. For one channel, one feature and stride 1 it is
    z[y,x] = sum of w[i,j] a[y+i,x+j].

    Args:
        a: (n, c, h, w), activations.
        w: (f, c / groups, kh, kw), kernels.
        stride: distance s of neighbouring windows in (rows, columns).
        padding: rows and columns of zeros around a: "valid" (none), "same" (z is as large as a;
            an odd row or column goes to the bottom or right), "full" (every position at which the
            kernel touches a), one number for all sides, two numbers (rows, columns), or
            ((top, bottom), (left, right)).
        groups: number of groups; a feature takes the channels of its own group.

    Returns:
        (n, f, y, x), weighted inputs.

    Raises:
        Rot180Error: shapes do not match, or the kernel is larger than the padded image.

    Example:
        >>> import numpy as np
        >>> from rot180.equations.convolution import correlation
        >>> a = np.arange(9.0).reshape(1, 1, 3, 3)
        >>> w = np.array([[[[0.0, 1.0], [0.0, 0.0]]]])  # takes the pixel to the right
        >>> correlation(a, w)[0, 0]
        array([[1., 2.],
               [4., 5.]])
    """
    n, f, group_channels = check_shapes(a, w, groups)
    stride, size = pair(stride, "stride"), w.shape[2:]
    pad_width = resolve_padding(padding, size, stride)
    y, x = out_size(a.shape[2:], size, stride, pad_width)
    windows = sliding_window_view(padded(a, pad_width), size, axis=(2, 3))
    windows = windows[:, :, :: stride[0], :: stride[1]]
    windows = windows.reshape(n, groups, group_channels, y, x, *size)
    kernels = w.reshape(groups, f // groups, *w.shape[1:])
    z: Array = np.einsum("ngcyxij,gfcij->ngfyx", windows, kernels)
    return z.reshape(n, f, y, x)


def convolution(
    a: Array,
    w: Array,
    stride: int | tuple[int, int] = 1,
    padding: Padding = "valid",
    groups: int = 1,
) -> Array:
    """Convolve, w * a: the cross-correlation with the rotated kernel.

    For one channel, one feature, stride 1 and "full" padding it is z[y,x] = sum of
    w[i,j] a[y-i,x-j]. The arguments are those of :func:`correlation`; with padding "same" an odd
    row or column of zeros goes to the top or left, since the kernel is rotated.

    Example:
        >>> import numpy as np
        >>> from rot180.equations.convolution import convolution
        >>> a = np.zeros((1, 1, 2, 2))
        >>> a[0, 0, 0, 1] = 1  # a convolution puts a copy of the kernel there
        >>> w = np.arange(1.0, 5.0).reshape(1, 1, 2, 2)
        >>> convolution(a, w, padding="full")[0, 0]
        array([[0., 1., 2.],
               [0., 3., 4.],
               [0., 0., 0.]])
    """
    check_axes(a, w)
    pad_width = resolve_padding(padding, w.shape[2:], pair(stride, "stride"), rotated=True)
    return correlation(a, rot180(w), stride, pad_width, groups)


def correlation_error(
    delta: Array,
    w: Array,
    input_size: tuple[int, int],
    stride: int | tuple[int, int] = 1,
    padding: Padding = "valid",
    groups: int = 1,
) -> Array:
    """Return dC/da for z = correlation(a, w): the full convolution delta * w.

    The error is dilated (stride - 1 zeros between neighbours) and convolved with the kernels, whose
    features and channels swap roles; the border that padding has added is cut off. For one channel
    and stride 1 it is dC/da[y,x] = sum of w[i,j] delta[y-i,x-j].

    Args:
        delta: (n, f, y, x), dC/dz.
        w: (f, c / groups, kh, kw), kernels.
        input_size: (h, w) of the activations.
        stride, padding, groups: arguments of the forward pass.

    Returns:
        (n, c, h, w), dC/da.

    Raises:
        Rot180Error: shapes do not match.
    """
    check_axes(delta, w)
    check_groups(groups * w.shape[1], len(w), groups)
    stride = pair(stride, "stride")
    pad_width = resolve_padding(padding, w.shape[2:], stride)
    output_size = out_size(input_size, w.shape[2:], stride, pad_width)
    check_error(delta, (len(delta), len(w), *output_size))
    full = convolution(dilated(delta, stride), swap_in_out(w, groups), 1, "full", groups)
    (top, bottom), (left, right) = pad_width
    height, width = input_size
    error = np.zeros((*full.shape[:2], height + top + bottom, width + left + right), full.dtype)
    error[..., : full.shape[-2], : full.shape[-1]] = full  # pixels without a window stay zero
    return error[..., top : top + height, left : left + width]


def convolution_error(
    delta: Array,
    w: Array,
    input_size: tuple[int, int],
    stride: int | tuple[int, int] = 1,
    padding: Padding = "valid",
    groups: int = 1,
) -> Array:
    """Return dC/da for z = w * a: the full convolution delta * rot180(w).

    For one channel, stride 1 and "full" padding it is dC/da[y,x] = sum of w[i,j] delta[y+i,x+j].
    The arguments are those of :func:`correlation_error`.
    """
    check_axes(delta, w)
    pad_width = resolve_padding(padding, w.shape[2:], pair(stride, "stride"), rotated=True)
    return correlation_error(delta, rot180(w), input_size, stride, pad_width, groups)


def correlation_gradient(
    a: Array,
    delta: Array,
    kernel_size: tuple[int, int],
    stride: int | tuple[int, int] = 1,
    padding: Padding = "valid",
    groups: int = 1,
) -> Array:
    """Return dC/dw for z = correlation(a, w): the activations correlated with the dilated error.

    A weight is used at every position of every image, so its gradient is a sum over both: for one
    channel and stride 1, dC/dw[i,j] = sum of delta[y,x] a[y+i,x+j]. A correlation sums over its
    channels; here the images take their place.

    Args:
        a: (n, c, h, w), activations.
        delta: (n, f, y, x), dC/dz.
        kernel_size: (kh, kw) of the kernels.
        stride, padding, groups: arguments of the forward pass.

    Returns:
        (f, c / groups, kh, kw), dC/dw.

    Raises:
        Rot180Error: shapes do not match.
    """
    check_axes(a, delta)
    n, c, f = len(a), a.shape[1], delta.shape[1]
    check_groups(c, f, groups)
    stride = pair(stride, "stride")
    pad_width = resolve_padding(padding, kernel_size, stride)
    check_error(delta, (n, f, *out_size(a.shape[2:], kernel_size, stride, pad_width)))
    images = padded(a, pad_width)
    images = images.reshape(n, groups, c // groups, *images.shape[2:]).transpose(2, 1, 0, 3, 4)
    images = images.reshape(c // groups, groups * n, *images.shape[3:])
    kernels = dilated(delta, stride).transpose(1, 0, 2, 3)
    gradient = correlation(images, kernels, groups=groups).transpose(1, 0, 2, 3)
    return gradient[..., : kernel_size[0], : kernel_size[1]]


def convolution_gradient(
    a: Array,
    delta: Array,
    kernel_size: tuple[int, int],
    stride: int | tuple[int, int] = 1,
    padding: Padding = "valid",
    groups: int = 1,
) -> Array:
    """Return dC/dw for z = w * a: the convolution delta * rot180(a).

    For one channel, stride 1 and "full" padding it is dC/dw[i,j] = sum of delta[y,x] a[y-i,x-j].
    The arguments are those of :func:`correlation_gradient`.
    """
    pad_width = resolve_padding(padding, kernel_size, pair(stride, "stride"), rotated=True)
    return rot180(correlation_gradient(a, delta, kernel_size, stride, pad_width, groups))


def bias_gradient(delta: Array) -> Array:
    """Return dC/db (f,): a bias is added at every position, so its gradient sums their errors."""
    check_axes(delta)
    total: Array = delta.sum((0, 2, 3))
    return total


def padded(a: Array, pad_width: PadWidth) -> Array:
    """Return a with rows and columns of zeros around it."""
    return np.pad(a, ((0, 0), (0, 0), *pad_width))


def dilated(delta: Array, stride: tuple[int, int]) -> Array:
    """Return delta with stride - 1 zeros between neighbours, one for each skipped position."""
    *rest, y, x = delta.shape
    height, width = (y - 1) * stride[0] + 1, (x - 1) * stride[1] + 1
    result = np.zeros((*rest, height, width), delta.dtype)
    result[..., :: stride[0], :: stride[1]] = delta
    return result


def swap_in_out(w: Array, groups: int = 1) -> Array:
    """Swap features and channels in each group: (f, c / groups, …) becomes (c, f / groups, …)."""
    f, c, *size = w.shape
    return w.reshape(groups, f // groups, c, *size).swapaxes(1, 2).reshape(-1, f // groups, *size)


def check_axes(*arrays: Array) -> None:
    """Check that arrays have four axes.

    Raises:
        Rot180Error: they do not.
    """
    if any(array.ndim != 4 for array in arrays):
        raise Rot180Error(
            "Activations and errors are (images, channels, height, width) and kernels (features, "
            "channels, height, width); what was given is of shape "
            f"{' and '.join(str(array.shape) for array in arrays)}."
        )


def check_shapes(a: Array, w: Array, groups: int) -> tuple[int, int, int]:
    """Return (n, f, c / groups).

    Raises:
        Rot180Error: the shapes do not match.
    """
    check_axes(a, w)
    n, c, f = a.shape[0], a.shape[1], w.shape[0]
    if n == 0:
        raise Rot180Error("There are no images.")
    check_groups(c, f, groups)
    if w.shape[1] * groups != c:
        raise Rot180Error(
            f"The kernels, of shape {w.shape}, take {w.shape[1] * groups} channels"
            f"{f' in {groups} groups' if groups > 1 else ''}; the activations, of shape {a.shape}, "
            f"have {c}."
        )
    return n, f, c // groups


def check_error(delta: Array, shape: tuple[int, ...]) -> None:
    """Check that an error has the shape of the output that it belongs to.

    Raises:
        Rot180Error: it has another shape.
    """
    if delta.shape != shape:
        raise Rot180Error(
            f"The error is of shape {delta.shape}, but its output is of shape {shape}. Go forward "
            "first, with the same images."
        )
