"""Functions of one number that are written out are what they compute, whatever they look like."""

import math
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import rot180
from rot180 import Rot180Error
from rot180.graph.box import Box
from rot180.graph.capture import start_lowering
from rot180.graph.fingerprint import fingerprint
from rot180.graph.lowerings.rectifier_check import is_rectifier
from rot180.graph.operators.activations import Pointwise, Rectifier
from rot180.graph.operators.operator import Operator, Region, Saved
from rot180.projection.rules import WAYS_BACK, Rules
from tests.graph.test_capture import Written
from tests.models import image, relative_error, seeded

Function = Callable[[Tensor], Tensor]
SLOPES = torch.tensor([0.1, 0.3, -0.2, 0.5]).double()[:, None, None]
RELIEF = image(1, 4, 8, 8, seed=1)

WRITTEN: dict[str, tuple[Function, Function, str]] = {
    "x relu6(x + 3) / 6": (lambda x: x * F.relu6(x + 3) / 6, F.hardswish, "Hardswish"),
    "x (relu6(x + 3) / 6)": (lambda x: x * (F.relu6(x + 3) / 6), F.hardswish, "Hardswish"),
    "x clamp(x + 3) / 6": (lambda x: x * (x + 3).clamp(0, 6) / 6, F.hardswish, "Hardswish"),
    "x hardsigmoid(x)": (lambda x: F.hardsigmoid(x) * x, F.hardswish, "Hardswish"),
    "x sigmoid(x)": (lambda x: x * torch.sigmoid(x), F.silu, "SiLU"),
    "x / (1 + exp(-x))": (lambda x: x / (1 + torch.exp(-x)), F.silu, "SiLU"),
    "2 x sigmoid(x) / 2": (lambda x: (2 * x) * torch.sigmoid(x) / 2, F.silu, "SiLU"),
    "GELU by erf": (lambda x: x * 0.5 * (1 + torch.erf(x / math.sqrt(2))), F.gelu, "GELU"),
    "GELU by tanh": (
        lambda x: 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
        lambda x: F.gelu(x, approximate="tanh"),
        "GELU (tanh)",
    ),
    "x tanh(softplus(x))": (lambda x: x * torch.tanh(F.softplus(x)), F.mish, "Mish"),
    "x tanh(log(1 + exp(x)))": (lambda x: x * (1 + x.exp()).log().tanh(), F.mish, "Mish"),
    "x (x > 0)": (lambda x: x * (x > 0), F.relu, "ReLU"),
    "x (x > 0).float()": (lambda x: x * (x > 0).float(), F.relu, "ReLU"),
    "x (x > 0).type_as(x)": (lambda x: x * (x > 0).type_as(x), F.relu, "ReLU"),
    "x ~(x < 0)": (lambda x: x * ~(x < 0), F.relu, "ReLU"),
    "where(x > 0, x, 0)": (lambda x: torch.where(x > 0, x, 0.0), F.relu, "ReLU"),
    "where(x >= 0, x, zeros)": (
        lambda x: torch.where(x >= 0, x, torch.zeros_like(x)),
        F.relu,
        "ReLU",
    ),
    "masked_fill": (lambda x: x.masked_fill(x < 0, 0), F.relu, "ReLU"),
    "in place": (lambda x: x.clone().masked_fill_(x < 0, 0).mul_(1), F.relu, "ReLU"),
    "(x + |x|) / 2": (lambda x: (x + x.abs()) / 2, F.relu, "ReLU"),
    "x - min(x, 0)": (lambda x: x - x.clamp(max=0), F.relu, "ReLU"),
    "-min(-x, 0)": (lambda x: -((-x).clamp(max=0)), F.relu, "ReLU"),
    "max(x, new zeros)": (lambda x: torch.max(x, x.new_zeros(1)), F.relu, "ReLU"),
    "max(x, full)": (lambda x: torch.fmax(x, torch.full_like(x, 0)), F.relu, "ReLU"),
    "clamp at a tensor": (lambda x: x.clamp(min=torch.tensor(0.0)), F.relu, "ReLU"),
    "sqrt(x^2) + x": (lambda x: ((x**2).sqrt() + x) / 2, F.relu, "ReLU"),
    "min(max(x, 0), 6)": (lambda x: F.relu(x).clamp(max=6), F.relu6, "ReLU6"),
    "max(x, x / 10)": (
        lambda x: torch.max(x, 0.1 * x),
        lambda x: F.leaky_relu(x, 0.1),
        "LeakyReLU",
    ),
    "where(x > 0, x, x / 10)": (
        lambda x: torch.where(x > 0, x, 0.1 * x),
        lambda x: F.leaky_relu(x, 0.1),
        "LeakyReLU",
    ),
    "relu(x) - relu(-x) / 4": (
        lambda x: F.relu(x) - 0.25 * F.relu(-x),
        lambda x: F.leaky_relu(x, 0.25),
        "LeakyReLU",
    ),
    "where(x > 0, x, exp(x) - 1)": (
        lambda x: torch.where(x > 0, x, 0.7 * (x.exp() - 1)),
        lambda x: F.elu(x, 0.7),
        "ELU",
    ),
    "SELU": (
        lambda x: (
            1.0507009873554805
            * torch.where(x > 0, x, 1.6732632423543772 * torch.expm1(x.clamp(max=0)))
        ),
        lambda x: F.elu(x, 1.6732632423543772) * 1.0507009873554805,
        "ELU",
    ),
    "where(x > 0, l x, l a (exp(x) - 1))": (
        lambda x: torch.where(
            x > 0, 1.0507009873554805 * x, 1.7580993408473766 * torch.expm1(x.clamp(max=0))
        ),
        F.selu,
        "SELU",
    ),
    "max(x, 0) + min(0, 2 (exp(x / 2) - 1))": (
        lambda x: x.clamp(min=0) + (2 * ((x / 2).exp() - 1)).clamp(max=0),
        lambda x: F.celu(x, 2.0),
        "CELU",
    ),
    "relu(x) - slopes relu(-x)": (
        lambda x: F.relu(x) - SLOPES * F.relu(-x),
        lambda x: F.prelu(x, SLOPES.flatten()),
        "PReLU",
    ),
    "where(x > 0, x, slopes x)": (
        lambda x: torch.where(x > 0, x, SLOPES * x),
        lambda x: F.prelu(x, SLOPES.flatten()),
        "PReLU",
    ),
}
"""A function as it is written, as PyTorch calls it, and the name of the rectifier."""


