"""Lowerings of calls whose derivative is taken from autograd, whatever the method."""

from typing import Any

import torch

from rot180.graph.lowerings.fx_call import FxCall, Lowering, shape_of
from rot180.graph.operators.fallback import AutogradOp
from rot180.graph.operators.operator import Operator

aten = torch.ops.aten


def by_autograd(call: FxCall) -> Operator:
    """Lower a call to an operator whose derivative every method takes from autograd."""
    return AutogradOp(call.run, plain_name(call.target), _at_each_position(call))


def plain_name(target: Any) -> str:
    """Return the name of an ATen operator in words, without its overload."""
    return str(target).removeprefix("aten.").rsplit(".", 1)[0].replace("_", " ").strip()


def _at_each_position(call: FxCall) -> bool:
    """Say whether a call is a softmax along neither rows nor columns."""
    if len(call.inputs) != 1:
        return False
    map_axes, rank = call.axes(call.source), len(call.shape)
    if map_axes is None or shape_of(call.source) != call.shape:
        return False
    if call.target in (aten.softmax.int, aten.log_softmax.int):
        axes = {call["dim"] % rank - rank}
    else:
        return False
    return not axes & set(map_axes)


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
"""Operators with several outputs whose derivative every method uses: the choice of values (the
signal goes to where they were), statistics, and recurrent layers."""

RESHAPES = (
    aten.view.default,
    aten.reshape.default,
    aten._unsafe_view.default,
    aten.flatten.using_ints,
    aten.squeeze.dim,
    aten.squeeze.dims,
    aten.unsqueeze.default,
    aten._reshape_copy.default,
)
"""Calls that change the shape of a value and nothing else."""

BY_AUTOGRAD = (
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
"""Smooth calls that have no operator of their own."""

IMAGE_BY_IMAGE: dict[Any, Lowering] = dict.fromkeys(
    (
        *BY_AUTOGRAD,
        *RESHAPES,
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
    by_autograd,
)
"""Lowerings of calls that are made image by image, whatever the shapes of their values."""
