"""What one pass over all steps finds is what a pass for each layer finds, and grows with depth."""

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise

import pytest
import torch
import torchvision
from hypothesis import HealthCheck, given, settings

import rot180
from rot180.graph.box import COLUMNS, ROWS
from rot180.graph.costs import shares
from rot180.graph.network import Layer, Network
from rot180.graph.operators.arithmetic import Sum
from rot180.graph.operators.convolution import Convolution
from rot180.graph.operators.operator import MAPS, InteriorField, Operator
from rot180.graph.steps import Step
from tests.graph.regions import graphs
from tests.models import TwoConvolutions, Varied, image, seeded
from tests.projection.styles import RECTIFIERS, SIZE, STYLES, Modules, Several


def below(steps: Sequence[Step], last: int) -> list[int]:
    """Return the steps that one depends on, itself included, in order."""
    wanted = {last}
    for place in range(last, -1, -1):
        if place in wanted:
            wanted.update(steps[place].inputs)
    return sorted(wanted - {-1})


def from_above(steps: Sequence[Step], last: int, axis: int) -> InteriorField | None:
    """Return how a step sees the image, followed down from it as a unit would be."""
    found = {last: InteriorField(Fraction(1), Fraction(0), Fraction(1))}
    for place in reversed(below(steps, last)):
        here, own = found[place], steps[place].operator.interior_field(axis)
        if own is None:
            return None
        seen = InteriorField(
            here.scale * own.scale,
            here.low * own.scale + own.low,
            (here.high - 1) * own.scale + own.high,
        )
        for source in steps[place].inputs:
            other = found.get(source, seen)
            if other.scale != seen.scale:
                return None
            found[source] = InteriorField(
                seen.scale, min(other.low, seen.low), max(other.high, seen.high)
            )
    return found[-1]


def check(net: Network) -> None:
    """Compare what is said about every step and every layer with a pass for each."""
    for place in range(len(net.steps)):
        assert net.ancestors(place) == below(net.steps, place)
        size, stride = net.interior_field(place)
        for axis in (ROWS, COLUMNS):
            found, room = from_above(net.steps, place, axis), net.input_shape[1 + axis]
            if found is None:
                assert (size[axis], stride[axis]) == (room, 0)
            else:
                assert size[axis] == min(int(found.high - found.low), room)
                assert stride[axis] == float(found.scale)
    taken = [one for one in net.layers.values() if len(net.steps[one.weight_step].inputs) == 1]
    found = shares(net, taken)
    assert list(found) == [one.name for one in taken]
    for layer in taken:
        middle = net.unit_plan(layer, (layer.height // 2, layer.width // 2), "deconvnet").plan
        whole = net.unit_plan(layer, None, "deconvnet").plan.macs
        assert found[layer.name] == (middle.macs / whole if whole else 0)


def check_captured(net: Network) -> None:
    check(net)
    for one in rot180.report(net).layers:
        defined = [
            net.steps[k].operator.backward_kind.defined
            for k in net.ancestors(one.layer.output_step)
        ]
        assert set(one.methods) == set.intersection(*map(set, defined))
        assert (one.layer.receptive_field, one.layer.stride) == net.interior_field(
            one.layer.output_step
        )


@pytest.mark.slow
@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(net=graphs())
def test_of_steps_in_any_order(net: Network) -> None:
    """Branches of other scales, gaps, positions that see nothing, and steps on whole maps."""
    check(net)


@pytest.mark.slow
@pytest.mark.parametrize(("model", "size"), [(TwoConvolutions, (12, 12)), (Varied, (21, 26))])
def test_of_small_networks(model: type, size: tuple[int, int]) -> None:
    check_captured(rot180.capture(seeded(model), image(1, 3, *size)))


@pytest.mark.slow
@pytest.mark.parametrize("first", range(3))
def test_of_networks_of_many_styles(first: int) -> None:
    """Rectifiers, which all look at their own place, are left out."""
    names = list(STYLES)[len(RECTIFIERS) // 2 + first :: 3]
    check_captured(rot180.capture(seeded(Several, names), image(1, *SIZE)))


@pytest.mark.slow
def test_of_a_network_where_only_the_gradient_is_defined_from_some_step_on() -> None:
    def forward(m: Modules, x: torch.Tensor) -> torch.Tensor:
        return m.c(torch.special.i0(m.b(a := m.a(x)))) + m.point(a)

    net = rot180.capture(seeded(Modules, forward), image(1, *SIZE))
    check_captured(net)
    methods = {one.layer.name: len(one.methods) for one in rot180.report(net).layers}
    assert methods == {"a": 3, "b": 3, "c": 1, "point": 3}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet18", "googlenet", "mobilenet_v3_small"])
def test_of_a_network_of_torchvision(name: str) -> None:
    given = {"init_weights": False} if name == "googlenet" else {}
    model = torchvision.models.get_model(name, **given).eval()
    check_captured(rot180.capture(model, torch.zeros(1, 3, 64, 64)))


def deep(depth: int, shortcuts: bool) -> Network:
    """Return convolutions in a row, by choice each with a sum around it."""
    weight, steps = torch.ones(1, 1, 3, 3) / 9, []

    def append(operator: Operator, *sources: int) -> None:
        steps.append(Step(f"s{len(steps)}", operator, sources, (1, 8, 8), MAPS))

    for _ in range(depth):
        source = len(steps) - 1
        append(Convolution(weight, None, (1, 1), (1, 1), (1, 1), 1), source)
        if shortcuts:
            append(Sum(None, ((1, 8, 8),) * 2, MAPS, (1.0, 1.0)), source, len(steps) - 1)
    shape, device = (1, 8, 8), torch.device("cpu")
    bare = Network(tuple(steps), (len(steps) - 1,), {}, shape, torch.float32, device)
    layers = {
        one.name: Layer(one.name, "", 1, 8, 8, *bare.interior_field(place), "", place, place)
        for place, one in enumerate(steps)
        if isinstance(one.operator, Convolution)
    }
    return replace(bare, layers=layers, _cache={})


@pytest.mark.slow
@pytest.mark.parametrize("shortcuts", [False, True])
def test_what_is_asked_of_operators_grows_as_the_depth(shortcuts: bool, monkeypatch) -> None:
    asked = dict.fromkeys(
        ("interior_field", "input_span", "alignment", "macs", "backward_needs"), 0
    )

    def counting(name: str, kind: type[Operator]) -> None:
        method = getattr(kind, name)

        def counted(*arguments: object) -> object:
            asked[name] += 1
            return method(*arguments)

        monkeypatch.setattr(kind, name, counted)

    for name in asked:
        for kind in (Operator, Convolution):
            if name in vars(kind):
                counting(name, kind)
    counts = []
    for depth in (20, 40, 80):
        before = asked.copy()
        net = deep(depth, shortcuts)
        rot180.report(net)
        counts.append({name: asked[name] - before[name] for name in asked})
    for name in asked:
        fewer, more = (other[name] - one[name] for one, other in pairwise(counts))
        assert 0 < more <= 2 * fewer, (name, counts)


@pytest.mark.slow
@pytest.mark.parametrize("shortcuts", [False, True])
def test_of_deep_networks(shortcuts: bool) -> None:
    net = deep(12, shortcuts)
    check(net)
    assert [net.macs(one) for one in net.layers.values()] == [
        9 * 8 * 8 * number for number in range(1, 13)
    ]