class Many(nn.Module):
    """Networks side by side, which is quicker to capture than one by one."""

    def __init__(self, forwards: Iterable[Callable[[Written, Tensor], Tensor]]) -> None:
        super().__init__()
        for place, forward in enumerate(forwards):
            self.add_module(str(place), seeded(Written, forward))

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return tuple(one(x) for one in self.children())


def between(function: Function) -> Callable[[Written, Tensor], Tensor]:
    """Return a forward pass with a function between convolutions."""
    return lambda s, x: s.c(function(s.b(F.relu(s.a(x))) * 3))


def network(function: Function) -> tuple[nn.Module, rot180.Network]:
    model = seeded(Written, between(function))
    return model, rot180.capture(model, image(1, 3, 8, 8))


def operators_of(net: rot180.Network) -> list[Operator]:
    return [net.steps[place].operator for place in net.ancestors(*net.outputs)]


@lru_cache(maxsize=1)
def both() -> list[tuple[rot180.Network, Any]]:
    """Return networks of all written functions, and of the functions that they are."""
    found = []
    for which in (0, 1):
        model = Many(between(one[which]) for one in WRITTEN.values())
        net = rot180.capture(model, image(1, 3, 8, 8))
        found.append((net, rot180.open_image(net, image(3, 8, 8, seed=3))))
    return found


