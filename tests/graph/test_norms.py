"""Normalisations against derivatives that no backward pass of PyTorch has a part in.

PyTorch's backward passes of instance norm and batch norm are wrong for signals in some layouts, so
here the judges are forward-mode derivatives of the formulas, written out, and central differences
of the models themselves.
"""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

import rot180
from rot180.graph.box import Box
from rot180.graph.capture import start_lowering
from rot180.graph.fingerprint import fingerprint
from rot180.graph.operators.backward_kind import BY_DERIVATIVE, LINEAR
from rot180.graph.operators.fallback import AutogradOp, UnknownOp
from rot180.graph.operators.normalisation import BatchNorm, GroupNorm, LayerNorm, OwnStatisticsNorm
from rot180.graph.operators.operator import NO_PADDING, Operator, Region, Saved
from rot180.graph.operators.pooling import AxisLinear
from rot180.projection.rules import WAYS_BACK, Rules
from tests.models import image, relative_error, seeded
from tests.projection.styles import normalised

EPS = 1e-3
PART = Region(Box(0, 0, 1, 1), (Box(0, 0, 1, 1),), (NO_PADDING,))
"""No operator here looks at its part: those that are cut are normalised at each position."""


def by_hand(z: Tensor, group: tuple[int, ...], centred: bool = True) -> Tensor:
    """Normalise the last axes of z, taken as groups of this shape, one group after the other."""
    out = []
    for one in z.reshape(-1, *group):
        if centred:
            one = one - one.sum() / one.numel()
        out.append(one / (one.pow(2).sum() / one.numel() + EPS) ** 0.5)
    return torch.stack(out).reshape(z.shape)


