"""Checks that a captured network computes what the model does, for each image on its own."""

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
from rot180.graph.model_copy import evaluation_copy
from rot180.graph.network import Network
from rot180.graph.nodes import in_module
from rot180.graph.operators.layout import Conversion

_ROUNDINGS, _ROUNDINGS_OF_A_BATCH = 1_000, 10_000
"""Differences that count as rounding, in units of the largest value's last digit."""

_IN_DOUBLE, _OF_DOUBLE = 1e-6, 10**9
"""Differences that are allowed in double precision, if there are larger ones in the network's own:
relative, and in units of the last digit. Rounding accumulates in deep networks, and constants may
be rounded to single precision."""

_ROUNDED = 1e-4
"""The relative difference if the model itself rounds values to a type of less precision."""


def verify(
    network: Network,
    model: nn.Module,
    arguments: Arguments,
    example: Tensor,
    program: ExportedProgram,
) -> float:
    """Compare a network's outputs with the model's own; return the largest relative error.

    The example is compared, and two random images, since an example of one value would say little.
    Then the two random images are compared as a batch, in which the model has to treat each as it
    does alone.

    Raises:
        Rot180Error: the outputs differ by more than rounding.
    """
    generator = torch.Generator(example.device).manual_seed(0)
    noise = torch.randn(
        2, *example.shape[1:], generator=generator, device=example.device, dtype=example.dtype
    )
    noise *= torch.tensor([1, -3], device=example.device)[:, None, None, None]
    check_reproduced(network, model, arguments, example[:1])
    (first, first_model), (second, second_model) = (
        check_reproduced(network, model, arguments, images) for images in (noise[:1], noise[1:])
    )
    _check_network_on_batch(network, noise, [first, second])
    _check_model_on_batch(model, arguments, noise, [first_model, second_model], program)
    return max(
        relative_difference(output, expected[number].reshape(output.shape))
        for outputs, expected in ((first, first_model), (second, second_model))
        for output, number in zip(outputs, network.output_numbers, strict=True)
    )


def outputs_of(model: nn.Module, arguments: Arguments, images: Tensor) -> list[Tensor]:
    """Return the output tensors of the model itself, in order."""
    args, kwargs = arguments.with_images(images.clone())
    with torch.no_grad():
        outputs: list[Tensor] = model(*args, **kwargs)
    return outputs


def check_reproduced(
    network: Network, model: nn.Module, arguments: Arguments, images: Tensor
) -> tuple[list[Tensor], list[Tensor]]:
    """Compare the outputs for one image.

    Returns:
        The network's outputs, and all outputs of the model.

    Raises:
        Rot180Error: the outputs differ, or the model fails.
    """
    try:
        expected = outputs_of(model, arguments, images)
    except Exception as error:
        raise Rot180Error(
            f"The model itself fails for one of the example's images: {_first_line(error)}"
        ) from error
    outputs = model_outputs(network, images)
    wanted = [expected[number] for number in network.output_numbers]
    wanted = [one.reshape(output.shape) for one, output in zip(wanted, outputs, strict=True)]
    if not all(map(close, outputs, wanted)) and not _agree_in_double(
        network, model, arguments, images
    ):
        raise Rot180Error(
            "The captured network does not reproduce the model's own output. A model that changes "
            "while it runs, or that decides something by the values of the image, cannot be "
            "captured."
        )
    return outputs, expected


def _in_double(model: nn.Module, arguments: Arguments) -> tuple[nn.Module, Arguments]:
    """Return a model and its arguments in double precision."""
    double, _ = evaluation_copy(model, shares=False)
    # The example has to stay one object, by which it is recognised among the arguments.
    args, kwargs, example = tree_map(
        in_double, (arguments.args, arguments.kwargs, arguments.example)
    )
    args, kwargs = tree_map(
        lambda new, old: example if old is arguments.example else new,
        (args, kwargs),
        (arguments.args, arguments.kwargs),
    )
    return double.double(), Arguments(args, kwargs, example)


def _agree_in_double(
    network: Network, model: nn.Module, arguments: Arguments, images: Tensor
) -> bool:
    """Say whether network and model agree in double precision, so that it was only rounding."""
    try:
        expected = outputs_of(*_in_double(model, arguments), images.double())
        outputs = model_outputs(_network_in_double(network), images.double())
    except Exception:
        return False
    wanted = [expected[number] for number in network.output_numbers]
    return all(
        relative_difference(output, one.reshape(output.shape)) < _allowed(network)
        for output, one in zip(outputs, wanted, strict=True)
    )


def _allowed(network: Network) -> float:
    """Return the relative difference that is allowed in double precision."""
    for step in network.steps:
        if isinstance(step.operator, Conversion) and step.operator.after != torch.float64:
            return _ROUNDED
    return _IN_DOUBLE


def _network_in_double(network: Network) -> Network:
    """Return the network in double precision."""
    if network.dtype == torch.float64:
        return network
    steps = tuple(replace(one, operator=in_double(one.operator)) for one in network.steps)
    return replace(network, steps=steps, dtype=torch.float64, _cache={})