@pytest.mark.slow
@pytest.mark.parametrize("name", WRITTEN)
def test_a_rectifier_that_is_written_out_is_that_one(name: str) -> None:
    place, x = list(WRITTEN).index(name), image(3, 8, 8, seed=3)
    (net, opened), (plain, plainly) = both()
    below = net.ancestors(net.layers[f"{place}.c"].output_step)
    found = [net.steps[one].operator for one in below]
    assert [one.name for one in found if isinstance(one, Rectifier)] == ["ReLU", WRITTEN[name][2]]
    for method in WAYS_BACK:
        for source, as_well in ((x, x), (opened, plainly)):
            for at in (None, (0, 0), (4, 5)):
                one = rot180.project(net, source, f"{place}.c", 1, at, method)
                two = rot180.project(plain, as_well, f"{place}.c", 1, at, method)
                assert one.box == two.box
                assert one.activation == pytest.approx(two.activation, rel=1e-12)
                assert relative_error(one.pixels, two.pixels) < 1e-12


@pytest.mark.slow
def test_a_layer_ends_with_the_rectifier_that_is_written_out() -> None:
    some = list(WRITTEN.values())[::4]
    nets = [
        rot180.capture(
            Many(lambda s, x, f=one[which]: s.b(f(s.a(x))) for one in some),
            image(1, 3, 8, 8),
        )
        for which in (0, 1)
    ]
    for place, (_, _, rectifier) in enumerate(some):
        name = f"{place}.a"
        assert [one.layers[name].rectifier for one in nets] == [rectifier, rectifier]
        for method in WAYS_BACK:
            one, two = (rot180.project(net, image(2, 3, 8, 8), name, method=method) for net in nets)
            assert relative_error(one.full(), two.full()) < 1e-12


RECTIFIERS: dict[str, Function] = {
    "ReLU": F.relu,
    "ReLU6": F.relu6,
    "LeakyReLU": lambda x: F.leaky_relu(x, 0.2),
    "LeakyReLU, steep": lambda x: torch.max(x, 0.6 * x),
    "RReLU": F.rrelu,
    "ELU": F.elu,
    "SELU": F.selu,
    "CELU": lambda x: F.celu(x, 2.0),
    "GELU": F.gelu,
    "GELU by tanh": lambda x: F.gelu(x, approximate="tanh"),
    "SiLU": F.silu,
    "QuickGELU": lambda x: x * torch.sigmoid(1.702 * x),
    "Hardswish": F.hardswish,
    "Mish": F.mish,
    "Softplus": F.softplus,
    "clamp(0, 1)": lambda x: x.clamp(0, 1),
    "hardtanh(0, 2)": lambda x: F.hardtanh(x, 0, 2),
    "clamp(min=1e-6)": lambda x: x.clamp(min=1e-6),
    "threshold(0.1)": lambda x: F.threshold(x, 0.1, 0),
    "squareplus": lambda x: (x + (x * x + 4).sqrt()) / 2 - 1,
}
OTHERS: dict[str, Function] = {
    "identity": lambda x: x,
    "1 - x": lambda x: 1 - x,
    "-x": lambda x: -x,
    "3 x + 1": lambda x: 3 * x + 1,
    "x + 2 sigmoid(x)": lambda x: x + 2 * torch.sigmoid(x),
    "abs": torch.abs,
    "square": torch.square,
    "cube": lambda x: x**3,
    "sin": torch.sin,
    "cos": torch.cos,
    "tan": torch.tan,
    "atan": torch.atan,
    "sinh": torch.sinh,
    "cosh": torch.cosh,
    "asinh": torch.asinh,
    "erf": torch.erf,
    "erfc": torch.erfc,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "hard sigmoid": F.hardsigmoid,
    "softsign": F.softsign,
    "softshrink": F.softshrink,
    "hardshrink": F.hardshrink,
    "tanhshrink": F.tanhshrink,
    "sign": torch.sign,
    "floor": torch.floor,
    "ceil": torch.ceil,
    "round": torch.round,
    "trunc": torch.trunc,
    "frac": torch.frac,
    "exp": torch.exp,
    "exp2": torch.exp2,
    "expm1": torch.expm1,
    "log": torch.log,
    "log2": torch.log2,
    "log10": torch.log10,
    "log1p": torch.log1p,
    "sqrt": torch.sqrt,
    "rsqrt": torch.rsqrt,
    "reciprocal": torch.reciprocal,
    "hardtanh": F.hardtanh,
    "clamp(max=6)": lambda x: x.clamp(max=6),
    "step": lambda x: torch.where(x > 0, 1.0, 0.0),
    "bump": lambda x: torch.exp(-x * x),
}
UNDECIDED: dict[str, Function] = {
    "mirrored": lambda x: -F.silu(-x),
    "upside down": lambda x: -F.gelu(x),
    "log sigmoid": F.logsigmoid,
    "clamp(min=5)": lambda x: x.clamp(min=5),
    "square above zero": lambda x: x * x * torch.sigmoid(3 * x),
}


