"""Checks that a captured network computes what the model does, and for each image by itself."""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.utils._pytree import tree_map

from rot180.errors import Rot180Error
from rot180.graph.arguments import Arguments
from rot180.graph.forward_pass import model_outputs
from rot180.graph.gradcheck import in_double
from rot180.graph.model_copy import evaluating_twin
from rot180.graph.network import Network
from rot180.graph.nodes import in_module
from rot180.graph.operators.layout import Conversion

_ROUNDINGS, _ROUNDINGS_OF_A_BATCH = 1_000, 10_000
"""Differences that are taken for rounding, in units of the largest value's last digit."""

_IN_DOUBLE, _OF_DOUBLE = 1e-6, 10**9
"""What is allowed in double precision where the network's own differs by more, as a relative
difference and in roundings: deep networks add up rounding, and constants may be rounded to single
precision."""

_ROUNDED = 1e-4
"""The same where the model itself rounds values to a type of less precision."""


def verify(
    network: Network,
    model: nn.Module,
    arguments: Arguments,
    example: Tensor,
    program: ExportedProgram,
) -> float:
    """Compare a network's outputs with the model's own; return the largest error.

    The example is compared and two random images, since an example of one value would not tell
    much; then the two of them together, which the model has to treat as it treats each alone.

    Raises:
        Rot180Error: they differ by more than rounding.
    """
    generator = torch.Generator(example.device).manual_seed(0)
    noise = torch.randn(
        2, *example.shape[1:], generator=generator, device=example.device, dtype=example.dtype
    )
    noise *= torch.tensor([1, -3], device=example.device)[:, None, None, None]
    check_reproduced(network, model, arguments, example[:1])
    (one, mine), (other, its) = (
        check_reproduced(network, model, arguments, images) for images in (noise[:1], noise[1:])
    )
    _check_batch(network, noise, [one, other])
    _check_apart(model, arguments, noise, [mine, its], program)
    return max(
        relative_difference(found, wanted[number].reshape(found.shape))
        for output, wanted in ((one, mine), (other, its))
        for found, number in zip(output, network.output_numbers, strict=True)
    )


def outputs_of(model: nn.Module, arguments: Arguments, images: Tensor) -> list[Tensor]:
    """Return the output tensors of the model itself, in their order."""
    args, kwargs = arguments.with_images(images.clone())
    with torch.no_grad():
        found: list[Tensor] = model(*args, **kwargs)
    return found


def check_reproduced(
    network: Network, model: nn.Module, arguments: Arguments, images: Tensor
) -> tuple[list[Tensor], list[Tensor]]:
    """Compare the outputs for one image; return the network's and all of the model's.

    Raises:
        Rot180Error: they differ, or the model fails.
    """
    try:
        expected = outputs_of(model, arguments, images)
    except Exception as error:
        raise Rot180Error(
            f"The model itself fails for one of the example's images: {_first_line(error)}"
        ) from error
    wanted = [expected[number] for number in network.output_numbers]
    found = model_outputs(network, images)
    wanted = [one.reshape(got.shape) for one, got in zip(wanted, found, strict=True)]
    if not all(map(close, found, wanted)) and not _agree_in_double(
        network, model, arguments, images
    ):
        raise Rot180Error(
            "The captured network does not reproduce the model's own output. A model that changes "
            "while it runs, or that decides something by the values of the image, cannot be "
            "captured."
        )
    return found, expected


def _doubled(model: nn.Module, arguments: Arguments) -> tuple[nn.Module, Arguments]:
    """Return a model and its arguments in double precision."""
    twin, _ = evaluating_twin(model, shares=False)
    given = tree_map(in_double, (arguments.args, arguments.kwargs, arguments.example))
    # the example has to stay one object, by which it is known among the arguments
    args, kwargs, example = given
    args, kwargs = tree_map(
        lambda new, old: example if old is arguments.example else new,
        (args, kwargs),
        (arguments.args, arguments.kwargs),
    )
    return twin.double(), Arguments(args, kwargs, example)


def _agree_in_double(
    network: Network, model: nn.Module, arguments: Arguments, images: Tensor
) -> bool:
    """Say whether network and model agree in double precision: then it was rounding."""
    try:
        expected = outputs_of(*_doubled(model, arguments), images.double())
        found = model_outputs(_precise(network), images.double())
    except Exception:
        return False
    wanted = [expected[number] for number in network.output_numbers]
    return all(
        relative_difference(got, one.reshape(got.shape)) < _allowed(network)
        for got, one in zip(found, wanted, strict=True)
    )


def _allowed(network: Network) -> float:
    """Return the difference that is allowed in double precision."""
    for step in network.steps:
        if isinstance(step.operator, Conversion) and step.operator.after != torch.float64:
            return _ROUNDED
    return _IN_DOUBLE


def _precise(network: Network) -> Network:
    """Return the network in double precision."""
    if network.dtype == torch.float64:
        return network
    steps = tuple(replace(one, operator=in_double(one.operator)) for one in network.steps)
    return replace(network, steps=steps, dtype=torch.float64, _cache={})


def _check_batch(network: Network, noise: Tensor, alone: list[list[Tensor]]) -> None:
    """Compare the network's outputs for two images together with those of each alone."""
    each = zip(model_outputs(network, noise), *alone, strict=True)
    if all(close(both, torch.cat(apart), _ROUNDINGS_OF_A_BATCH) for both, *apart in each):
        return
    precise, noise = _precise(network), noise.double()
    alone = [model_outputs(precise, noise[n : n + 1]) for n in (0, 1)]
    for both, *apart in zip(model_outputs(precise, noise), *alone, strict=True):
        if relative_difference(both, torch.cat(apart)) > _allowed(network):
            raise Rot180Error(
                "The captured network gives other outputs for two images together than for each "
                "alone. This is a fault of rot180: please report it."
            )


