"""Projections by another way: the exported graph under autograd, its steps given the rules.

It shares nothing with the operators of rot180 but the graph that PyTorch exports: every step is
PyTorch's own, on whole images, and autograd finds the way back.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from rot180.graph.export import is_plain

aten = torch.ops.aten
RECTIFIERS = {
    aten.relu.default,
    aten.relu6.default,
    aten.leaky_relu.default,
    aten.rrelu.default,
    aten.prelu.default,
    aten.elu.default,
    aten.celu.default,
    aten.selu.default,
    aten.gelu.default,
    aten.silu.default,
    aten.hardswish.default,
    aten.mish.default,
    aten.softplus.default,
}
BOUNDS = {
    aten.clamp.default: "min",
    aten.clamp_min.default: "min",
    aten.clip.default: "min",
    aten.hardtanh.default: "min_val",
}
"""Calls that rectify if their lower bound is zero, which has this name."""

GATES = {aten.sigmoid.default: F.silu, aten.hardsigmoid.default: F.hardswish}
"""Gates of which the product with what they gate is a rectifier."""

POOLS = {
    aten.max_pool2d.default,
    aten.max_pool2d_with_indices.default,
    aten.adaptive_max_pool2d.default,
}


class _Ruled(torch.autograd.Function):
    """A rectifier whose derivative is a rule."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, call: Any, method: str) -> Tensor:
        ctx.save_for_backward(z)
        ctx.call, ctx.method = call, method
        return call(z)

    @staticmethod
    def backward(ctx: Any, signal: Tensor) -> tuple[Tensor, None, None]:
        (z,) = ctx.saved_tensors
        if ctx.method != "gradient":
            signal = signal.clamp(min=0)
        if ctx.method == "deconvnet":
            return signal, None, None
        return _derived(ctx.call, z, signal), None, None