@pytest.mark.parametrize("name", RECTIFIERS)
def test_rectifiers_let_positive_values_through_and_hold_negative_ones_back(name: str) -> None:
    assert is_rectifier(RECTIFIERS[name]) == 1


@pytest.mark.parametrize("name", OTHERS)
def test_other_functions_do_not(name: str) -> None:
    assert is_rectifier(OTHERS[name]) == 0


@pytest.mark.parametrize("name", UNDECIDED)
def test_of_some_nobody_can_say(name: str) -> None:
    assert is_rectifier(UNDECIDED[name]).isnan()


def read(functions: Iterable[Function]) -> list[tuple[Operator, ...]]:
    """Return the operators that functions of the image are read as."""
    model = Many(lambda s, x, f=one: f(x) for one in functions)
    example = torch.zeros(1, 3, 8, 8, dtype=torch.float64)
    lowering = start_lowering(model, example)
    net = lowering.lower()
    found: list[tuple[Operator, ...]] = []
    places = {step.name: place for place, step in enumerate(net.steps)}
    for name in lowering.signature.user_outputs:
        below = net.ancestors(places[name]) if name in places else []
        found.append(tuple(net.steps[one].operator for one in below))
    return found


WHOLE = Region(Box(0, 0, 8, 8), (), ())
CHECKED = {
    **{name: function for name, (function, _, _) in WRITTEN.items() if "slopes" not in name},
    **RECTIFIERS,
    **{name: one for name, one in OTHERS.items() if name != "step"},  # of another precision
    "custom rectifier": lambda x: x * torch.atan(F.softplus(x)) * 0.5,
    "odd": lambda x: x * torch.exp(-x.abs()),
    "log sigmoid": F.logsigmoid,
    "2^x": lambda x: 2**x,
    "x^2.5": lambda x: x.abs() ** 2.5 - x.abs() ** 0.5,
    "hypot": lambda x: torch.hypot(x, torch.tensor(1.0)),
    "logaddexp": lambda x: torch.logaddexp(x, torch.zeros_like(x)),
}


@lru_cache(maxsize=1)
def operators_of_all() -> dict[str, tuple[Operator, ...]]:
    return dict(zip(CHECKED, read(CHECKED.values()), strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("name", CHECKED)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_derivatives_are_those_of_forward_mode_and_of_differences(name: str, dtype) -> None:
    function, operators = CHECKED[name], operators_of_all()[name]
    z = (torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(4)) * 2).to(dtype)
    if name in ("log", "log2", "log10", "log1p", "sqrt", "rsqrt"):
        z = z.abs() + 0.01
    signal = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(5)).to(dtype)
    value, found, passed = z, signal, []
    with torch.inference_mode():
        for one in operators:
            passed.append(Saved((value,), one.forward((value,), WHOLE)[0]))
            value = passed[-1].output
        for one, kept in reversed(list(zip(operators, passed, strict=True))):
            (found,) = one.backward(found, kept, Rules("gradient"), WHOLE)
    if name != "RReLU":
        epsilon = torch.finfo(dtype).eps
        wanted, slope = torch.func.jvp(function, (z,), (signal,))
        assert torch.allclose(value, wanted, rtol=100 * epsilon, atol=100 * epsilon)
        digits = 1e4 * epsilon if "hardsigmoid" not in name else 1e-6  # PyTorch has a float there
        assert torch.allclose(found, slope, rtol=digits, atol=digits)
    if dtype == torch.float64:
        step = 1e-6
        slope = (function(z + step) - function(z - step)) / (2 * step)
        if name == "RReLU":
            slope = torch.where(z > 0, 1.0, (1 / 8 + 1 / 3) / 2)
        assert torch.allclose(found, signal * slope, rtol=1e-6, atol=1e-6)