def _check_apart(
    model: nn.Module,
    arguments: Arguments,
    noise: Tensor,
    alone: list[list[Tensor]],
    program: ExportedProgram,
) -> None:
    """Refuse a model that does to two images together what it does to neither alone.

    A model that takes one image at a time only is as good as any other.
    """
    try:
        both = outputs_of(model, arguments, noise)
    except Exception:
        return
    precise: list[list[Tensor]] = []
    for number, (together, first, second) in enumerate(zip(both, *alone, strict=True)):
        if not is_side_by_side(together, first, second):
            if not precise:
                given = _doubled(model, arguments)
                each = (noise.double(), noise[:1].double(), noise[1:].double())
                precise = [outputs_of(*given, images) for images in each]
            whole, *apart = (found[number] for found in precise)
            if is_side_by_side(whole, apart[0], apart[1], _OF_DOUBLE):
                continue
            raise Rot180Error(
                "The model mixes the images of a batch: what it computes for an image depends on "
                f"the others{_first_mixed(program, arguments, noise)}. Such a model cannot be "
                "captured."
            )


def is_side_by_side(
    both: Tensor, one: Tensor, other: Tensor, roundings: int = _ROUNDINGS_OF_A_BATCH
) -> bool:
    """Say whether a value for two images holds those for each, along whatever axis."""
    if one.shape != other.shape:
        return False
    if both.shape == one.shape:
        return close(both, one, roundings) and close(both, other, roundings)
    if both.numel() != 2 * one.numel():
        return False
    for axis in range(both.ndim):
        if one.ndim == both.ndim and both.shape[axis] == 2 * one.shape[axis]:
            if close(both, torch.cat([one, other], axis), roundings):
                return True
            size = one.shape[axis]  # or one after the other, as where images are not outermost
            for inner in (d for d in range(1, size + 1) if size % d == 0):
                apart = (*one.shape[:axis], size // inner, inner, *one.shape[axis + 1 :])
                pair = torch.stack([one.reshape(apart), other.reshape(apart)], axis + 1)
                if close(both, pair.flatten(axis, axis + 2), roundings):
                    return True
        elif one.ndim == both.ndim - 1 and both.shape[axis] == 2:
            stacked = torch.stack([one, other], axis)
            if close(both, stacked, roundings):
                return True
    return False


def _first_mixed(program: ExportedProgram, arguments: Arguments, noise: Tensor) -> str:
    """Name the first call whose value for two images is not that of each, if it can be found.

    The graph was made for one image; where a call has that number in it, nothing is found.
    """
    known = {**program.constants, **program.state_dict}
    signature = program.graph_signature
    names = {
        **signature.inputs_to_parameters,
        **signature.inputs_to_buffers,
        **signature.inputs_to_lifted_tensor_constants,
    }
    constants = {place: known[name] for place, name in names.items()} | arguments.held(program)
    values: list[dict[torch.fx.Node, Any]] = [{}, {}, {}]
    each = (noise, noise[:1], noise[1:])
    try:
        for node in program.graph.nodes:
            for images, found in zip(each, values, strict=True):
                if node.op == "placeholder":
                    found[node] = constants.get(node.name, images)
                elif node.op == "call_function":
                    args, kwargs = torch.fx.node.map_arg(
                        (node.args, node.kwargs), found.__getitem__
                    )
                    with torch.no_grad():
                        found[node] = node.target(*args, **kwargs)
            together, one, other = (found.get(node) for found in values)
            if (
                node.op == "call_function"
                and isinstance(together, Tensor)
                and isinstance(one, Tensor)
                and isinstance(other, Tensor)
                and not is_side_by_side(together, one, other)
            ):
                return f", first by {node.target}{line_of(node) or in_module(node)}"
    except Exception:
        return ""
    return ""


def line_of(node: torch.fx.Node) -> str:
    """Return the line of the model that made a call, in words; "" where it is not known."""
    trace = node.meta.get("stack_trace") or ""
    lines = [line.strip() for line in trace.splitlines() if line.strip()]
    for number in range(len(lines) - 1, -1, -1):
        if lines[number].startswith('File "'):
            head = lines[number].split('"')
            if len(head) > 2 and "/torch/" not in head[1]:
                text = f" ('{lines[number + 1]}')" if number + 1 < len(lines) else ""
                place = head[2].removeprefix(", line ").split(",")[0]
                return f" at {head[1]}:{place}{text}"
    return ""


def relative_difference(found: Tensor, wanted: Tensor) -> float:
    """Return the largest difference over the largest value."""
    if not (wanted.is_floating_point() or wanted.is_complex()) or not wanted.isfinite().all():
        return 0.0
    if not wanted.numel():
        return 0.0
    return float((found - wanted).abs().max() / wanted.abs().max().clamp(min=1e-30))


def close(found: Tensor, wanted: Tensor, roundings: int = _ROUNDINGS) -> bool:
    """Compare with a tolerance of so many roundings of the largest value."""
    if found.shape != wanted.shape or found.dtype != wanted.dtype:
        return False
    if not (wanted.is_floating_point() or wanted.is_complex()):
        return torch.equal(found, wanted)
    finite: Any = wanted[wanted.isfinite()].abs()
    largest = float(finite.max()) if finite.numel() else 0.0
    tolerance = roundings * torch.finfo(wanted.dtype).eps * largest
    return torch.allclose(found, wanted, rtol=0, atol=tolerance, equal_nan=True)


def _first_line(error: BaseException) -> str:
    return next((one.strip() for one in str(error).splitlines() if one.strip()), repr(error))