def _check_network_on_batch(network: Network, noise: Tensor, alone: list[list[Tensor]]) -> None:
    """Compare the network's outputs for a batch of two images with those for each alone."""
    each = zip(model_outputs(network, noise), *alone, strict=True)
    if all(close(both, torch.cat(apart), _ROUNDINGS_OF_A_BATCH) for both, *apart in each):
        return
    double, noise = _network_in_double(network), noise.double()
    alone = [model_outputs(double, noise[n : n + 1]) for n in (0, 1)]
    for both, *apart in zip(model_outputs(double, noise), *alone, strict=True):
        if relative_difference(both, torch.cat(apart)) > _allowed(network):
            raise Rot180Error(
                "The captured network gives other outputs for two images together than for each "
                "alone. This is a fault of rot180: please report it."
            )


def _check_model_on_batch(
    model: nn.Module,
    arguments: Arguments,
    noise: Tensor,
    alone: list[list[Tensor]],
    program: ExportedProgram,
) -> None:
    """Refuse a model whose outputs for a batch of two images are not those for each alone.

    A model that takes only one image at a time is fine.
    """
    try:
        both = outputs_of(model, arguments, noise)
    except Exception:
        return
    double: list[list[Tensor]] = []
    for number, (together, first, second) in enumerate(zip(both, *alone, strict=True)):
        if not is_side_by_side(together, first, second):
            if not double:
                given = _in_double(model, arguments)
                each = (noise.double(), noise[:1].double(), noise[1:].double())
                double = [outputs_of(*given, images) for images in each]
            whole, *apart = (outputs[number] for outputs in double)
            if is_side_by_side(whole, apart[0], apart[1], _OF_DOUBLE):
                continue
            raise Rot180Error(
                "The model mixes the images of a batch: what it computes for an image depends on "
                f"the others{_first_mixed(program, arguments, noise)}. Such a model cannot be "
                "captured."
            )


def is_side_by_side(
    both: Tensor, first: Tensor, second: Tensor, roundings: int = _ROUNDINGS_OF_A_BATCH
) -> bool:
    """Say whether a value for two images holds those for each, along whatever axis."""
    if first.shape != second.shape:
        return False
    if both.shape == first.shape:
        return close(both, first, roundings) and close(both, second, roundings)
    if both.numel() != 2 * first.numel():
        return False
    for axis in range(both.ndim):
        if first.ndim == both.ndim and both.shape[axis] == 2 * first.shape[axis]:
            if close(both, torch.cat([first, second], axis), roundings):
                return True
            size = first.shape[axis]  # or in turn, if the images are not the outermost axis
            for inner in (d for d in range(1, size + 1) if size % d == 0):
                apart = (*first.shape[:axis], size // inner, inner, *first.shape[axis + 1 :])
                pair = torch.stack([first.reshape(apart), second.reshape(apart)], axis + 1)
                if close(both, pair.flatten(axis, axis + 2), roundings):
                    return True
        elif first.ndim == both.ndim - 1 and both.shape[axis] == 2:
            stacked = torch.stack([first, second], axis)
            if close(both, stacked, roundings):
                return True
    return False


def _first_mixed(program: ExportedProgram, arguments: Arguments, noise: Tensor) -> str:
    """Return the first call whose value for two images is not that for each, in words.

    The graph was made for one image. Where a call contains that number, the answer is "".
    """
    tensors = {**program.constants, **program.state_dict}
    signature = program.graph_signature
    names = {
        **signature.inputs_to_parameters,
        **signature.inputs_to_buffers,
        **signature.inputs_to_lifted_tensor_constants,
    }
    constants = {placeholder: tensors[name] for placeholder, name in names.items()}
    constants |= arguments.fixed_inputs(program)
    values: list[dict[torch.fx.Node, Any]] = [{}, {}, {}]
    each = (noise, noise[:1], noise[1:])
    try:
        for node in program.graph.nodes:
            for images, computed in zip(each, values, strict=True):
                if node.op == "placeholder":
                    computed[node] = constants.get(node.name, images)
                elif node.op == "call_function":
                    args, kwargs = torch.fx.node.map_arg(
                        (node.args, node.kwargs), computed.__getitem__
                    )
                    with torch.no_grad():
                        computed[node] = node.target(*args, **kwargs)
            together, first, second = (computed.get(node) for computed in values)
            if (
                node.op == "call_function"
                and isinstance(together, Tensor)
                and isinstance(first, Tensor)
                and isinstance(second, Tensor)
                and not is_side_by_side(together, first, second)
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
                line_number = head[2].removeprefix(", line ").split(",")[0]
                return f" at {head[1]}:{line_number}{text}"
    return ""


def relative_difference(actual: Tensor, wanted: Tensor) -> float:
    """Return the largest difference relative to the largest value."""
    if not (wanted.is_floating_point() or wanted.is_complex()) or not wanted.isfinite().all():
        return 0.0
    if not wanted.numel():
        return 0.0
    return float((actual - wanted).abs().max() / wanted.abs().max().clamp(min=1e-30))


def close(actual: Tensor, wanted: Tensor, roundings: int = _ROUNDINGS) -> bool:
    """Compare with a tolerance of so many roundings of the largest value."""
    if actual.shape != wanted.shape or actual.dtype != wanted.dtype:
        return False
    if not (wanted.is_floating_point() or wanted.is_complex()):
        return torch.equal(actual, wanted)
    finite: Any = wanted[wanted.isfinite()].abs()
    largest = float(finite.max()) if finite.numel() else 0.0
    tolerance = roundings * torch.finfo(wanted.dtype).eps * largest
    return torch.allclose(actual, wanted, rtol=0, atol=tolerance, equal_nan=True)


def _first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), repr(error))
