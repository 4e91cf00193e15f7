"""The operators: each knows its forward pass, its way back, and its region.

An operator of the captured graph is read (see :mod:`rot180.graph.table`) into one of the classes
below. Each answers three questions, and everything else in rot180 follows from the answers:

- ``forward(*inputs)`` gives the output and what has to be kept for the way back;
- ``backward(signal, kept, rules)`` carries a signal from the output to each input, where the
  ``rules`` say what happens at a rectifier and at a maximum;
- ``region(box)`` tells which box of each input a box of the output depends on.

On the way back the bias takes no part: a signal goes through the linear part of a step only.
The batch axis of the signal may be longer than the batch of the forward pass was 1: then all the
signals go back through the same image.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, runtime_checkable

import torch
from torch import Tensor, fx
from torch.nn import functional as F

from rot180.errors import Rot180Error
from rot180.graph.boxes import Box, Window


@runtime_checkable
class Rules(Protocol):
    """What the way back does where the forward pass was not linear."""

    @property
    def method(self) -> str:
        """Name of the method, for messages."""
        ...

    def rectify(self, signal: Tensor, fired: Tensor) -> Tensor:
        """Carry a signal through a rectifier that let the positions ``fired`` (bool) through."""
        ...

    def unpool(
        self, signal: Tensor, switches: Tensor, pool: "MaxPool", shape: torch.Size
    ) -> Tensor:
        """Carry a signal through a max pooling whose input had this ``shape``."""
        ...


@runtime_checkable
class Operator(Protocol):
    """One step of a network; tensors are (n, c, h, w) or (n, features)."""

    @property
    def kind(self) -> str:
        """What the operator is, in a word or two."""
        ...

    def forward(self, *inputs: Tensor) -> tuple[Any, Any]:
        """Return the output, and what :meth:`backward` needs to know about this forward pass."""
        ...

    def backward(self, signal: Tensor, kept: Any, rules: Rules) -> tuple[Tensor | None, ...]:
        """Return the signal at each input (None where an input takes none)."""
        ...

    def region(self, box: Box, shapes: tuple[tuple[int, ...], ...]) -> tuple[Box, ...]:
        """Return the box of each input (of the given shapes) that a box of the output needs."""
        ...


def whole(shape: tuple[int, ...]) -> Box:
    """Return the box around a whole map; what has no rows and columns counts as one pixel."""
    return Box(0, 0, *shape[2:]) if len(shape) == 4 else Box(0, 0, 1, 1)


def laid_out(signal: Tensor, top: int, left: int, shape: torch.Size) -> Tensor:
    """Cut or pad with zeros, so that row ``top``, column ``left`` comes first, at size ``shape``.

    Windows slide over a padded map and need not reach its last rows; this undoes both.
    """
    height, width = shape[-2:]
    below, right = height + top - signal.shape[-2], width + left - signal.shape[-1]
    return F.pad(signal, (-left, right, -top, below))


class PerPosition:
    """Base of steps that look at one position of their one input."""

    def region(self, box: Box, shapes: tuple[tuple[int, ...], ...]) -> tuple[Box, ...]:
        """Return the box itself."""
        return (box,)


class WholeMap:
    """Base of steps of which any output may depend on every input."""

    def region(self, box: Box, shapes: tuple[tuple[int, ...], ...]) -> tuple[Box, ...]:
        """Return the box of every whole input."""
        return tuple(whole(shape) for shape in shapes)


@dataclass(frozen=True)
class Convolution:
    """``z = w (correlated with) a + b``: what PyTorch calls a convolution.

    The way back is the transposed convolution: the signal, dilated by the stride, fully convolved
    with the kernel, which is the correlation with the kernel rotated by 180 degrees.
    """

    weight: Tensor
    bias: Tensor | None
    stride: tuple[int, int]
    before: tuple[int, int]
    after: tuple[int, int]
    dilation: tuple[int, int]
    groups: int
    kind: ClassVar[str] = "convolution"

    @classmethod
    def read(cls, given: Mapping[str, Any]) -> "Convolution":
        """Read ``aten.conv2d``; ``padding="same"`` may add one more pixel after than before."""
        weight, padding = given["weight"], given["padding"]
        if isinstance(weight, fx.Node) or isinstance(given["bias"], fx.Node):
            raise Rot180Error(
                "A convolution whose kernel or bias is computed from the image cannot be captured."
            )
        dilation = pair(given["dilation"])
        if padding == "same":
            total = [d * (k - 1) for d, k in zip(dilation, weight.shape[2:], strict=True)]
            before = (total[0] // 2, total[1] // 2)
            after = (total[0] - before[0], total[1] - before[1])
        else:
            before = after = (0, 0) if padding == "valid" else pair(padding)
        return cls(
            weight, given["bias"], pair(given["stride"]), before, after, dilation, given["groups"]
        )

    @property
    def window(self) -> Window:
        """The sliding window."""
        kh, kw = self.weight.shape[2:]
        return Window((kh, kw), self.stride, self.before, self.dilation)

    def forward(self, *inputs: Tensor) -> tuple[Tensor, torch.Size]:
        """Correlate; keep the shape of the input."""
        (a,) = inputs
        padding = self.before
        if self.before != self.after:
            (top, left), (bottom, right) = self.before, self.after
            a, padding = F.pad(a, (left, right, top, bottom)), (0, 0)
        z = F.conv2d(a, self.weight, self.bias, self.stride, padding, self.dilation, self.groups)
        return z, inputs[0].shape

    def backward(self, signal: Tensor, kept: torch.Size, rules: Rules) -> tuple[Tensor, ...]:
        """Convolve with the rotated kernel."""
        full = F.conv_transpose2d(
            signal, self.weight, None, self.stride, 0, 0, self.groups, self.dilation
        )
        return (laid_out(full, *self.before, kept),)

    def region(self, box: Box, shapes: tuple[tuple[int, ...], ...]) -> tuple[Box, ...]:
        """Return the box under the window."""
        return (self.window.reach(box),)


@dataclass(frozen=True)
class BatchNorm(PerPosition):
    """Batch normalisation with its stored statistics: a factor and an offset for each channel."""

    weight: Tensor | None
    bias: Tensor | None
    mean: Tensor
    variance: Tensor
    eps: float
    kind: ClassVar[str] = "batch norm"

    @classmethod
    def read(cls, given: Mapping[str, Any]) -> "BatchNorm":
        """Read ``aten._native_batch_norm_legit_no_training``."""
        return cls(
            given["weight"],
            given["bias"],
            given["running_mean"],
            given["running_var"],
            given["eps"],
        )

    def forward(self, *inputs: Tensor) -> tuple[Tensor, None]:
        """Normalise."""
        (z,) = inputs
        out = F.batch_norm(z, self.mean, self.variance, self.weight, self.bias, False, 0, self.eps)
        return out, None

    def backward(self, signal: Tensor, kept: None, rules: Rules) -> tuple[Tensor, ...]:
        """Multiply each channel by its factor."""
        factor = torch.rsqrt(self.variance + self.eps)
        if self.weight is not None:
            factor = factor * self.weight
        return (signal * factor.to(signal.dtype).reshape(1, -1, *[1] * (signal.ndim - 2)),)


@dataclass(frozen=True)
class Rectifier(PerPosition):
    """``max(z, 0)``, however it was written."""

    kind: ClassVar[str] = "rectifier"

    def forward(self, *inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Rectify; keep where the output is positive (at 0 the derivative is taken as 0)."""
        a = inputs[0].clamp(min=0)
        return a, a > 0

    def backward(self, signal: Tensor, kept: Tensor, rules: Rules) -> tuple[Tensor, ...]:
        """Leave it to the method."""
        return (rules.rectify(signal, kept),)


