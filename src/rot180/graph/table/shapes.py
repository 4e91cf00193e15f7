"""Calls that move, choose, join, spread or average positions of maps."""

from collections.abc import Callable
from dataclasses import replace
from math import prod
from typing import Any

import torch
from torch import Tensor, fx
from torch.nn import functional as F

from rot180.graph.boxes import Window
from rot180.graph.operators.base import MAPS, Operator
from rot180.graph.operators.calls import Derived
from rot180.graph.operators.layout import Channels, Concatenation, Permute, Reshape
from rot180.graph.operators.pooling import AdaptiveMaxPool, MaxPool, Separable, matrix_of
from rot180.graph.operators.reductions import Expansion, Largest, Total
from rot180.graph.table.along import averaged_axes, padded_axes, windows
from rot180.graph.table.call import Call, Found, Reader, shape_of

aten = torch.ops.aten
SAME = Found((), ())
"""What is found in a call that hands on its input."""


def max_pool(call: Call) -> Operator | None:
    """Read max pooling of batches of maps."""
    return MaxPool.read(call.given) if call.is_map() else None


def adaptive_max_pool(call: Call) -> Operator | None:
    """Read adaptive max pooling; where all windows have one size, as any other."""
    size, out = shape_of(call.source)[2:], call["output_size"]
    if not call.is_map():
        return None
    if any(one % two for one, two in zip(size, out, strict=True)):
        return AdaptiveMaxPool((size[0], size[1]), (out[0], out[1]))
    kernel = (size[0] // out[0], size[1] // out[1])
    return MaxPool(Window(kernel, kernel, (0, 0), (1, 1)))


def _separable(
    call: Call, name: str, along: Callable[[int, Tensor], Tensor], fill: float = 0.0
) -> Found | None:
    """Read a separable linear call: ``along(axis, x)`` is what it does along one axis, to maps x
    (n, 1, size, 1).
    """
    if not call.is_map():
        return None
    matrices: list[Tensor | None] = []
    for axis, size in enumerate(shape_of(call.source)[2:]):
        matrix = matrix_of(lambda x, axis=axis: along(axis, x), size)
        same = matrix.shape[0] == size and torch.equal(matrix, torch.eye(size).to(matrix))
        matrices.append(None if same else matrix)
    if matrices == [None, None]:
        return SAME
    return Found((Separable(name, matrices[0], matrices[1], fill),), call.results)


def average_pool(call: Call) -> Found | None:
    """Read average pooling of maps, or along other axes."""
    if not call.is_map():
        return averaged_axes(call)
    return _separable(call, "average pooling", windows(call, 2))


def adaptive_average_pool(call: Call) -> Found | None:
    """Read adaptive average pooling."""
    out = call["output_size"]
    return _separable(
        call,
        "average pooling",
        lambda axis, x: F.adaptive_avg_pool2d(x, (out[axis], 1)),
    )


def total(call: Call) -> "Operator | Found | None":
    """Read the sum or the mean along axes; of rows and columns of maps by a matrix each."""
    before = shape_of(call.source)
    rank, means = len(before), call.target is aten.mean.dim
    axes = tuple(sorted(one % rank - rank for one in call["dim"] or range(rank)))
    if call.get("dtype") is not None or -rank in axes:
        return smooth(call)
    keeps = bool(call.get("keepdim"))
    if call.is_map() and set(axes) <= set(MAPS):
        found = _separable(
            call,
            "mean" if means else "sum along axes",
            lambda axis, x: (
                (x.mean(2, keepdim=True) if means else x.sum(2, keepdim=True))
                if axis - 2 in axes
                else x
            ),
        )
        assert found is not None
        return found if keeps else _dropped(found, before, axes, call)
    size = prod(before[axis] for axis in axes)
    factor = 1 / size if means else 1.0
    return Total(before[1:], axes, keeps, call.axes(call.source), factor)


def _dropped(found: Found, before: tuple[int, ...], axes: tuple[int, ...], call: Call) -> Found:
    """Drop axes that have size 1 after what was found."""
    kept = list(before)
    for axis in axes:
        kept[axis] = 1
    where = call.axes(call.source)
    return Found((*found.operators, Reshape(tuple(kept[1:]), call.shape[1:], where)), call.results)


def largest(call: Call) -> "Operator | Found | None":
    """Read the largest value along an axis, or of whole maps: a max pooling, where it is one."""
    before = shape_of(call.source)
    rank, given = len(before), call["dim"]
    given = [given] if isinstance(given, int) else list(given) or list(range(rank))
    axes = tuple(sorted(one % rank - rank for one in given))
    keeps = bool(call.get("keepdim"))
    if call.is_map() and set(axes) <= set(MAPS):
        kernel = tuple(before[axis] if axis in axes else 1 for axis in MAPS)
        found = Found((MaxPool(Window(kernel, kernel, (0, 0), (1, 1))),), call.results)  # type: ignore[arg-type]
        return found if keeps else _dropped(found, before, axes, call)
    if len(axes) == 1 and -rank not in axes:
        return Largest(axes[0], keeps, call.axes(call.source))
    return smooth(call)


def interpolate(call: Call) -> Found | None:
    """Read resizing by the nearest, bilinear or bicubic rule, with or without antialiasing."""
    size, factors = call.get("output_size"), call.get("scale_factors")

    def along(axis: int, x: Tensor) -> Tensor:
        given = {
            **call.given,
            "input": x.expand(-1, -1, -1, 2),  # some rules take no map of one column
            "output_size": None if size is None else [size[axis], 2],
            "scale_factors": None if factors is None else [factors[axis], 1.0],
        }
        found: Tensor = call.target(**given)
        return found[..., :1]

    return _separable(call, "interpolation", along)


def pad(call: Call) -> "Operator | Found | None":
    """Read padding with a constant, by reflection, circular, or by repeating the border."""
    amounts, mode, value = list(call["pad"]), call["mode"], call.get("value") or 0.0
    while len(amounts) > 2 and not any(amounts[-2:]):
        amounts = amounts[:-2]  # nothing is added along these axes
    channels = amounts[4:6]
    if not call.is_map():
        return padded_axes(call, amounts, mode, value)
    if len(amounts) > 6 or (any(channels) and (mode != "constant" or value)):
        return None
    sides = (amounts[2:4] or [0, 0], amounts[:2])

    def along(axis: int, x: Tensor) -> Tensor:
        sizes = [0, 0, *sides[axis]]
        return F.pad(x, sizes, mode) if mode != "constant" else F.pad(x, sizes)

    found = _separable(call, f"{mode} padding", along, value)
    if found is None:
        return None
    if not any(channels):
        zeros = mode == "constant" and not value and min(amounts) >= 0
        if zeros and found.operators:
            (whole,) = found.operators
            assert isinstance(whole, Separable)
            found = Found((replace(whole, zeros=(sides[0][0], sides[1][0])),), found.inputs)
        return found
    count = shape_of(call.source)[1]
    chosen = [-1] * max(channels[0], 0)
    chosen += range(max(-channels[0], 0), count - max(-channels[1], 0))
    more = Channels((*chosen, *[-1] * max(channels[1], 0)), count)
    return Found((*found.operators, more), call.results)


def _chosen(call: Call, axis: int, places: list[int], source: fx.Node) -> "Found | None":
    """Read a choice of positions along an axis that is not that of the images."""
    sizes = shape_of(source)
    size, rank = sizes[axis], len(sizes)
    if places == list(range(size)):
        return Found((), (source,))
    if axis == 0 or not places:
        return None
    if call.is_map(source) and axis > 1:
        matrix = torch.eye(size, dtype=torch.float64)[places]
        pairs = (matrix, None) if axis == 2 else (None, matrix)
        return Found((Separable("slice", *pairs),), (source,))
    return Found((Channels(tuple(places), size, axis - rank, call.axes(source)),), (source,))


def _taken(call: Call, axis: int, place: int, source: fx.Node) -> "Found | None":
    """Read one position along an axis, which the result does not have any more."""
    found = _chosen(call, axis, [place], source)
    if found is None:
        return None
    sizes = list(shape_of(source)[1:])
    sizes[axis - 1] = 1
    after = (*sizes[: axis - 1], *sizes[axis:])
    dropped = Reshape(tuple(sizes), after, call.axes(source))
    return Found((*found.operators, dropped), (source,))


def select(call: Call) -> "Operator | Found | None":
    """Read ``x[:, k]``."""
    sizes = shape_of(call.source)
    axis = call["dim"] % len(sizes)
    return _taken(call, axis, call["index"] % sizes[axis], call.source)


def slice_(call: Call) -> "Operator | Found | None":
    """Read ``x[..., a:b:c, ...]``."""
    axis = call["dim"] % len(call.shape)
    places = range(shape_of(call.source)[axis])[call["start"] : call["end"] : call["step"]]
    return _chosen(call, axis, list(places), call.source) or smooth(call)


def flip(call: Call) -> "Operator | Found | None":
    """Read a mirror image."""
    return _each_axis(call, call["dims"], lambda n, size: list(range(size))[::-1], call.source)


def roll(call: Call) -> "Operator | Found | None":
    """Read a circular shift."""
    shifts = call["shifts"]
    return _each_axis(
        call,
        call["dims"],
        lambda n, size: [(k - shifts[n]) % size for k in range(size)],
        call.source,
    )


def _each_axis(
    call: Call, axes: list[int], places: Callable[[int, int], list[int]], source: fx.Node
) -> "Operator | Found | None":
    rank = len(shape_of(source))
    operators: list[Operator] = []
    for n, axis in enumerate(axes):
        size = shape_of(source)[axis]
        found = _chosen(call, axis % rank, places(n, size), source)
        if found is None:
            return smooth(call)
        operators += found.operators
    return Found(tuple(operators), call.results)


def repeat(call: Call) -> "Operator | Found | None":
    """Read maps that are repeated side by side."""
    times = call["repeats"]
    if len(times) != len(shape_of(call.source)) or times[0] != 1:
        return smooth(call)
    axes = [axis for axis, count in enumerate(times) if count != 1]
    return _each_axis(call, axes, lambda n, size: [*range(size)] * times[axes[n]], call.source)


def index(call: Call) -> "Operator | Found | None":
    """Read a constant choice of positions along one axis; other constant choices as they are."""
    indices = call["indices"]
    if any(isinstance(one, fx.Node) for one in indices):
        return None
    chosen = [axis for axis, one in enumerate(indices) if one is not None]
    if len(chosen) == 1 and indices[chosen[0]].ndim == 1:
        (axis,) = chosen
        taken, size = indices[axis], shape_of(call.source)[axis]
        taken = taken.nonzero().flatten() if taken.dtype == torch.bool else taken
        return _chosen(call, axis, [int(one) % size for one in taken], call.source) or smooth(call)
    return smooth(call)


def expand(call: Call) -> "Operator | Found | None":
    """Read one position or one row spread over a map."""
    before, after = shape_of(call.source), call.shape
    if before == after:
        return SAME
    if len(before) != len(after) or before[0] != after[0]:
        return None
    if call.is_map() and before[:2] == after[:2]:
        return _separable(call, "spread", lambda axis, x: x.expand(-1, -1, after[axis + 2], -1))
    return Expansion(before[1:], after[1:], call.axes(call.source))


def concatenation(call: Call) -> "Operator | Found | None":
    """Read ``torch.cat`` of results and constants."""
    terms = call["tensors"]
    results = [one for one in terms if isinstance(one, fx.Node)]
    rank = len(call.shape)
    axis = call.get("dim", 0) % rank
    where = {call.axes(one) for one in results}
    if axis == 0 or len(where) != 1:
        return None
    sizes = tuple(
        shape_of(one)[axis] if isinstance(one, fx.Node) else one.shape[axis] for one in terms
    )
    constants = None
    if len(results) < len(terms):
        constants = tuple(None if isinstance(one, fx.Node) else one[0] for one in terms)
    found = Concatenation(axis - rank, sizes, where.pop(), constants)
    return Found((found,), tuple(results))


def permute(call: Call) -> Operator | None:
    """Read axes in another order, if each image stays by itself."""
    rank = len(call.shape)
    if call.target is aten.permute.default:
        order = [axis % rank for axis in call["dims"]]
    else:
        order = list(range(rank))
        one, two = call["dim0"] % rank, call["dim1"] % rank
        order[one], order[two] = two, one
    return Permute(tuple(order), call.axes(call.source)) if order[0] == 0 else None


def reshape(call: Call) -> "Operator | Found | None":
    """Read a change of shape that leaves each image of the batch by itself."""
    before, after = shape_of(call.source), call.shape
    if before == after:
        return SAME
    if before[0] != after[0]:
        return None
    return Reshape(before[1:], after[1:], call.axes(call.source))


def item(call: Call, split: Call, place: int) -> "Operator | Found | None":
    """Read one part of a split result."""
    source, axis = split["self"], split.get("dim", 0)
    size, axis = shape_of(source)[axis], axis % len(shape_of(source))
    if split.target is aten.split_with_sizes.default:
        sizes = list(split["split_sizes"])
    elif split.target is aten.unbind.int:
        return _taken(call, axis, place % size, source)
    else:
        each = split["split_size"]
        sizes = [each] * (size // each) + [size % each]
    start = sum(sizes[:place])
    return _chosen(call, axis, list(range(start, start + sizes[place])), source)


def smooth(call: Call) -> Operator:
    """Read an operator that every method goes through by its derivative."""
    name = str(call.target).removeprefix("aten.").rsplit(".", 1)[0]
    return Derived(call.run, name.replace("_", " ").strip(), _at_each_position(call))


def _at_each_position(call: Call) -> bool:
    """Say whether a normalisation or softmax works along the channels only."""
    if len(call.results) != 1:
        return False
    where, rank = call.axes(call.source), len(call.shape)
    if where is None or shape_of(call.source) != call.shape:
        return False
    if call.target in (aten.softmax.int, aten.log_softmax.int):
        taken = {call["dim"] % rank - rank}
    else:
        return False
    return not taken & set(where)


SPLITS = {
    aten.split.Tensor,
    aten.split_with_sizes.default,
    aten.unbind.int,
}
"""Operators with several outputs, each of which is a choice of positions."""

FIRST_OF_SEVERAL = {
    aten._native_batch_norm_legit_no_training.default,
    aten.max_pool2d_with_indices.default,
    aten.adaptive_max_pool2d.default,
    aten.max.dim,
}
"""Operators with several outputs, of which the first is read as their only one."""

CHOICES = {
    aten.min.dim,
    aten.topk.default,
    aten.sort.default,
    aten.sort.stable,
    aten.kthvalue.default,
    aten.median.dim,
    aten.cummax.default,
    aten.cummin.default,
    aten.std_mean.correction,
    aten.var_mean.correction,
    aten.std_mean.dim,
    aten.var_mean.dim,
    aten.lstm.input,
    aten.gru.input,
    aten.rnn_tanh.input,
}
"""Operators with several outputs that every method goes through by their derivative: the choice of
values (the signal goes to where they were), statistics, and recurrent layers."""

_RESHAPES = (
    aten.view.default,
    aten.reshape.default,
    aten._unsafe_view.default,
    aten.flatten.using_ints,
    aten.squeeze.dim,
    aten.squeeze.dims,
    aten.unsqueeze.default,
    aten._reshape_copy.default,
)

_SMOOTH = (
    aten.softmax.int,
    aten.log_softmax.int,
    aten.matmul.default,
    aten.mm.default,
    aten.bmm.default,
    aten.einsum.default,
    aten.scaled_dot_product_attention.default,
    aten.linalg_vector_norm.default,
    aten.pixel_shuffle.default,
    aten.pixel_unshuffle.default,
    aten.im2col.default,
    aten.col2im.default,
    aten.max_unpool2d.default,
    aten.grid_sampler.default,
    aten.fft_rfft2.default,
    aten.fft_irfft2.default,
    aten.fft_rfft.default,
    aten.fft_irfft.default,
    aten.fft_rfftn.default,
    aten.fft_irfftn.default,
    aten.fft_fft2.default,
    aten.fft_ifft2.default,
    aten.fft_fft.default,
    aten.fft_ifft.default,
    aten.fft_fftn.default,
    aten.fft_ifftn.default,
    aten.fft_fftshift.default,
    aten.fft_ifftshift.default,
    aten.real.default,
    aten.imag.default,
    aten.view_as_real.default,
    aten.view_as_complex.default,
    aten.complex.default,
    aten.angle.default,
    aten.cumsum.default,
    aten.cumprod.default,
    aten.var.correction,
    aten.std.correction,
    aten.var.dim,
    aten.std.dim,
    aten.lerp.Scalar,
    aten.lerp.Tensor,
    aten.atan2.default,
    aten.unfold.default,
    aten.channel_shuffle.default,
    aten.tril.default,
    aten.triu.default,
    aten.gru_cell.default,
    aten.rnn_tanh_cell.default,
    aten.amin.default,
    aten.logsumexp.default,
    aten.baddbmm.default,
    aten.addmm.default,
    aten.bilinear.default,
    aten.affine_grid_generator.default,
    aten.slice_scatter.default,
    aten.select_scatter.default,
    aten.index_select.default,
    aten.gather.default,
    aten.avg_pool1d.default,
    aten.adaptive_avg_pool1d.default,
    aten.adaptive_avg_pool3d.default,
    aten.conv3d.default,
    aten.conv_transpose1d.default,
    aten.conv_transpose3d.input,
    aten.repeat_interleave.self_int,
    aten.addcmul.default,
    aten.conv1d.default,
)

OF_MAPS = {
    aten.conv2d.default,
    aten.conv2d.padding,
    aten.conv_transpose2d.input,
    aten.max_pool2d.default,
    aten.max_pool2d_with_indices.default,
    aten.adaptive_max_pool2d.default,
    aten.avg_pool2d.default,
    aten.adaptive_avg_pool2d.default,
    aten._adaptive_avg_pool2d.default,
    aten.upsample_nearest2d.vec,
    aten._upsample_nearest_exact2d.vec,
    aten.upsample_bilinear2d.vec,
    aten._upsample_bilinear2d_aa.vec,
    aten.upsample_bicubic2d.vec,
    aten._upsample_bicubic2d_aa.vec,
}
"""Calls whose input has rows and columns as its last axes, whatever it was before."""

SMOOTH: dict[Any, Reader] = dict.fromkeys(
    (
        *_SMOOTH,
        *_RESHAPES,
        aten.linear.default,
        aten.conv2d.default,
        aten.conv2d.padding,
        aten.conv_transpose2d.input,
        aten.avg_pool2d.default,
        aten.adaptive_avg_pool2d.default,
        aten._adaptive_avg_pool2d.default,
        aten.mean.dim,
        aten.sum.dim_IntList,
        aten.index.Tensor,
        aten.cat.default,
        aten.permute.default,
        aten.transpose.int,
        aten.slice.Tensor,
        aten.flip.default,
        aten.roll.default,
        aten.expand.default,
        aten.repeat.default,
        aten.pad.default,
    ),
    smooth,
)
"""Calls that every method goes through by their derivative, whatever their values look like."""

SHAPES: dict[Any, Reader] = {
    aten.max_pool2d.default: max_pool,
    aten.max_pool2d_with_indices.default: max_pool,
    aten.adaptive_max_pool2d.default: adaptive_max_pool,
    aten.avg_pool2d.default: average_pool,
    aten.avg_pool3d.default: averaged_axes,
    aten.adaptive_avg_pool2d.default: adaptive_average_pool,
    aten._adaptive_avg_pool2d.default: adaptive_average_pool,
    aten.mean.dim: total,
    aten.sum.dim_IntList: total,
    aten.max.dim: largest,
    aten.amax.default: largest,
    aten.select.int: select,
    aten.repeat.default: repeat,
    aten.upsample_nearest2d.vec: interpolate,
    aten._upsample_nearest_exact2d.vec: interpolate,
    aten.upsample_bilinear2d.vec: interpolate,
    aten._upsample_bilinear2d_aa.vec: interpolate,
    aten.upsample_bicubic2d.vec: interpolate,
    aten._upsample_bicubic2d_aa.vec: interpolate,
    aten.pad.default: pad,
    aten.slice.Tensor: slice_,
    aten.flip.default: flip,
    aten.roll.default: roll,
    aten.index.Tensor: index,
    aten.expand.default: expand,
    aten.cat.default: concatenation,
    aten.permute.default: permute,
    aten.transpose.int: permute,
    **dict.fromkeys(_RESHAPES, reshape),
    **dict.fromkeys(_SMOOTH, smooth),
}
"""Operator of the captured graph -> how it is read."""
