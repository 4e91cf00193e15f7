"""A graph that is read as it was exported says the same as one that PyTorch has decomposed."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import rot180
from rot180.graph.arguments import Arguments
from rot180.graph.export import _NEW_VALUES, export_program, is_plain
from tests.differences import check_gradient, maps_of
from tests.graph.test_capture import Written
from tests.models import seeded
from tests.projection.test_units import image

aten = torch.ops.aten


def _skipped(model: Written, x: Tensor) -> Tensor:
    a = model.a(x)
    b = model.b(a)
    b += a
    b.relu_()
    return model.c(b) + a


def _changed_after_a_view(model: Written, x: Tensor) -> Tensor:
    a = model.a(x)
    rows = a.view(len(a), 4, -1)
    a.relu_()
    return model.b(a) + rows.mean(2)[..., None, None]


def _a_view_changed(model: Written, x: Tensor) -> Tensor:
    a = model.a(x)
    a[:, :2].mul_(2.0)
    return model.b(a)


def _dropped_out_then_changed(model: Written, x: Tensor) -> Tensor:
    a = model.a(x)
    same = F.dropout(a, training=False)
    a.relu_()
    return model.b(same)


def _used_before_and_after(model: Written, x: Tensor) -> Tensor:
    a = model.a(x)
    before = model.b(a)
    a.mul_(a)
    a.relu_()
    return before * model.c(a)


def _the_image_itself(model: Written, x: Tensor) -> Tensor:
    x = x.clone().mul_(2)
    return model.b(model.a(x).clamp_(min=0))


def _of_another_precision(model: Written, x: Tensor) -> Tensor:
    a = model.a(x)
    a += torch.ones(1, dtype=torch.float64)
    return model.b(a)


def _the_former_state_returned(model: Written, x: Tensor) -> Tensor:
    a = model.a(x)
    F.relu_(a)
    return a


def _chunks(model: Written, x: Tensor) -> Tensor:
    one, other = model.a(x).chunk(2, dim=-3)
    joined = torch.stack([one, other], 1).reshape_as(x.new_empty(len(x), 4, 8, 8)).contiguous()
    return model.b(joined * x.mean((1, 2, 3), keepdim=True).expand_as(joined))


PLAIN = [
    _skipped,
    _used_before_and_after,
    _the_image_itself,
    _chunks,
    _the_former_state_returned,
]
DECOMPOSED = [
    _changed_after_a_view,
    _a_view_changed,
    _dropped_out_then_changed,
    _of_another_precision,
]


def program_of(model: nn.Module) -> torch.export.ExportedProgram:
    with torch.no_grad():
        return torch.export.export(model.eval(), (torch.ones(1, 3, 8, 8),))


@pytest.mark.slow
@pytest.mark.parametrize("forward", [*PLAIN, *DECOMPOSED])
def test_what_changes_in_place_is_followed(forward: Callable[[Written, Tensor], Tensor]) -> None:
    model = seeded(Written, forward)
    net, x = rot180.capture(model, image(1, 3, 8, 8)), image(2, 3, 8, 8, seed=2)
    assert torch.allclose(rot180.model_outputs(net, x)[0], model(x), rtol=1e-12, atol=1e-12)
    name = list(net.layers)[-1]
    layer = {"a": model.a, "b": model.b, "c": model.c}[name]
    for one in x:
        projected = rot180.project(net, one, name, 1, method="gradient")

        def activations(at: Tensor) -> Tensor:
            return maps_of(model, layer, at[None])[0, 1]

        check_gradient(projected, activations, one)


@pytest.mark.parametrize("forward", PLAIN)
def test_what_is_plain_is_read_as_it_is(forward: Callable[[Written, Tensor], Tensor]) -> None:
    assert is_plain(program_of(Written(forward)))


@pytest.mark.slow
@pytest.mark.parametrize("forward", DECOMPOSED)
def test_what_may_share_its_memory_is_decomposed(
    forward: Callable[[Written, Tensor], Tensor],
) -> None:
    model = Written(forward)
    assert not is_plain(program_of(model))
    program = export_program(lambda: model.eval(), Arguments.of(torch.ones(1, 3, 8, 8), None))
    for node in program.graph.nodes:
        assert node.op != "call_function" or not str(node.target).split(".")[1].endswith("_")


@pytest.mark.slow
def test_a_batch_norm_that_counts_is_left_to_pytorch() -> None:
    class Training(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)

        def forward(self, x: Tensor) -> Tensor:
            return F.batch_norm(
                self.conv(x), self.norm.running_mean, self.norm.running_var, training=True
            )

    model = Training()
    before = model.norm.running_mean.clone()
    assert not is_plain(program_of(model))
    with pytest.raises(rot180.Rot180Error, match=r"changes its own 'norm\.running_mean'"):
        rot180.capture(model, torch.ones(1, 3, 8, 8))
    assert torch.equal(model.norm.running_mean, before)


_BOUNDS = {aten.clamp.default: (0,), aten.clamp.Tensor: (torch.zeros(1),)}
"""The arguments of which one has to be given, although each may be left out."""


def _with_one_tensor() -> list[torch._ops.OpOverload]:
    found = []
    for one in sorted(_NEW_VALUES, key=str):
        arguments = one._schema.arguments
        needed = [argument for argument in arguments if not argument.has_default_value()]
        if len(needed) == 1 and str(needed[0].type) == "Tensor":
            found.append(one)
    return found


def test_what_is_new_shares_no_memory() -> None:
    known = _with_one_tensor()
    assert len(known) > 40
    for one in known:
        kind = torch.int32 if one is aten.bitwise_not.default else torch.float32
        for given in (torch.ones(1, 4, 8, 8, dtype=kind), torch.zeros(1, 2, 2, 2, dtype=kind)):
            output = one(given, *_BOUNDS.get(one, ()))
            for value in output if isinstance(output, tuple | list) else [output]:
                assert value.untyped_storage().data_ptr() != given.untyped_storage().data_ptr(), one