class _Repeated(torch.autograd.Function):
    """A max pooling that goes back as the sum over each window does."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, call: Any, window: Any) -> Tensor:
        pooled = call(a)
        ctx.save_for_backward(a)
        ctx.window, ctx.size = window, pooled.shape[-2:]
        return pooled

    @staticmethod
    def backward(ctx: Any, signal: Tensor) -> tuple[Tensor, None, None]:
        (a,) = ctx.saved_tensors
        return (
            _derived(lambda a: sums_over_windows(a, *ctx.window, ctx.size), a, signal),
            None,
            None,
        )


def _derived(call: Callable[[Tensor], Tensor], at: Tensor, signal: Tensor) -> Tensor:
    with torch.enable_grad():
        at = at.detach().requires_grad_()
        (found,) = torch.autograd.grad(call(at), at, signal)
    return found


def sums_over_windows(
    a: Tensor,
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    size: Sequence[int],
) -> Tensor:
    """Return the sum over each window, of which there are ``size``; padding counts as zero."""
    (top, left), channels = padding, a.shape[-3]
    more = [s * n + d * k for s, n, d, k in zip(stride, size, dilation, kernel, strict=True)]
    ones = a.new_ones(channels, 1, *kernel)
    wide = F.pad(a, (left, more[1], top, more[0]))
    sums = F.conv2d(wide, ones, None, stride, 0, dilation, channels)
    return sums[..., : size[0], : size[1]]


class _Interpreter(fx.Interpreter):
    """Runs what a step needs, and the step itself."""

    def __init__(self, module: fx.GraphModule, step: str, method: str, unpool: str) -> None:
        super().__init__(module)
        self.method, self.unpool = method, unpool
        (self.last,) = [node for node in module.graph.nodes if node.name == step]
        self.start: Tensor | None = None
        self.current: fx.Node | None = None
        self.needed = {self.last}
        for node in reversed(module.graph.nodes):
            if node in self.needed:
                self.needed.update(node.all_input_nodes)

    def run_node(self, node: fx.Node) -> Any:
        if node.op == "output":
            return self.found
        if node not in self.needed and node.op != "placeholder":
            return None
        value = self._run(node)
        if node is self.last:
            self.found = value
        return value

    def _run(self, node: fx.Node) -> Any:
        self.current = node
        if node.target is aten.mul.Tensor:
            for value, gate in (node.args, node.args[::-1]):
                if getattr(gate, "target", None) in GATES and gate.args[0] is value:
                    return self._rectified(self.env[value], GATES[gate.target])
        schema = getattr(node.target, "_schema", None)
        if schema is not None and schema.is_mutable:
            return self._in_place(node)
        return super().run_node(node)

    def _in_place(self, node: fx.Node) -> Any:
        """Compute a new value, which stands for the changed one from here on."""
        args, kwargs = self.fetch_args_kwargs_from_env(node)
        _, name, overload = str(node.target).split(".")
        target = getattr(getattr(aten, name.removesuffix("_")), overload)
        self.env[node.args[0]] = value = self.call_function(target, args, kwargs)
        return value

    def call_function(self, target: Any, args: tuple, kwargs: dict) -> Any:
        given = _by_name(target, args, kwargs)
        if target in RECTIFIERS or (target in BOUNDS and given[BOUNDS[target]] == 0):
            return self._rectified(args[0], lambda z: target(z, *args[1:], **kwargs))
        if target is aten.threshold.default and given["threshold"] == given["value"] == 0:
            return self._rectified(args[0], F.relu)
        if target in (aten.maximum.default, aten.max.other):
            for value, other in (args, args[::-1]):
                if not other.requires_grad and not other.any():
                    return self._rectified(value, F.relu)
        if target in POOLS and self.unpool == "repeat":
            return self._repeated(target, given, args[1:], kwargs)
        return super().call_function(target, args, kwargs)

    def _rectified(self, z: Tensor, call: Callable[[Tensor], Tensor]) -> Tensor:
        if self.current is self.last:
            self.start = z
        return _Ruled.apply(z, call, self.method)

    def _repeated(self, target: Any, given: dict, args: tuple, kwargs: dict) -> Any:
        several = target is not aten.max_pool2d.default

        def call(a: Tensor) -> Tensor:
            found = target(a, *args, **kwargs)
            return found[0] if several else found

        if "output_size" in given:  # windows of one size
            sizes = zip(given["self"].shape[-2:], given["output_size"], strict=True)
            kernel = stride = tuple(size // count for size, count in sizes)
            more = [(0, 0), (1, 1)]
        else:
            names = ("kernel_size", "stride", "padding", "dilation")
            kernel, stride, *more = (_two(given[name]) for name in names)
        pooled = _Repeated.apply(given["self"], call, (kernel, stride or kernel, *more))
        return (pooled, None) if several else pooled


def _by_name(target: Any, args: tuple, kwargs: dict) -> dict[str, Any]:
    """Return the arguments of an operator by name, those that are missing as None."""
    schema = getattr(target, "_schema", None)
    if schema is None:
        return {}
    names = [one.name for one in schema.arguments]
    missing = {one.name: one.default_value for one in schema.arguments}
    return {**missing, **dict(zip(names, args, strict=False)), **kwargs}


def _two(value: Any) -> tuple[int, ...]:
    return (value, value) if isinstance(value, int) else tuple(value) * (2 // len(value or [0, 0]))


class Reference:
    """The exported graph of a model, for batches of the size that it is given.

    ``project`` carries entries of a step's output (by its name in the graph) back, starting with
    themselves; where the step is a rectifier, they start before it. The names are those of the
    graph that rot180 reads, unless it is decomposed.
    """

    def __init__(self, model: nn.Module, images: Tensor, decomposed: bool = False) -> None:
        with torch.no_grad():
            program = torch.export.export(model, (images,))
            if decomposed or not is_plain(program):
                program = program.run_decompositions({})
        self.module = program.module()

    def project(
        self, images: Tensor, step: str, index: tuple, method: str, unpool: str = "switches"
    ) -> tuple[Tensor, Tensor]:
        """Return the values at an index of a step's output, and their projection (n, c, h, w)."""
        pixels = images.clone().requires_grad_()
        interpreter = _Interpreter(self.module, step, method, unpool)
        value = interpreter.run(pixels, enable_io_processing=False)
        value = value[0] if isinstance(value, tuple) else value
        chosen = value[index]
        start = chosen if interpreter.start is None else interpreter.start[index]
        (found,) = torch.autograd.grad(start, pixels, chosen.detach())
        return chosen.detach(), found
