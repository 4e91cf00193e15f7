"""Helpers for the nodes of an exported graph: shapes of values, arguments, modules."""

from typing import Any

from torch import Tensor, fx


def tensors_of(node: fx.Node) -> list[Tensor]:
    """Return a node's value as a list of tensors: of several outputs, those that are used."""
    value = node.meta.get("val")
    if isinstance(value, list | tuple):
        used = {user.args[1] for user in node.users}
        outputs = [output for number, output in enumerate(value) if number in used]
    else:
        outputs = [value]
    return [output for output in outputs if isinstance(output, Tensor)]


def shape(node: fx.Node) -> tuple[int, ...]:
    """Return the shape of a node's value."""
    return tuple(node.meta["val"].shape)


def rank_of(node: fx.Node) -> int:
    """Return the number of axes of a node's value; of several outputs, the first that is used."""
    values = tensors_of(node)
    return values[0].ndim if values else 0


def leads(value: "fx.Node | Tensor") -> bool:
    """Say whether the first axis of a value has size 1."""
    sizes = value.shape if isinstance(value, Tensor) else shape(value)
    return len(sizes) > 0 and sizes[0] == 1


def arguments(node: fx.Node) -> dict[str, Any]:
    """Return the arguments of a call by name, defaults included."""
    given: dict[str, Any] = {}
    for number, argument in enumerate(node.target._schema.arguments):  # type: ignore[union-attr]
        if number < len(node.args):
            given[argument.name] = node.args[number]
        else:
            given[argument.name] = node.kwargs.get(argument.name, argument.default_value)
    return given


def positional(node: fx.Node, given: dict[str, Any]) -> tuple[list[Any], dict[str, Any]]:
    """Return arguments by name as the positional and the keyword arguments of a call."""
    args, kwargs = [], {}
    for argument in node.target._schema.arguments:  # type: ignore[union-attr]
        if argument.kwarg_only:
            kwargs[argument.name] = given[argument.name]
        else:
            args.append(given[argument.name])
    return args, kwargs


def module_path(node: fx.Node) -> str:
    """Return the path, in the user's model, of the module whose forward method made this call."""
    stack = node.meta.get("nn_module_stack") or {}
    paths = [path for path, _ in stack.values()]
    return str(paths[-1]) if paths else ""


def in_module(node: fx.Node) -> str:
    """Return the module of a call in the user's model, in words, for messages."""
    path = module_path(node)
    return f" in {path}" if path else ""


def is_item(node: fx.Node) -> bool:
    """Say whether a node takes one of several outputs of a call."""
    return getattr(node.target, "__name__", "") == "getitem"
