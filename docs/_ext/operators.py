"""The page of all operators: each line is a call that is captured while the site is built.

The library itself says what an operator is lowered to and what the methods do there; only the calls
are written here. A test checks that no operator of the table is missing.
"""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from rot180.graph.capture import start_lowering
from rot180.graph.lowering import GraphLowering
from rot180.graph.lowerings import LOWERINGS
from rot180.graph.lowerings.by_autograd import by_autograd, plain_name
from rot180.graph.lowerings.spatial import FIRST_OF_SEVERAL
from rot180.graph.operators.backward_kind import (
    BACKWARD_KINDS,
    BY_DERIVATIVE,
    LINEAR,
    BackwardKind,
)

if TYPE_CHECKING:  # the tests ask for the lines, and need no Sphinx
    from sphinx.application import Sphinx

PAGE, MARK = "reference/operators", "<!-- operators -->"

CALLS = (
    # Linear steps with weights, and normalisation by stored statistics.
    "F.conv2d(x, kernels, bias, stride=2, padding=1)",
    "F.conv2d(x, kernels, bias, padding='same')",
    "F.conv_transpose2d(x, kernels, stride=2)",
    "F.linear(v, weight, bias)",
    "F.linear(last, weight4, bias4)",
    "F.batch_norm(x, mean, spread, bias4, bias4)",
    "F.instance_norm(x, mean, spread, use_input_stats=False)",
    # Arithmetic.
    "x + y",
    "x + constant",
    "x - y",
    "1 - x",
    "x * 2",
    "x * y",
    "x * torch.sigmoid(x)",
    "x / 2",
    "x / y",
    "-x",
    # Rectifiers.
    "F.relu(x)",
    "F.relu6(x)",
    "F.hardtanh(x, 0, 4)",
    "x.clamp(min=0)",
    "x.clamp(0, 4)",
    "torch.clip(x, 0, 4)",
    "torch.clamp_min(x, 0)",
    "F.threshold(x, 0, 0)",
    "torch.maximum(x, torch.zeros_like(x))",
    "torch.max(x, torch.zeros_like(x))",
    "F.leaky_relu(x, 0.1)",
    "F.rrelu(x)",
    "F.prelu(x, slopes)",
    "F.elu(x)",
    "F.celu(x)",
    "F.selu(x)",
    "F.gelu(x)",
    "F.gelu(x, approximate='tanh')",
    "F.silu(x)",
    "F.hardswish(x)",
    "F.mish(x)",
    "F.softplus(x)",
    "x.clamp(min=1e-6)",
    "F.threshold(x, 0.1, 0)",
    "torch.fmax(x, constant * 0)",
    "x.clamp(min=constant.sum() * 0)",
    "torch.clamp_min(x, constant.sum() * 0)",
    "torch.where(x > 0, x, 0)",
    "torch.where(x > 0, x, 0.1 * x)",
    "torch.where(x < 0, 0, x)",
    "x.masked_fill(x < 0, 0)",
    "x.masked_fill(x < 0, torch.zeros(()))",
    "x * (x > 0)",
    "x * F.relu6(x + 3) / 6",
    "torch.addcmul(x, x, torch.sigmoid(x))",
    "torch.lerp(x, F.relu(x), 0.5)",
    "torch.logaddexp(x, torch.zeros_like(x))",
    # Functions of one number that are no rectifiers.
    "F.hardtanh(x)",
    "x.clamp(-1, 1)",
    "torch.clamp_max(x, 6)",
    "torch.sigmoid(x)",
    "torch.tanh(x)",
    "F.hardsigmoid(x)",
    "torch.exp(x)",
    "torch.log(x)",
    "torch.sqrt(x)",
    "torch.rsqrt(x)",
    "torch.reciprocal(x)",
    "x ** 3",
    "2 ** x",
    "x ** torch.full((), 3)",
    "x.square()",
    "x.abs()",
    "torch.sign(x)",
    "torch.sgn(x)",
    "torch.sin(x)",
    "torch.cos(x)",
    "torch.tan(x)",
    "torch.asin(x)",
    "torch.acos(x)",
    "torch.atan(x)",
    "torch.sinh(x)",
    "torch.cosh(x)",
    "torch.asinh(x)",
    "torch.acosh(x + 1)",
    "torch.atanh(x)",
    "torch.exp2(x)",
    "torch.expm1(x)",
    "torch.log2(x)",
    "torch.log10(x)",
    "torch.log1p(x)",
    "torch.erf(x)",
    "torch.erfc(x)",
    "torch.floor(x)",
    "torch.ceil(x)",
    "torch.round(x)",
    "torch.trunc(x)",
    "torch.frac(x)",
    "F.logsigmoid(x)",
    "F.glu(x, 1)",
    "torch.hypot(x, torch.ones(()))",
    "torch.minimum(x, torch.ones(()))",
    "torch.min(x, torch.ones(()))",
    "torch.fmin(x, torch.ones(()))",
    "torch.clamp_max(x, torch.ones(()))",
    "torch.where(x > 0, 1.0, 0.5)",
    "torch.addcdiv(x, x, 1 + x.abs())",
    "torch.rsub(x, torch.ones(()))",
    # Pooling and resizing.
    "F.max_pool2d(x, 3, stride=2, padding=1)",
    "F.max_pool2d(x, 2, return_indices=True)[0]",
    "F.adaptive_max_pool2d(x, 4)",
    "F.avg_pool2d(x, 3, stride=2, padding=1)",
    "F.avg_pool3d(x, 2)",
    "F.avg_pool3d(x.unsqueeze(1), (3, 1, 1), stride=1)",
    "F.adaptive_avg_pool2d(x, 1)",
    "torch.ops.aten._adaptive_avg_pool2d(x, [2, 2])",
    "x.mean((2, 3))",
    "x.mean(1)",
    "F.interpolate(x, scale_factor=2)",
    "F.interpolate(x, scale_factor=2, mode='nearest-exact')",
    "F.interpolate(x, scale_factor=2, mode='bilinear')",
    "F.interpolate(x, scale_factor=0.5, mode='bilinear', antialias=True)",
    "F.interpolate(x, scale_factor=2, mode='bicubic')",
    "F.interpolate(x, scale_factor=0.5, mode='bicubic', antialias=True)",
    # Moving and choosing numbers.
    "F.pad(x, (1, 1, 1, 1))",
    "F.pad(x, (1, 1, 1, 1), mode='reflect')",
    "F.pad(x.unsqueeze(1), (0, 0, 0, 0, 1, 1))",
    "x[:, :, 1:7]",
    "x[:, ::2]",
    "v[:, 3:9]",
    "x.flip(3)",
    "torch.roll(x, 2, 3)",
    "x[:, order]",
    "x.mean((2, 3), keepdim=True).expand(-1, -1, 8, 8)",
    "torch.cat([x, y], 1)",
    "x.permute(0, 2, 3, 1)",
    "x.transpose(1, 2)",
    "x.view(-1, 2, 2, 8, 8)",
    "x.reshape(-1, 256)",
    "torch.ops.aten._unsafe_view(x, [-1, 256])",
    "x.flatten(1)",
    "point.squeeze(3)",
    "point.squeeze((2, 3))",
    "point.squeeze()",
    "x.unsqueeze(1)",
    "x.split(2, 1)[0]",
    "x.split([1, 3], 1)[1]",
    "x.unbind(1)[0]",
    "x.select(1, 0)",
    "torch.stack([x, y], 1)",
    "x.repeat(1, 2, 1, 1)",
    "x.repeat_interleave(2, 1)",
    "F.pixel_shuffle(x, 2)",
    "F.pixel_unshuffle(x, 2)",
    "F.unfold(x, 2)",
    "x.detach()",
    # Normalisation by the values themselves, attention, and the like.
    "F.layer_norm(x, (4, 8, 8))",
    "F.layer_norm(last, (4,))",
    "F.group_norm(x, 2)",
    "F.instance_norm(x)",
    "F.rms_norm(x, (4, 8, 8))",
    "F.rms_norm(last, (4,))",
    "torch.softmax(x, 1)",
    "torch.softmax(q, 2)",
    "torch.log_softmax(x, 1)",
    "torch.matmul(q, q.transpose(1, 2))",
    "torch.mm(v, weight.T)",
    "torch.bmm(q, q.transpose(1, 2))",
    "torch.einsum('ncl,nkl->nck', q, q)",
    "F.scaled_dot_product_attention(q, q, q)",
    "torch.linalg.vector_norm(x, dim=1)",
    "x.sum(1)",
    "torch.addcmul(x, x, y)",
    "x.max(1)[0]",
    "x.amax(1, keepdim=True)",
    "torch.ops.aten.copy(x, y)",
    "F.conv1d(q, kernels1)",
    # Not listed, or not with such arguments.
    "torch.maximum(x, y)",
    "x.clamp(min=5)",
    "torch.where(x > 0, x, y)",
    "torch.special.i0(x)",
)
"""Python that calls each operator. See :class:`_Caller` for what the names stand for."""