@dataclass(frozen=True)
class MaxPool:
    """Max pooling with any window, overlapping ones included."""

    window: Window
    ceil_mode: bool
    kind: ClassVar[str] = "max pooling"

    @classmethod
    def read(cls, given: Mapping[str, Any]) -> "MaxPool":
        """Read ``aten.max_pool2d``; a missing stride is the window's size."""
        kernel = pair(given["kernel_size"])
        window = Window(
            kernel,
            pair(given["stride"] or kernel),
            pair(given["padding"]),
            pair(given["dilation"]),
        )
        return cls(window, given["ceil_mode"])

    def forward(self, *inputs: Tensor) -> tuple[Tensor, tuple[Tensor, torch.Size]]:
        """Pool; keep the switches (flat positions of the maxima) and the shape of the input."""
        (a,) = inputs
        pooled, switches = F.max_pool2d(
            a, *self.window, ceil_mode=self.ceil_mode, return_indices=True
        )
        return pooled, (switches, a.shape)

    def backward(
        self, signal: Tensor, kept: tuple[Tensor, torch.Size], rules: Rules
    ) -> tuple[Tensor, ...]:
        """Leave it to the unpooling that was chosen."""
        switches, shape = kept
        return (rules.unpool(signal, switches, self, shape),)

    def region(self, box: Box, shapes: tuple[tuple[int, ...], ...]) -> tuple[Box, ...]:
        """Return the box under the window."""
        return (self.window.reach(box),)


