"""Steps are compared with finite differences; one that is wrong is named, and refuses."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import rot180
from rot180 import Rot180Error
from rot180.graph.gradcheck import derivative_errors, in_double
from rot180.graph.operators import fallback
from tests.differences import check_gradient, maps_of
from tests.graph.test_capture import Written
from tests.models import image, relative_error, seeded


def varied(s: Written, x: Tensor) -> Tensor:
    y = F.max_pool2d(F.gelu(F.group_norm(s.a(x), 2)), 3, 2, 1)
    y = s.b(y * torch.sigmoid(y.mean((2, 3), keepdim=True)) + y.softmax(1) * y.amax(1, True))
    return s.c(F.adaptive_max_pool2d(y, 3)).sort(1)[0]


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_report_compares_every_step_that_is_not_linear(dtype: torch.dtype) -> None:
    net = rot180.capture(seeded(Written, varied).to(dtype), image(1, 3, 12, 12).to(dtype))
    report = rot180.report(net)
    assert report.derived == len(list(derivative_errors(net))) >= 9
    assert report.derivative_error < 1e-5
    assert not report.wrong
    assert "others agree with finite differences" in str(report)


def wrongly(call, signal: Tensor, inputs: tuple) -> tuple:
    return tuple(None if one is None else 1.2 * one for one in right(call, signal, inputs))


right = fallback.vjp


def test_a_wrong_derivative_of_autograd_refuses_every_method_by_name(monkeypatch) -> None:
    monkeypatch.setattr(fallback, "vjp", wrongly)
    net = rot180.capture(
        seeded(Written, lambda s, x: s.c(s.b(s.a(x)).softmax(1))), image(1, 3, 8, 8)
    )
    for method in ("gradient", "deconvnet", "guided"):
        with pytest.raises(Rot180Error, match=r"derivative of softmax is not right: .*20\.0%"):
            rot180.project(net, image(3, 8, 8), "c", 0, method=method)
        rot180.project(net, image(3, 8, 8), "b", 0, method=method)
    assert [one.methods for one in rot180.report(net).layers][-1] == ()


def test_a_wrong_formula_is_in_the_report(monkeypatch) -> None:
    net = rot180.capture(seeded(Written, lambda s, x: s.c(F.gelu(s.b(s.a(x))))), image(1, 3, 8, 8))
    place = next(n for n, one in enumerate(net.steps) if "GELU" in one.operator.kind)
    gelu = net.steps[place].operator
    object.__setattr__(gelu, "vjp", lambda signal, z: signal * torch.sigmoid(z))
    report = rot180.report(net)
    assert report.wrong == (("rectifier (GELU)", ""),)
    assert "WRONG: the derivative of the step 'rectifier (GELU)'" in str(report)


@pytest.mark.slow
def test_operators_in_double_precision_are_the_same() -> None:
    net = rot180.capture(seeded(Written, varied).float(), image(1, 3, 12, 12).float())
    for step in net.steps:
        double = in_double(step.operator)
        assert type(double) is type(step.operator)
        assert double.kind == step.operator.kind


class Rounded(torch.autograd.Function):
    """A straight-through estimator."""

    @staticmethod
    def forward(ctx, z: Tensor) -> Tensor:
        return z.round()

    @staticmethod
    def backward(ctx, signal: Tensor) -> Tensor:
        return signal


class Saving(torch.autograd.Function):
    """A SiLU that saves memory: its backward pass is the derivative of its forward pass."""

    @staticmethod
    def forward(ctx, z: Tensor) -> Tensor:
        ctx.save_for_backward(z)
        return z * torch.sigmoid(z)

    @staticmethod
    def backward(ctx, signal: Tensor) -> Tensor:
        (z,) = ctx.saved_tensors
        gate = torch.sigmoid(z)
        return signal * gate * (1 + z * (1 - gate))


rounded = Rounded.apply


@pytest.mark.slow
def test_an_own_derivative_is_kept_where_it_is_another() -> None:
    model = seeded(Written, lambda s, x: s.c(Saving.apply(s.b(rounded(4 * s.a(x))))))
    forward = Rounded.forward
    net = rot180.capture(model, image(1, 3, 8, 8))
    assert Rounded.forward is forward
    assert rot180.report(net).rectifiers == {"SiLU": 1}
    assert ("own derivative (Rounded)", "") in rot180.report(net).gradient_only
    x = image(2, 3, 8, 8, seed=3).requires_grad_()
    maps = model(x)[:, 2]
    (wanted,) = torch.autograd.grad((maps * maps.detach()).sum(), x)
    found = rot180.project(net, x.detach(), "c", 2, method="gradient").full()
    assert relative_error(found, wanted) < 1e-12
    with pytest.raises(Rot180Error, match="'deconvnet' is not defined for the operator Rounded"):
        rot180.project(net, x[0].detach(), "c", 2, method="deconvnet")
    rot180.project(net, x[0].detach(), "a", 2, method="deconvnet")


@pytest.mark.slow
def test_a_pooling_by_the_square_has_a_gradient_at_zero() -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.LPPool2d(2, 2), nn.Conv2d(6, 4, 3)
    )
    model = model.double().eval()
    with torch.no_grad():
        model[0].bias[:2] = -50  # silent: the norm of zeros has no derivative
    net, x = rot180.capture(model, image(1, 3, 16, 16)), image(3, 16, 16, seed=2)
    for method in ("gradient", "deconvnet", "guided"):
        assert rot180.project(net, x, "3", 1, method=method).full().isfinite().all()

    def whole(one: Tensor) -> Tensor:
        return maps_of(model, model[3], one[None])[0, 1]

    check_gradient(rot180.project(net, x, "3", 1, method="gradient"), whole, x, 1e-5)


@pytest.mark.slow
def test_a_signal_that_becomes_infinite_is_refused_with_its_step() -> None:
    model = seeded(Written, lambda s, x: s.c((0 * s.a(x)).log().clamp(min=-9)))
    with torch.no_grad():
        model.c.weight.abs_()
    net = rot180.capture(model, image(1, 3, 8, 8))
    with pytest.raises(Rot180Error, match=r"not a number \(NaN\) in the backward pass .* step log"):
        rot180.project(net, image(3, 8, 8), "c", 0, method="gradient")


@pytest.mark.slow
def test_what_a_rectifier_holds_back_may_be_infinite() -> None:
    """PyTorch gives 0 there, too: the image has no influence on a unit that is silent."""
    model = seeded(Written, lambda s, x: s.c(F.relu(s.a(x)).log().clamp(min=-9)))
    with torch.no_grad():
        model.c.weight.abs_()
        model.a.bias[:] = -50
    net, x = rot180.capture(model, image(1, 3, 8, 8)), image(3, 8, 8)
    found = rot180.project(net, x, "c", 0, (4, 4), method="gradient")
    wanted = x[None].clone().requires_grad_()
    model(wanted)[0, 0, 4, 4].backward()
    assert torch.equal(found.full(), wanted.grad[0])


@pytest.mark.slow
@pytest.mark.parametrize(
    "through",
    [
        lambda x: x.square().float().mean((2, 3), keepdim=True).to(x.dtype) + x,
        lambda x: x + x.float().type_as(x),
        lambda x: x.float().double(),
    ],
)
def test_a_model_in_double_precision_that_rounds_to_single(through) -> None:
    """Rounding is no derivative: finite differences of it are noise, and no method minds it."""
    model = seeded(Written, lambda s, x: s.c(s.b(through(s.a(x)))))
    net = rot180.capture(model, image(1, 3, 8, 8))
    x = image(3, 8, 8, seed=4)

    def unit(one: Tensor) -> Tensor:
        return maps_of(smooth, smooth.c, one[None])[0, 1, 1, 1]

    smooth = seeded(Written, lambda s, x: s.c(s.b(unrounded(through, s.a(x)))))
    p = rot180.project(net, x, "c", 1, (1, 1), "gradient")
    check_gradient(p, unit, x, 1e-5)
    for method in ("deconvnet", "guided"):
        rot180.project(net, x, "c", 1, (1, 1), method)
    assert not rot180.report(net).wrong


class _Unrounded(Tensor):
    """Numbers that stay what they are."""

    def float(self) -> Tensor:
        return self

    def double(self) -> Tensor:
        return self


def unrounded(through, x: Tensor) -> Tensor:
    return through(x.as_subclass(_Unrounded)).as_subclass(Tensor)


def test_a_derivative_that_is_smaller_than_rounding_is_not_accused() -> None:
    """A softmax whose largest input is far above the others is constant, to every digit."""
    model = seeded(Written, lambda s, x: s.c(s.b((s.a(x) * 1e4).softmax(1))))
    net = rot180.capture(model, image(1, 3, 8, 8))
    assert rot180.project(net, image(3, 8, 8, seed=4), "c", 1, (1, 1), "gradient").full().shape