_aten = torch.ops.aten
AS_OTHERS = {
    _aten.alias.default: ("torch.ops.aten.alias(x)", ()),
    _aten.batch_norm.default: (
        "F.batch_norm(x, mean, spread)",
        (None, None, torch.zeros(4), torch.ones(4), False, 0.1, 1e-5, False),
    ),
    _aten.clone.default: ("x.clone()", ()),
    _aten.contiguous.default: ("x.contiguous()", ()),
    _aten._to_copy.default: ("torch.ops.aten._to_copy(x)", ()),
    _aten.to.device: ("x.to('cpu', torch.float32)", (torch.device("cpu"), torch.float32)),
    _aten.to.dtype: ("x.to(torch.float32)", (torch.float32,)),
    _aten.to.dtype_layout: ("torch.ops.aten.to.dtype_layout(x)", ()),
    _aten.dropout.default: ("F.dropout(x, training=False)", (0.5, False)),
    _aten.feature_dropout.default: ("F.dropout2d(x, training=False)", (0.5, False)),
    _aten.flatten.using_ints: ("x.flatten(1)", (1,)),
    _aten._reshape_copy.default: ("torch.ops.aten._reshape_copy(x, [1, 256])", ([1, 256],)),
    _aten.reshape.default: ("x.reshape(-1, 256)", ([-1, 256],)),
}
"""Operators that some versions of PyTorch replace by others, or leave out, when they export; with
Python that stands for them, and what they take beside x."""