@dataclass(frozen=True)
class Reshape(WholeMap):
    """Flatten, view, reshape: the numbers of one image in another order of axes."""

    shape: tuple[int, ...]
    kind: ClassVar[str] = "reshape"

    def forward(self, *inputs: Tensor) -> tuple[Tensor, torch.Size]:
        """Reshape each image of the batch by itself."""
        (a,) = inputs
        return a.reshape(len(a), *self.shape), a.shape[1:]

    def backward(self, signal: Tensor, kept: torch.Size, rules: Rules) -> tuple[Tensor, ...]:
        """Undo it."""
        return (signal.reshape(len(signal), *kept),)


@dataclass(frozen=True)
class Linear(WholeMap):
    """A fully connected layer."""

    weight: Tensor
    bias: Tensor | None
    kind: ClassVar[str] = "linear"

    @classmethod
    def read(cls, given: Mapping[str, Any]) -> "Linear":
        """Read ``aten.linear``."""
        if isinstance(given["weight"], fx.Node) or isinstance(given["bias"], fx.Node):
            raise Rot180Error(
                "A linear layer whose weight or bias is computed from the image cannot be captured."
            )
        return cls(given["weight"], given["bias"])

    def forward(self, *inputs: Tensor) -> tuple[Tensor, None]:
        """Multiply and add the bias."""
        return F.linear(inputs[0], self.weight, self.bias), None

    def backward(self, signal: Tensor, kept: None, rules: Rules) -> tuple[Tensor, ...]:
        """Multiply with the transposed weight."""
        return (signal @ self.weight,)


@dataclass(frozen=True)
class Sum(PerPosition):
    """The sum of two results of one shape, or of a result and a constant.

    The signal goes to each term as it is; a constant takes none, like a bias.
    """

    constant: Tensor | float | None
    kind: ClassVar[str] = "sum"

    def forward(self, *inputs: Tensor) -> tuple[Tensor, int]:
        """Add; keep how many terms there were."""
        other = inputs[-1] if self.constant is None else self.constant
        return inputs[0] + other, len(inputs)

    def backward(self, signal: Tensor, kept: int, rules: Rules) -> tuple[Tensor, ...]:
        """Hand the signal to each term."""
        return (signal,) * kept

    def region(self, box: Box, shapes: tuple[tuple[int, ...], ...]) -> tuple[Box, ...]:
        """Return the box itself, for each term."""
        return (box,) * len(shapes)


