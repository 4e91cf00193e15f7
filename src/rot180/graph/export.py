"""Exports a model for one image, as a graph in which no call changes a value in place."""

import io
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import Any

import torch
from torch import fx, nn
from torch._ops import OpOverload
from torch.export import ExportedProgram

from rot180.errors import Rot180Error
from rot180.graph.arguments import Arguments
from rot180.graph.batch_axis import FILLED
from rot180.graph.batch_axis_rules import ELEMENTWISE, RULES
from rot180.graph.custom_autograd import Uses, watched
from rot180.graph.export_errors import why_not
from rot180.graph.lowerings import TABLE
from rot180.graph.lowerings.layout import SPLITS
from rot180.graph.multi_image_export import export_for_several, with_one_image
from rot180.graph.nodes import arguments, is_item, shape

aten = torch.ops.aten

_Written = tuple[OpOverload, tuple[Any, ...]]
"""An operator and its arguments."""

_SHARES = {
    aten.dropout.default,
    aten.feature_dropout.default,
    aten.pad.default,
    aten.copy.default,
    aten._unsafe_view.default,
    aten.pixel_shuffle.default,
    aten.pixel_unshuffle.default,
}
"""Calls whose results may share memory with what went in, although their schema does not say so."""

_FRESH = frozenset(
    one
    for one in (*ELEMENTWISE, *RULES)
    if all(result.alias_info is None for result in one._schema.returns)
) - frozenset(_SHARES)
"""Calls whose results never share memory with what went in."""


def _reshaped(node: fx.Node) -> _Written:
    return aten.reshape.default, (node.args[0], [*shape(node)])


def _expanded(node: fx.Node) -> _Written:
    return aten.expand.default, (node.args[0], [*shape(node)])


def _converted(node: fx.Node) -> _Written:
    return aten.to.dtype, (node.args[0], node.meta["val"].dtype)


def _split(node: fx.Node) -> _Written:
    given = arguments(node)
    sizes = [one.shape[given["dim"]] for one in node.meta["val"]]
    return aten.split_with_sizes.default, (given["self"], sizes, given["dim"])


_REWRITTEN: dict[Any, Callable[[fx.Node], _Written]] = {
    aten.reshape_as.default: _reshaped,
    aten.view_as.default: _reshaped,
    aten.unflatten.int: _reshaped,
    aten.squeeze.default: _reshaped,
    aten.expand_as.default: _expanded,
    aten.chunk.default: _split,
    aten.type_as.default: _converted,
}
"""Calls that are others once the shapes are known."""

_OTHERS = {
    aten.stack.default,  # written as a concatenation
    aten._assert_tensor_metadata.default,
    *FILLED,
}
"""Calls that are read although no table lists them."""


def exported(
    make: Callable[[], nn.Module], arguments: Arguments, several: bool = False
) -> ExportedProgram:
    """Export for one image, with operators that change nothing in place.

    Args:
        make: makes the model; it may be exported twice.
        arguments: of the model.
        several: the model is a function of images only, and fails for one of them alone.

    Raises:
        Rot180Error: the model cannot be exported.
    """
    program, uses = _exported(make(), arguments, set(), several)
    if kept := uses.differing():
        program, _ = _exported(make(), arguments, kept, several)
    return program


def _exported(
    model: nn.Module,
    arguments: Arguments,
    kept: set[type[torch.autograd.Function]],
    several: bool,
) -> tuple[ExportedProgram, Uses]:
    args, kwargs = arguments.with_images(arguments.example)
    try:
        with torch.no_grad(), _silence(), watched(kept) as uses:
            if several:
                program = export_for_several(model, arguments.example)
            else:
                program = torch.export.export(model, args, kwargs)
            if not is_plain(program):
                program = program.run_decompositions({})
    except Exception as error:
        raise Rot180Error(why_not(error, model)) from error
    if several:
        with_one_image(program.graph)
    _simplify(program.graph)
    return program, uses


def is_plain(program: ExportedProgram) -> bool:
    """Say whether a program can be read without PyTorch's decompositions, which take most time.

    Every call on what depends on the inputs has to be listed. What is changed in place has to be a
    value that shares its memory with no other.
    """
    inputs = set(program.graph_signature.user_inputs)
    of_the_inputs: set[fx.Node] = set()
    first: dict[fx.Node, fx.Node] = {}  # of each value that is changed in place, the one it was
    users: dict[fx.Node, list[fx.Node]] = {}  # of a value in any of its states, so far
    last: dict[fx.Node, fx.Node] = {}  # its latest state
    for node in program.graph.nodes:
        given = node.all_input_nodes
        sources = [first.get(one, one) for one in given]
        if node.op == "output":
            return all(last.get(one, it) is it for one, it in zip(sources, given, strict=True))
        if node.name in inputs or not of_the_inputs.isdisjoint(given):
            of_the_inputs.add(node)
        if node.op == "call_function" and not is_item(node):
            target = node.target
            if not isinstance(target, OpOverload):
                return False
            if target._schema.is_mutable:
                if not sources or node.args[0] is not given[0]:
                    return False
                one = sources[0]
                earlier = users.get(one, [])
                if one.target not in _FRESH or not all(map(_is_harmless, [*earlier, node])):
                    return False
                first[node], last[one] = one, node
            elif node in of_the_inputs and not _is_listed(node):
                return False
        elif node.op != "placeholder" and not is_item(node):
            return False
        for one in sources:
            users.setdefault(one, []).append(node)
    return False


def _is_listed(node: fx.Node) -> bool:
    """Say whether the reader knows a call; a batch norm in training may change statistics."""
    if node.target is aten.batch_norm.default:
        given = arguments(node)
        return not (given["training"] and given["running_mean"])
    return any(node.target in known for known in (TABLE, SPLITS, _REWRITTEN, _OTHERS))


def _is_harmless(node: fx.Node) -> bool:
    """Say whether a call gives a new value, or changes one that it could give anew."""
    if node.target in _FRESH:
        return True
    wanted = _elsewhere(node.target)
    if wanted not in _FRESH:
        return False
    kinds = {one.meta["val"].dtype for one in node.all_input_nodes}
    return len(kinds) == 1 and node.meta["val"].is_floating_point()


def _elsewhere(target: Any) -> Any:
    """Return the operator that gives as a new value what one leaves in its input, or None."""
    name, _, overload = str(target).removeprefix("aten.").rpartition(".")
    if not name.endswith("_"):
        return None
    return getattr(getattr(aten, name.removesuffix("_"), None), overload, None)


def _simplify(graph: fx.Graph) -> None:
    """Let every call of a plain graph be a listed one that gives a new value."""
    passed = set()
    for node in graph.nodes:
        passed.add(node)
        if isinstance(node.target, OpOverload) and node.target._schema.is_mutable:
            node.target = _elsewhere(node.target)
            node.args[0].replace_all_uses_with(node, lambda user: user not in passed)
        elif (write := _REWRITTEN.get(node.target)) is not None:
            node.target, node.args = write(node)
            node.kwargs = {}


@contextmanager
def _silence() -> Iterator[None]:
    """Keep PyTorch from printing its graphs beside the exception that says the same."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with (
            redirect_stdout(io.StringIO()),
            redirect_stderr(io.StringIO()),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
