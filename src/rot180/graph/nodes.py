"""What is asked of the nodes of an exported graph: their values' shapes, and their arguments."""

from typing import Any

from torch import Tensor, fx


def tensors_of(node: fx.Node) -> list[Tensor]:
    """Return what a node gives: one tensor, or those of several that are used."""
    value = node.meta.get("val")
    if isinstance(value, list | tuple):
        used = {one.args[1] for one in node.users}
        value = [one for place, one in enumerate(value) if place in used]
    else:
        value = [value]
    return [one for one in value if isinstance(one, Tensor)]


def shape(node: fx.Node) -> tuple[int, ...]:
    """Return the shape of a node's value."""
    return tuple(node.meta["val"].shape)


def rank_of(node: fx.Node) -> int:
    """Return the number of axes of a node's value, of the first of several that is used."""
    values = tensors_of(node)
    return values[0].ndim if values else 0


def leads(value: "fx.Node | Tensor") -> bool:
    """Say whether the first axis of a value has size 1."""
    sizes = value.shape if isinstance(value, Tensor) else shape(value)
    return len(sizes) > 0 and sizes[0] == 1


def arguments(node: fx.Node) -> dict[str, Any]:
    """Return the arguments of a call by name, those that it leaves out included."""
    given: dict[str, Any] = {}
    for place, argument in enumerate(node.target._schema.arguments):  # type: ignore[union-attr]
        if place < len(node.args):
            given[argument.name] = node.args[place]
        else:
            given[argument.name] = node.kwargs.get(argument.name, argument.default_value)
    return given


def positional(node: fx.Node, given: dict[str, Any]) -> tuple[list[Any], dict[str, Any]]:
    """Return arguments by name as those of a call: positional ones, and keywords."""
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
    """Return the place of a call in the user's model in words, for messages."""
    path = module_path(node)
    return f" in {path}" if path else ""


def is_item(node: fx.Node) -> bool:
    """Say whether a node takes one of several outputs of a call."""
    return getattr(node.target, "__name__", "") == "getitem"