class Line(NamedTuple):
    """A line of the page.

    Attributes:
        target: the operator of the exported graph.
        call: Python that calls it.
        kinds: the operators that it is lowered to; empty if it returns its input.
        backward_kind: what becomes of a signal there.
        local: whether it is computed on a part of its maps.
    """

    target: str
    call: str
    kinds: tuple[str, ...]
    backward_kind: BackwardKind
    local: bool


class _Caller(nn.Module):
    """Makes all calls, of maps x and y (n, 4, 8, 8) and of what is made of them."""

    def __init__(self, calls: Iterable[str]) -> None:
        super().__init__()
        self.calls = tuple(calls)
        for name, shape in {
            "kernels": (4, 4, 3, 3),
            "kernels1": (4, 4, 3),
            "bias": (4,),
            "bias4": (4,),
            "mean": (4,),
            "spread": (4,),
            "slopes": (4,),
            "weight": (4, 256),
            "weight4": (4, 4),
            "constant": (4, 8, 8),
        }.items():
            self.register_buffer(name, torch.rand(shape))
        self.register_buffer("order", torch.tensor([2, 0, 3, 1]))

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Make them."""
        names = {
            "x": x,
            "y": F.max_pool2d(x, 3, 1, 1),
            "v": x.flatten(1),
            "q": x.flatten(2),
            "last": x.permute(0, 2, 3, 1),
            "point": x.mean((2, 3), keepdim=True),
            **dict(self.named_buffers()),
        }
        return tuple(eval(one, {"torch": torch, "F": F, **names}) for one in self.calls)


def lines(calls: Iterable[str] = CALLS) -> list[Line]:
    """Return a line for each call, as the library lowers it."""
    caller, example = _Caller(calls).eval(), torch.rand(1, 4, 8, 8)
    lowering = start_lowering(caller, example)
    lowering.lower()
    (output,) = (node for node in lowering.graph.nodes if node.op == "output")
    found = list(zip(caller.calls, output.args[0], strict=True))
    image = next(node for node in lowering.graph.nodes if lowering.step_of.get(node) == -1)
    for target, (call, arguments) in AS_OTHERS.items():
        with lowering.graph.inserting_before(output):
            node = lowering.graph.call_function(target, (image, *arguments))
        node.meta["val"] = target(image.meta["val"], *arguments)
        found.append((call, node))
    shown = [_line(call, node, lowering) for call, node in found]
    named = {one.target for one in shown}
    return shown + [
        Line(str(target), "", (plain_name(target),), BY_DERIVATIVE, False)
        for target, lowering_of in LOWERINGS.items()
        if lowering_of is by_autograd and str(target) not in named
    ]


def _line(call: str, node: fx.Node, lowering: GraphLowering) -> Line:
    source = node.all_input_nodes[0]
    target = source.target if "getitem" in str(node.target) else node.target
    found = lowering.lower_call(source if target in FIRST_OF_SEVERAL else node)
    kinds_back = [one.backward_kind for one in found.operators]
    backward_kind = next((one for one in kinds_back if one is not LINEAR), LINEAR)
    kinds = tuple(one.kind for one in found.operators)
    return Line(str(target), call, kinds, backward_kind, all(one.local for one in found.operators))


_HEADINGS = {
    "linear": "Linear steps",
    "rectifier": "Rectifiers",
    "maximum": "Max pooling",
    "by derivative": "Steps where every method uses the derivative",
    "stopped": "Where the author stops the gradient",
    "whole numbers": "Whole numbers and truth values",
    "not listed": "Operators that are not listed",
}


def page(found: list[Line]) -> str:
    """Return the sections of the page in Markdown."""
    shown = [kind for kind in BACKWARD_KINDS if any(one.backward_kind is kind for one in found)]
    return "\n".join(part for kind in shown for part in _section(kind, found))


def _section(kind: BackwardKind, found: list[Line]) -> Iterator[str]:
    yield f"## {_HEADINGS[kind.name]}\n"
    made = {method: getattr(kind, method) for method in ("deconvnet", "gradient", "guided")}
    if len(set(made.values())) == 1:
        yield f"Under every method the signal s goes through {kind.gradient}.\n"
    else:
        yield "| method | a signal s becomes |\n| --- | --- |"
        yield from (f"| `{method}` | {becomes} |" for method, becomes in made.items())
    for local, where in ((True, "the receptive field"), (False, "whole maps")):
        mine = sorted(
            (one for one in found if one.backward_kind is kind and one.local is local),
            key=lambda one: one.target.replace("aten._", "aten."),
        )
        if mine:
            yield f"\n:::{{div}} operators\nComputed on {where}:\n"
            yield "| operator | as in | is lowered to |\n| --- | --- | --- |"
            yield from map(_row, mine)
            yield ":::"
    yield ""


def _row(one: Line) -> str:
    kinds = ", then ".join(dict.fromkeys(one.kinds)) or "its input"
    call = f"`{one.call}`" if one.call else ""
    return f"| `{one.target.removesuffix('.default')}` | {call} | {kinds} |"


def _fill(app: "Sphinx", docname: str, source: list[str]) -> None:
    if docname == PAGE:
        source[0] = source[0].replace(MARK, page(lines()))


def setup(app: "Sphinx") -> dict[str, bool]:
    """Fill the page when it is read."""
    app.connect("source-read", _fill)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