@pytest.mark.slow
def test_a_branch_that_is_not_taken_adds_nothing() -> None:
    ((operator,),) = read([lambda x: torch.where(x > 0, (x * x + x).sqrt(), 0 * x)])
    z = torch.tensor([-2.0, -0.5, 0.0, 2.0]).double()
    found = operator.vjp(torch.ones_like(z), z)
    assert found[:3].tolist() == [0, 0, 0]
    assert found[3] == pytest.approx(5 / 2 / 6**0.5)


class Ruled(torch.autograd.Function):
    """A rectifier whose derivative is a method's rule; its size is that of its largest slope."""

    @staticmethod
    def forward(ctx, z: Tensor, function: Function, size: float, method: str) -> Tensor:
        ctx.save_for_backward(z)
        ctx.function, ctx.size, ctx.method = function, size, method
        return function(z)

    @staticmethod
    def backward(ctx, signal: Tensor) -> tuple[Tensor, None, None, None]:
        if ctx.method != "gradient":
            signal = signal.clamp(min=0)
        if ctx.method == "deconvnet":
            return signal * ctx.size, None, None, None
        with torch.enable_grad():
            z = ctx.saved_tensors[0].detach().requires_grad_()
            (found,) = torch.autograd.grad(ctx.function(z), z, signal)
        return found, None, None, None


@pytest.mark.slow
@pytest.mark.parametrize(
    ("rectify", "size"),
    [
        (lambda x: x * torch.atan(F.softplus(x)), math.pi / 2),
        (lambda x: torch.where(x > 0, x * 1.1, 1.5 * torch.tanh(x)), 1.1),
        (lambda x: x.clamp(min=1e-6), 1),
        (lambda x: F.threshold(x, 0.1, 0), 1),
        (lambda x: torch.maximum(x, torch.tensor(0.1)), 1),
        (lambda x: (x + (x * x + 4).sqrt()) / 2, 1),
        (lambda x: 0.5 * x * (1 + torch.tanh(0.8 * (x + 0.04 * x**3))), 1),
        (lambda x: 0.5 * x * (1 + torch.tanh(0.7978846 * (x + 0.0447 * x**3))), 1),
        (lambda x: x * torch.sigmoid(SLOPES.abs() * 10 * x), 1),
        (lambda x: torch.log(1 + torch.exp(x)), 1),
        (lambda x: torch.log1p(torch.exp(2 * x)) / 2, 1),
    ],
)
def test_a_rectifier_of_ones_own_takes_the_rule_of_each_method(
    rectify: Function, size: float
) -> None:
    """The rule is put in the place of it by a function of autograd's."""
    model, net = network(rectify)
    assert sum(isinstance(one, Rectifier) for one in operators_of(net)) == 2
    x = image(1, 3, 8, 8, seed=3)
    for method in WAYS_BACK:
        pixels = x.clone().requires_grad_()
        y = model.b(Ruled.apply(model.a(pixels), F.relu, 1.0, method)) * 3
        maps = model.c(Ruled.apply(y, rectify, size, method))[0, 2]
        (wanted,) = torch.autograd.grad((maps * maps.detach()).sum(), pixels)
        assert relative_error(
            rot180.project(net, x[0], "c", 2, method=method).full(), wanted[0]
        ) < (1e-11 if method != "deconvnet" else 1e-5)
        value = maps[4, 4].detach()
        unit = rot180.project(net, rot180.open_image(net, x[0]), "c", 2, (4, 4), method)
        assert unit.activation == pytest.approx(float(value), rel=1e-11)
        whole = rot180.project(net, x[0], "c", 2, (4, 4), method)
        assert relative_error(unit.pixels, whole.pixels) < 1e-12


def hard_sigmoid(x: Tensor) -> Tensor:
    return F.relu6(x + 3) / 6