def case(kind: str, shape: tuple[int, ...], seed: int) -> tuple[Operator, Any, Any]:
    """Return the operator for an input (n, ...), what it is by hand, and PyTorch's forward pass."""
    channels, wide = shape[1], (-1, *[1] * (len(shape) - 2))
    weight, bias, mean, spread = image(4, channels, seed=seed)
    many, more = image(2, *shape[1:], seed=seed)
    spread = spread.abs() + 0.1
    match kind:
        case "group":
            return (
                GroupNorm("group norm", 2, weight, bias, EPS, False),
                lambda z: (
                    by_hand(z, (channels // 2, *shape[2:])) * weight.view(wide) + bias.view(wide)
                ),
                lambda z: F.group_norm(z, 2, weight, bias, EPS),
            )
        case "instance":
            return (
                GroupNorm("instance norm", channels, None, None, EPS, False),
                lambda z: by_hand(z, shape[2:]),
                lambda z: F.instance_norm(z, eps=EPS),
            )
        case "layer" | "layer, bare":
            given = (None, None) if "bare" in kind else (many, more)
            return (
                LayerNorm(shape[1:], *given, EPS, False),
                lambda z: (
                    by_hand(z, shape[1:]) * (1 if given[0] is None else many)
                    + (0 if given[1] is None else more)
                ),
                lambda z: F.layer_norm(z, shape[1:], *given, EPS),
            )
        case "layer at each position":
            return (
                LayerNorm(shape[-1:], many[..., :1, :].reshape(-1, shape[-1])[0], None, EPS, True),
                lambda z: by_hand(z, shape[-1:]) * many[..., :1, :].reshape(-1, shape[-1])[0],
                lambda z: F.layer_norm(
                    z, shape[-1:], many[..., :1, :].reshape(-1, shape[-1])[0], None, EPS
                ),
            )
        case "RMS":
            return (
                LayerNorm(shape[1:], many, None, EPS, False, centred=False),
                lambda z: by_hand(z, shape[1:], False) * many,
                lambda z: F.rms_norm(z, shape[1:], many, EPS),
            )
        case "RMS at each position":
            return (
                LayerNorm(shape[-1:], None, None, EPS, True, centred=False),
                lambda z: by_hand(z, shape[-1:], False),
                lambda z: F.rms_norm(z, shape[-1:], None, EPS),
            )
        case _:
            return (
                BatchNorm(weight, bias, mean, spread, EPS),
                lambda z: (
                    (z - mean.view(wide)) / (spread.view(wide) + EPS).sqrt() * weight.view(wide)
                    + bias.view(wide)
                ),
                lambda z: F.batch_norm(z, mean, spread, weight, bias, False, 0, EPS),
            )


KINDS = (
    "group",
    "instance",
    "layer",
    "layer, bare",
    "layer at each position",
    "RMS",
    "RMS at each position",
    "batch",
)

OWN = ("group norm", "instance norm", "layer norm", "RMS norm")

shapes = st.tuples(st.sampled_from([2, 4]), *[st.integers(2, 4)] * 2) | st.tuples(
    st.sampled_from([2, 4]), st.integers(2, 6)
)


def layouts(signal: Tensor) -> dict[str, Tensor]:
    """Return a signal in several layouts of memory, the numbers being the same."""
    found = {
        "contiguous": signal.contiguous(),
        "transposed": signal.mT.contiguous().mT,
        "channels last": signal.movedim(1, -1).contiguous().movedim(-1, 1),
        "images last": signal.movedim(0, -1).contiguous().movedim(-1, 0),
        "every second": signal.repeat_interleave(2, -1)[..., ::2],
    }
    assert all(torch.equal(one, signal) for one in found.values())
    return found


def jacobian(call: Callable[[Tensor], Tensor], z: Tensor) -> Tensor:
    """Return the derivatives (out, in) of a call at one image (1, ...), by forward mode."""
    found: Tensor = torch.func.jacfwd(call)(z)
    return found.reshape(z.numel(), z.numel())


def central_differences(call: Callable[[Tensor], Tensor], x: Tensor, step: float = 1e-5) -> Tensor:
    """Return the derivatives (out, in) of a call at one image (1, ...)."""
    moved = step * torch.eye(x.numel(), dtype=x.dtype).reshape(-1, *x.shape[1:])
    with torch.no_grad():
        found = (call(x + moved) - call(x - moved)) / (2 * step)
    return found.flatten(1).T


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=20, deadline=None)
@given(shape=shapes, seed=st.integers(0, 99), signals=st.integers(1, 3))
def test_a_signal_in_any_layout_is_multiplied_with_the_derivative(
    kind: str, shape, seed, signals
) -> None:
    operator, written, theirs = case(kind, (1, *shape), seed)
    z, signal = image(1, *shape, seed=seed + 1), image(signals, *shape, seed=seed + 2)
    wanted = (signal.flatten(1) @ jacobian(written, z)).reshape(signal.shape)
    for values in layouts(z).values():
        assert relative_error(operator.forward((values,), PART)[0], written(z)) < 1e-12
        for one in layouts(signal).values():
            (back,) = operator.backward(one, Saved((values,)), Rules(), PART)
            assert back.shape == signal.shape
            assert float((back - wanted).abs().max()) < 1e-12 * max(1, float(wanted.abs().max()))
    few = signal[:, :, :1].expand(signals, *shape)
    wanted = (few.flatten(1) @ jacobian(written, z)).reshape(signal.shape)
    (back,) = operator.backward(few, Saved((z,)), Rules(), PART)
    assert float((back - wanted).abs().max()) < 1e-12 * max(1, float(wanted.abs().max()))
    differences = central_differences(theirs, z)
    assert float((differences - jacobian(written, z)).abs().max()) < 1e-6 * float(
        differences.abs().max().clamp(min=1)
    )


@pytest.mark.parametrize("kind", KINDS)
def test_images_of_a_batch_go_back_each_by_itself(kind: str) -> None:
    operator, _, _ = case(kind, (3, 4, 3, 5), 0)
    z, signal = image(3, 4, 3, 5, seed=1), image(3, 4, 3, 5, seed=2)
    (back,) = operator.backward(signal, Saved((z,)), Rules(), PART)
    for n in range(3):
        (alone,) = operator.backward(signal[n : n + 1], Saved((z[n : n + 1],)), Rules(), PART)
        assert relative_error(back[n : n + 1], alone) < 1e-13


def test_a_large_mean_costs_no_digits_of_the_deviation() -> None:
    """The variance is that of the values without their mean, not a difference of large squares."""
    z = image(1, 4, 30, 30).float() + 3000
    signal = image(1, 4, 30, 30, seed=1).float()
    for norm in (
        GroupNorm("group norm", 2, None, None, EPS, False),
        LayerNorm((4, 30, 30), None, None, EPS, False),
    ):
        (back,) = norm.backward(signal, Saved((z,)), Rules(), PART)
        (wanted,) = norm.backward(signal.double(), Saved((z.double(),)), Rules(), PART)
        assert relative_error(back.double(), wanted) < 1e-3


def ready(norm: nn.Module) -> nn.Module:
    """Give a norm, and those inside it, statistics and weights that matter."""
    for one in norm.modules():
        if not list(one.children()):
            normalised(one)
    return norm


class Between(nn.Module):
    """A norm between two convolutions, without any rectifier: all methods are the derivative."""

    def __init__(self, norm: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.before = nn.Conv2d(3, 4, 3, padding=1)
        self.norm = ready(norm())
        self.after = nn.Conv2d(4, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.after(self.norm(self.before(x)))


class Last(nn.Module):
    """A norm of the last axis that gets channels there."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, a: Tensor) -> Tensor:
        return self.norm(a.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Called(nn.Module):
    """A function as a module."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.forward = function


def whitened(a: Tensor) -> Tensor:
    """Take the mean of each channel away, and divide by its size."""
    a = a - a.mean((2, 3), keepdim=True)
    return a / (a.pow(2).mean((2, 3), keepdim=True) + EPS).sqrt()


NORMS: dict[str, tuple[Callable[[], nn.Module], bool]] = {
    "group norm": (lambda: nn.GroupNorm(2, 4), False),
    "instance norm": (lambda: nn.InstanceNorm2d(4), False),
    "instance norm with weights": (lambda: nn.InstanceNorm2d(4, affine=True), False),
    "instance norm, stored statistics": (
        lambda: nn.InstanceNorm2d(4, affine=True, track_running_stats=True),
        True,
    ),
    "layer norm of maps": (lambda: nn.LayerNorm((4, 6, 7)), False),
    "layer norm of rows": (lambda: nn.LayerNorm(7), False),
    "layer norm of channels": (lambda: Last(nn.LayerNorm(4)), True),
    "RMS norm of maps": (lambda: nn.RMSNorm((4, 6, 7)), False),
    "RMS norm of channels": (lambda: Last(nn.RMSNorm(4, eps=0.1)), True),
    "batch norm": (lambda: nn.BatchNorm2d(4), True),
    "batch norm of rows": (lambda: Last(nn.BatchNorm2d(6)), False),
    "instance norm of rows": (lambda: Last(nn.InstanceNorm2d(6)), False),
    "local response norm": (lambda: nn.LocalResponseNorm(3, 0.5, 0.6, 0.8), True),
    "local response norm, even": (lambda: nn.LocalResponseNorm(2, 0.5), True),
    "local response norm of rows": (lambda: Last(nn.LocalResponseNorm(3, 0.5)), False),
    "unit length": (lambda: Called(F.normalize), False),
    "whitened": (lambda: Called(whitened), False),
}
"""Norms between convolutions, and whether a unit above sees less than the image of 6 x 7."""


@pytest.mark.slow
@pytest.mark.parametrize("name", NORMS)
def test_units_and_whole_maps_are_the_differences_of_the_model(name: str) -> None:
    made, local = NORMS[name]
    model, x = seeded(Between, made), image(2, 3, 6, 7, seed=3)
    net = rot180.capture(model, x)
    assert not [one for one in net.steps if isinstance(one.operator, UnknownOp)]
    for step in net.steps:
        if step.operator.kind in OWN or step.operator.kind == "batch norm":
            assert isinstance(step.operator, OwnStatisticsNorm | BatchNorm)
            assert step.operator.backward_kind is (
                LINEAR if step.operator.linear else BY_DERIVATIVE
            )
            assert step.axes is not None
    units = [(0, (0, 0)), (2, (3, 3)), (1, (5, 4))]
    wholes = {}
    for n in (0, 1):
        image_ = x[n]
        with torch.no_grad():
            maps = model(image_[None])[0]
        slopes = central_differences(model, image_[None]).reshape(3, 6, 7, *image_.shape)
        opened = rot180.open_image(net, image_)
        for method in WAYS_BACK:
            for channel, place in units:
                wanted = maps[channel, *place] * slopes[channel, *place]
                for source in (image_, opened):
                    p = rot180.project(net, source, "after", channel, place, method)
                    assert relative_error(p.full(), wanted) < 1e-7
            several = rot180.project(net, opened, "after", [0, 1, 2], (3, 3), method)
            for channel, p in enumerate(several):
                wanted = maps[channel, 3, 3] * slopes[channel, 3, 3]
                assert relative_error(p.full(), wanted) < 1e-7
            wholes[n] = torch.einsum("yx,yxchw->chw", maps[1], slopes[1])
            p = rot180.project(net, image_, "after", 1, None, method)
            assert relative_error(p.full(), wholes[n]) < 1e-7
    for n, p in enumerate(rot180.project(net, x, "after", 1, None, "gradient")):
        assert relative_error(p.full(), wholes[n]) < 1e-7
    top, left, bottom, right = net.receptive_field(net.layers["after"], (0, 0))
    assert ((bottom - top) * (right - left) < 42) == local


class Tokens(nn.Module):
    """A norm of maps of which one position goes into a linear layer: a transposed signal."""

    def __init__(self, norm: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.before, self.norm = nn.Conv2d(3, 4, 1), ready(norm())
        self.head = nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        a = self.before(x)
        if isinstance(self.norm, nn.BatchNorm1d | nn.InstanceNorm1d):
            return self.head(self.norm(a.flatten(2)).transpose(1, 2)[:, 3])
        return self.head(self.norm(a).flatten(2).transpose(1, 2)[:, 3])


@pytest.mark.parametrize(
    "norm",
    [
        lambda: nn.BatchNorm2d(4),
        lambda: nn.BatchNorm1d(4),
        lambda: nn.InstanceNorm2d(4),
        lambda: nn.InstanceNorm1d(4, affine=True),
        lambda: nn.GroupNorm(2, 4),
    ],
)
def test_a_transposed_signal_goes_through_a_norm(norm: Callable[[], nn.Module]) -> None:
    model, x = seeded(Tokens, norm), image(1, 3, 5, 5, seed=2)
    net = rot180.capture(model, x)
    slopes, score = central_differences(model, x)[2], model(x)[0, 2].detach()
    for method in WAYS_BACK:
        p = rot180.project(net, x[0], "head", 2, None, method)
        assert relative_error(p.full(), (score * slopes).reshape(3, 5, 5)) < 1e-7


class Computed(nn.Module):
    """A norm with a weight that is computed from the image."""

    def __init__(self, norm: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.before, self.norm = nn.Conv2d(3, 4, 3), norm

    def forward(self, x: Tensor) -> Tensor:
        a = self.before(x[:1])
        return self.norm(a, a.mean((0, 2, 3)))


@pytest.mark.slow
def test_a_weight_that_is_computed_from_the_image_is_not_listed() -> None:
    for norm in (
        lambda a, w: F.group_norm(a, 2, w),
        lambda a, w: F.instance_norm(a, weight=w),
        lambda a, w: F.layer_norm(a.permute(0, 2, 3, 1), (4,), w),
        lambda a, w: F.rms_norm(a.permute(0, 2, 3, 1), (4,), w),
    ):
        model, example = seeded(Computed, norm), image(1, 3, 6, 7)
        steps = start_lowering(model, example).lower().steps
        assert isinstance(steps[-1].operator, UnknownOp)


@pytest.mark.slow
def test_local_response_norm_is_read_without_autograd() -> None:
    net = rot180.capture(seeded(Between, NORMS["local response norm"][0]), image(1, 3, 6, 7))
    operators = [one.operator for one in net.steps]
    assert not [one for one in operators if isinstance(one, AutogradOp | UnknownOp)]
    assert [one.kind for one in operators if isinstance(one, AxisLinear)] == [
        "constant padding",
        "average pooling",
    ]
    assert all(one.local for one in operators)
    assert rot180.report(net).layers[-1].methods == WAYS_BACK


@pytest.mark.slow
def test_norms_that_differ_have_other_fingerprints() -> None:
    def of(made: Callable[[], nn.Module]) -> str:
        return fingerprint(rot180.capture(seeded(Between, made), image(1, 3, 6, 7)))

    made = (
        lambda: nn.GroupNorm(2, 4),
        lambda: nn.GroupNorm(2, 4, eps=0.1),
        lambda: nn.LocalResponseNorm(2),
        lambda: nn.LocalResponseNorm(3),
        lambda: nn.RMSNorm(7),
        lambda: nn.LayerNorm(7, bias=False),
    )
    assert len(set(map(of, made))) == len(made)
    assert of(made[0]) == of(made[0])
