"""The convolution of a network and its two gradients, each as its equation stands.

Everything here rests on one sum, the cross-correlation; the rest turns kernels, dilates errors and
exchanges axes. Written for reading: ``rot180.equations.fast`` computes the same numbers fast.

========  =========================  ==========================================================
array     shape                      what
========  =========================  ==========================================================
a         (n, c, h, w)               activations: images, channels, rows, columns
w         (f, c / groups, kh, kw)    kernels: features, channels, rows, columns
z         (n, f, y, x)               weighted inputs of the next layer
delta     as z                       the error dC/dz
========  =========================  ==========================================================

Write * for the convolution and rot180(w) for a kernel turned by 180 degrees. A layer may compute
its forward pass with either operation; the rotation is then on the other side, and never lost:

===================  ==================  =====================================================
forward              kernel going        error of the input, a *full* convolution
                     forward
===================  ==================  =====================================================
z = w * a            rotated             (delta * rot180(w)): slide the kernel as it is
z = corr(w, a)       as it is            (delta * w): slide the rotated kernel
===================  ==================  =====================================================

Why rotated? In a correlation z[y] takes a[y + i] with weight w[i]. So a[x] goes into z[x - i], by
that same w[i]: what was i steps ahead on the way forward lies i steps behind on the way back.
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
    """Turn kernels by 180 degrees: reverse rows and columns, the last two axes.

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
        a: (n, c, h, w) activations, taken as zero outside.
        w: (f, c / groups, kh, kw) kernels.
        stride: s, distance of neighbouring windows in (rows, columns).
        padding: rows and columns of zeros around a: "valid" (none), "same" (z as large as a; odd
            ones go to the bottom and right), "full" (wherever a kernel touches a), a number, one
            for (rows, columns), or ((top, bottom), (left, right)).
        groups: feature f sees only the channels of its own group.

    Returns:
        (n, f, y, x) weighted inputs.

    Raises:
        Rot180Error: shapes disagree, or a kernel is larger than the padded image.

    Example:
        >>> import numpy as np
        >>> from rot180.equations.convolution import correlation
        >>> a = np.arange(9.0).reshape(1, 1, 3, 3)
        >>> w = np.array([[[[0.0, 1.0], [0.0, 0.0]]]])  # takes what is on the right
        >>> correlation(a, w)[0, 0]
        array([[1., 2.],
               [4., 5.]])
    """
    n, f, each = check_shapes(a, w, groups)
    stride, size = pair(stride, "stride"), w.shape[2:]
    pad_width = resolve_padding(padding, size, stride)
    y, x = out_size(a.shape[2:], size, stride, pad_width)
    windows = sliding_window_view(padded(a, pad_width), size, axis=(2, 3))
    windows = windows[:, :, :: stride[0], :: stride[1]]
    windows = windows.reshape(n, groups, each, y, x, *size)
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

    For one channel, one feature and stride 1, "full", it is z[y,x] = sum of w[i,j] a[y-i,x-j].
    Arguments as for :func:`correlation`; in "same", odd rows and columns of zeros go to the top and
    left, since the kernel is turned.

    Example:
        >>> import numpy as np
        >>> from rot180.equations.convolution import convolution
        >>> a = np.zeros((1, 1, 2, 2))
        >>> a[0, 0, 0, 1] = 1  # a convolution lays the kernel there, as it is
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
    size: tuple[int, int],
    stride: int | tuple[int, int] = 1,
    padding: Padding = "valid",
    groups: int = 1,
) -> Array:
    """Carry the error back through z = correlation(a, w): dC/da = delta * w, in full.

    The error is dilated (stride - 1 zeros between neighbours), then convolved with the kernels,
    features and channels swap_in_out; the border that padding had added is cut off. For one channel
    and stride 1: dC/da[y,x] = sum of w[i,j] delta[y-i,x-j].

    Args:
        delta: (n, f, y, x), dC/dz.
        w, stride, padding, groups: as they were on the way forward.
        size: (h, w) of the activations on the way forward.

    Returns:
        (n, c, h, w), dC/da.

    Raises:
        Rot180Error: shapes disagree.
    """
    check_axes(delta, w)
    check_groups(groups * w.shape[1], len(w), groups)
    stride = pair(stride, "stride")
    pad_width = resolve_padding(padding, w.shape[2:], stride)
    above = out_size(size, w.shape[2:], stride, pad_width)
    check_error(delta, (len(delta), len(w), *above))
    full = convolution(dilated(delta, stride), swap_in_out(w, groups), 1, "full", groups)
    (top, bottom), (left, right) = pad_width
    height, width = size
    whole = np.zeros((*full.shape[:2], height + top + bottom, width + left + right), full.dtype)
    whole[..., : full.shape[-2], : full.shape[-1]] = full
    return whole[..., top : top + height, left : left + width]


def convolution_error(
    delta: Array,
    w: Array,
    size: tuple[int, int],
    stride: int | tuple[int, int] = 1,
    padding: Padding = "valid",
    groups: int = 1,
) -> Array:
    """Carry the error back through z = w * a: dC/da = delta * rot180(w), in full.

    For one channel, stride 1 and "full": dC/da[y,x] = sum of w[i,j] delta[y+i,x+j]. Arguments as
    for :func:`correlation_error`.
    """
    check_axes(delta, w)
    pad_width = resolve_padding(padding, w.shape[2:], pair(stride, "stride"), rotated=True)
    return correlation_error(delta, rot180(w), size, stride, pad_width, groups)


def correlation_gradient(
    a: Array,
    delta: Array,
    size: tuple[int, int],
    stride: int | tuple[int, int] = 1,
    padding: Padding = "valid",
    groups: int = 1,
) -> Array:
    """Return dC/dw for z = correlation(a, w): the activations correlated with the dilated error.

    A weight takes part at every position, so its gradient sums over them, and over the images: for
    one channel and stride 1, dC/dw[i,j] = sum of delta[y,x] a[y+i,x+j]. As a correlation of
    several channels the images play the part of the channels.

    Args:
        a: (n, c, h, w), the activations on the way forward.
        delta: (n, f, y, x), dC/dz.
        size: (kh, kw) of the kernels.
        stride, padding, groups: as they were on the way forward.

    Returns:
        (f, c / groups, kh, kw), dC/dw.

    Raises:
        Rot180Error: shapes disagree.
    """
    check_axes(a, delta)
    n, c, f = len(a), a.shape[1], delta.shape[1]
    check_groups(c, f, groups)
    stride = pair(stride, "stride")
    pad_width = resolve_padding(padding, size, stride)
    check_error(delta, (n, f, *out_size(a.shape[2:], size, stride, pad_width)))
    images = padded(a, pad_width)
    images = images.reshape(n, groups, c // groups, *images.shape[2:]).transpose(2, 1, 0, 3, 4)
    images = images.reshape(c // groups, groups * n, *images.shape[3:])
    kernels = dilated(delta, stride).transpose(1, 0, 2, 3)
    gradient = correlation(images, kernels, groups=groups).transpose(1, 0, 2, 3)
    return gradient[..., : size[0], : size[1]]


def convolution_gradient(
    a: Array,
    delta: Array,
    size: tuple[int, int],
    stride: int | tuple[int, int] = 1,
    padding: Padding = "valid",
    groups: int = 1,
) -> Array:
    """Return dC/dw for z = w * a: delta * rot180(a).

    For one channel and stride 1, "full": dC/dw[i,j] = sum of delta[y,x] a[y-i,x-j]. Arguments as
    for :func:`correlation_gradient`.
    """
    pad_width = resolve_padding(padding, size, pair(stride, "stride"), rotated=True)
    return rot180(correlation_gradient(a, delta, size, stride, pad_width, groups))


def bias_gradient(delta: Array) -> Array:
    """Return dC/db (f,): a bias is added at every position, so it takes the sum of their errors."""
    check_axes(delta)
    total: Array = delta.sum((0, 2, 3))
    return total


def padded(a: Array, pad_width: PadWidth) -> Array:
    """Put rows and columns of zeros around the last two axes."""
    return np.pad(a, ((0, 0), (0, 0), *pad_width))


def dilated(delta: Array, stride: tuple[int, int]) -> Array:
    """Put stride - 1 zeros between neighbours: the positions that a stride has left out."""
    *rest, y, x = delta.shape
    height, width = (y - 1) * stride[0] + 1, (x - 1) * stride[1] + 1
    spread = np.zeros((*rest, height, width), delta.dtype)
    spread[..., :: stride[0], :: stride[1]] = delta
    return spread


def swap_in_out(w: Array, groups: int = 1) -> Array:
    """Exchange features and channels in each group: (f, c / groups, …) to (c, f / groups, …)."""
    f, c, *size = w.shape
    return w.reshape(groups, f // groups, c, *size).swapaxes(1, 2).reshape(-1, f // groups, *size)


def check_axes(*arrays: Array) -> None:
    """See that arrays have four axes.

    Raises:
        Rot180Error: they have not.
    """
    if any(one.ndim != 4 for one in arrays):
        raise Rot180Error(
            "Activations and errors are (images, channels, height, width) and kernels (features, "
            "channels, height, width); what was given is of shape "
            f"{' and '.join(str(one.shape) for one in arrays)}."
        )


def check_shapes(a: Array, w: Array, groups: int) -> tuple[int, int, int]:
    """Return (n, f, c / groups).

    Raises:
        Rot180Error: the arrays do not fit each other.
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
    """Compare the shape of an error with that of the output it belongs to.

    Raises:
        Rot180Error: they are not the same.
    """
    if delta.shape != shape:
        raise Rot180Error(
            f"The error is of shape {delta.shape}, but the output that it belongs to of shape "
            f"{shape}. Go forward first, with the same images."
        )