@pytest.mark.slow
@pytest.mark.parametrize(
    "bend",
    [
        torch.sin,
        F.softsign,
        F.softshrink,
        F.tanhshrink,
        F.logsigmoid,
        torch.square,
        lambda x: x * torch.exp(-x.abs()),
        lambda x: x * (1 - x),
        hard_sigmoid,
        lambda x: F.relu(x) + F.relu(-x),
        lambda x: F.relu(x) - F.relu(-x),
        lambda x: torch.sign(x) * F.relu(x.abs()) * 4,
        lambda x: torch.minimum(x, torch.tensor(2.0)),
        lambda x: 1 / (1 + torch.exp(-x)),
        lambda x: torch.where(x.abs() < SLOPES.abs(), 0.0, x),
    ],
)
def test_what_is_no_rectifier_goes_by_its_derivative_whatever_is_inside(bend: Function) -> None:
    model = seeded(Written, lambda s, x: s.b(bend(s.a(x) * 2)))
    net, x = rot180.capture(model, image(1, 3, 8, 8)), image(1, 3, 8, 8, seed=2)
    pixels = x.clone().requires_grad_()
    maps = model(pixels)[0, 1]
    (wanted,) = torch.autograd.grad((maps * maps.detach()).sum(), pixels)
    digits = 1e-7 if bend is hard_sigmoid else 1e-12  # PyTorch's own has a sixth in float32
    for method in WAYS_BACK:
        found = rot180.project(net, x[0], "b", 1, method=method)
        assert relative_error(found.full(), wanted[0]) < digits
        unit = rot180.project(net, x[0], "b", 1, (7, 2), method)
        (one,) = torch.autograd.grad(
            model(pixels)[0, 1, 7, 2], pixels, torch.tensor(unit.activation, dtype=torch.float64)
        )
        assert relative_error(unit.full(), one[0]) < digits


@pytest.mark.slow
@pytest.mark.parametrize(
    "unclear",
    [
        lambda x: x * x * torch.sigmoid(3 * x),
        lambda x: x * torch.atan(F.softplus(-x)),
        lambda x: F.relu(x) + RELIEF * F.relu(-x),
        lambda x: torch.where(x > 0, x, RELIEF[:, :1].abs() * x),
        lambda x: x.clamp(min=5),
    ],
)
def test_what_is_undecided_or_differs_from_place_to_place_has_the_gradient_only(unclear) -> None:
    model = seeded(Written, lambda s, x: s.b(unclear(s.a(x))))
    net = rot180.capture(model, image(1, 3, 8, 8))
    rot180.project(net, image(3, 8, 8), "b", 0, (4, 4), "gradient")
    for method in ("deconvnet", "guided"):
        with pytest.raises(Rot180Error, match=f"'{method}' is not defined"):
            rot180.project(net, image(3, 8, 8), "b", 0, (4, 4), method)


@pytest.mark.parametrize(
    ("function", "kinds"),
    [
        (lambda s, z: z + z, ["sum"]),
        (lambda s, z: z * z, ["product"]),
        (lambda s, z: F.relu(z) ** 2, ["rectifier (ReLU)", "power 2"]),
        (lambda s, z: z - 0.3 * z, ["multiplied with a constant", "sum"]),
        (
            lambda s, z: z * torch.sigmoid(z.mean((2, 3), keepdim=True)),
            ["mean", "sigmoid", "product"],
        ),
        (lambda s, z: z * torch.sigmoid(s.b(z)), ["convolution", "sigmoid", "product"]),
        (lambda s, z: z + F.relu(s.b(z)), ["convolution", "rectifier (ReLU)", "sum"]),
        (lambda s, z: F.relu(z * 2) / 2, None),
        (lambda s, z: z + (z.round() - z).detach(), ["written out (sub, round)", "detach", "sum"]),
    ],
)
def test_what_is_no_function_of_one_number_or_a_straight_line_is_left_alone(
    function, kinds
) -> None:
    net = rot180.capture(seeded(Written, lambda s, x: s.c(function(s, s.a(x)))), image(1, 3, 8, 8))
    wanted = kinds or [
        "multiplied with a constant",
        "rectifier (ReLU)",
        "multiplied with a constant",
    ]
    assert [one.kind for one in operators_of(net)] == ["convolution", *wanted, "convolution"]