@dataclass(frozen=True)
class Pass(PerPosition):
    """What leaves its input as it is: dropout in evaluation, a copy."""

    kind: ClassVar[str] = "copy"

    def forward(self, *inputs: Tensor) -> tuple[Tensor, None]:
        """Hand the input on."""
        return inputs[0], None

    def backward(self, signal: Tensor, kept: None, rules: Rules) -> tuple[Tensor | None, ...]:
        """Hand the signal back."""
        return (signal,)


@dataclass(frozen=True)
class Detach(Pass):
    """``x.detach()``: the author's word that nothing goes back here."""

    kind: ClassVar[str] = "detach"

    def backward(self, signal: Tensor, kept: None, rules: Rules) -> tuple[None, ...]:
        """Stop the gradient, as autograd does; no other method is defined."""
        if rules.method != "gradient":
            raise Rot180Error(
                f"The model calls detach(), where the method '{rules.method}' is not defined. Use "
                "method='gradient', or a layer below it."
            )
        return (None,)


@dataclass(frozen=True)
class Item(WholeMap):
    """One of several outputs of an operator that is not listed."""

    place: int
    kind: ClassVar[str] = "item"

    def forward(self, *inputs: Any) -> tuple[Any, None]:
        """Take it out."""
        return inputs[0][self.place], None

    def backward(self, signal: Tensor, kept: None, rules: Rules) -> tuple[Tensor, ...]:
        """Refuse: several signals would have to meet in one step."""
        raise Rot180Error(
            "The model uses an operator with several outputs (chunk, split, unbind, …), which no "
            "signal can be carried through yet. Choose a layer below it."
        )


@dataclass(frozen=True)
class Unlisted(WholeMap):
    """An operator that the table lacks: autograd takes the signal back, by the gradient only.

    Its derivative is known, but not what ``deconvnet`` or ``guided`` ought to do there (it might be
    another kind of rectifier), and a guess would be wrong without anybody noticing.
    """

    call: Callable[..., Any]
    target: str
    where: str
    kind: ClassVar[str] = "other"

    def forward(self, *inputs: Tensor) -> tuple[Any, tuple[Tensor, ...]]:
        """Call the operator; keep its inputs."""
        return self.call(*inputs), inputs

    def backward(
        self, signal: Tensor, kept: tuple[Tensor, ...], rules: Rules
    ) -> tuple[Tensor | None, ...]:
        """Differentiate the operator at the kept inputs."""
        if rules.method != "gradient":
            raise Rot180Error(
                f"The method '{rules.method}' is not defined for the operator {self.target}"
                f"{self.where}. Use method='gradient', which autograd knows there, or a layer "
                "below it."
            )
        try:
            return self._differentiated(signal, kept)
        except RuntimeError as error:
            raise Rot180Error(
                f"Autograd cannot carry a signal back through {self.target}{self.where}: "
                f"{str(error).splitlines()[0]} Choose a layer below it."
            ) from error

    def _differentiated(
        self, signal: Tensor, kept: tuple[Tensor, ...]
    ) -> tuple[Tensor | None, ...]:
        with torch.inference_mode(False), torch.enable_grad():
            inputs = [a.clone().requires_grad_(a.is_floating_point()) for a in kept]
            output = self.call(*inputs)
            wanted = [a for a in inputs if a.requires_grad]
            if not wanted or not output.requires_grad:
                return (None,) * len(inputs)
            # One image may take the signals of many features: each goes back by itself.
            each = [
                torch.autograd.grad(output, wanted, one, retain_graph=True, materialize_grads=True)
                for one in torch.split(signal, len(output))
            ]
        found = iter([torch.cat(parts) for parts in zip(*each, strict=True)])
        return tuple(next(found) if a.requires_grad else None for a in inputs)


def pair(value: Any) -> tuple[int, int]:
    """Return (vertical, horizontal) for what PyTorch lets one write as one number or two."""
    values = [value] if isinstance(value, int) else list(value)
    return (int(values[0]), int(values[-1]))