def test_a_call_inside_that_is_used_elsewhere_stays_what_it_is() -> None:
    def forward(s: Written, x: Tensor) -> Tensor:
        gate = F.relu6((z := s.a(x)) + 3) / 6
        return s.c(z * gate + s.b(gate))

    model = seeded(Written, forward)
    net = rot180.capture(model, image(1, 3, 8, 8))
    kinds = [one.kind for one in operators_of(net)]
    assert "rectifier (Hardswish)" in kinds
    assert "hard sigmoid" in kinds
    assert "rectifier (ReLU6)" not in kinds


@pytest.mark.slow
@pytest.mark.parametrize("power", [2, 3.0])
def test_the_gradient_of_a_pooling_by_powers_is_finite(power: float) -> None:
    """Where a window is zero, so is the derivative of its length: the middle of what it may be."""
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.LPPool2d(power, 2), nn.Conv2d(4, 4, 3)
    ).double()
    net, x = rot180.capture(model, image(1, 3, 12, 12)), image(1, 3, 12, 12)
    silent = F.max_pool2d(model[:2](x), 2) == 0
    assert silent.any()
    for method in WAYS_BACK:
        assert rot180.project(net, x[0], "3", method=method).full().isfinite().all()
    unit = rot180.project(net, x[0], "3", 1, (2, 2), "gradient")
    step, wanted = 1e-6, torch.zeros(3, 12, 12, dtype=torch.float64)
    for place in wanted.flatten().nonzero(as_tuple=True)[0].tolist() or range(wanted.numel()):
        moved = torch.zeros_like(wanted)
        moved.view(-1)[place] = step
        up, down = (model(x + sign * moved)[0, 1, 2, 2].item() for sign in (1, -1))
        wanted.view(-1)[place] = (up - down) / (2 * step) * unit.activation
    assert relative_error(unit.full(), wanted) < 1e-5


@pytest.mark.parametrize("function", [torch.sqrt, lambda x: x**0.3, lambda x: x**0.5])
def test_roots_have_the_derivative_zero_at_zero(function: Function) -> None:
    model = seeded(Written, lambda s, x: s.b(function(F.relu(s.a(x)))))
    net, x = rot180.capture(model, image(1, 3, 8, 8)), image(3, 8, 8)
    for method in WAYS_BACK:
        assert rot180.project(net, x, "b", method=method).full().isfinite().all()


@pytest.mark.parametrize("axis", [1, 2])
def test_a_gated_linear_unit_goes_by_its_derivative(axis: int) -> None:
    model = seeded(Written, lambda s, x: s.b(F.glu(torch.cat([s.a(x), s.a(x) + 1], axis), axis)))
    net, x = rot180.capture(model, image(1, 3, 8, 8)), image(1, 3, 8, 8)
    assert (0 in net.layers["b"].stride) == (axis == 2)
    pixels = x.clone().requires_grad_()
    value = model(pixels)[0, 1, 3, 4]
    (wanted,) = torch.autograd.grad(value, pixels, value.detach())
    for method in WAYS_BACK:
        found = rot180.project(net, x[0], "b", 1, (3, 4), method)
        assert relative_error(found.full(), wanted[0]) < 1e-12


@pytest.mark.slow
def test_networks_are_told_apart_by_what_is_written_in_them() -> None:
    functions: list[Function] = [
        lambda x: x * torch.atan(F.softplus(x)),
        lambda x: x * torch.atan(F.softplus(2 * x)),
        lambda x: x * torch.sigmoid(SLOPES * x),
        lambda x: x * torch.sigmoid(2 * SLOPES * x),
        lambda x: F.leaky_relu(x, 0.1),
        lambda x: F.leaky_relu(x, 0.2),
        lambda x: F.elu(x, 0.1),
        lambda x: F.elu(x, 0.2),
    ]
    found = {fingerprint(network(one)[1]) for one in functions}
    assert len(found) == len(functions)
    assert fingerprint(network(functions[0])[1]) in found


def test_a_function_that_is_written_twice_is_one_operator() -> None:
    (one, _), (two, _), (other,) = read(
        [
            lambda x: x * torch.atan(F.softplus(x)),
            lambda z: z * torch.atan(F.softplus(z)),
            lambda x: x * torch.atan(x),
        ]
    )
    assert one is two
    assert isinstance(one, Rectifier)
    assert isinstance(other, Pointwise)
