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
from rot180.graph.batch_axis import FILL_VALUES
from rot180.graph.batch_axis_rules import ELEMENTWISE, RULES
from rot180.graph.custom_autograd import FunctionUses, record_functions
from rot180.graph.export_errors import explain_export_error
from rot180.graph.lowerings import LOWERINGS
from rot180.graph.lowerings.layout import SPLITS
from rot180.graph.multi_image_export import export_for_several, set_one_image
from rot180.graph.nodes import arguments, is_item, shape

aten = torch.ops.aten

_Rewritten = tuple[OpOverload, tuple[Any, ...]]
"""An operator and its arguments."""

_MAY_SHARE = {
    aten.dropout.default,
    aten.feature_dropout.default,
    aten.pad.default,
    aten.copy.default,
    aten._unsafe_view.default,
    aten.pixel_shuffle.default,
    aten.pixel_unshuffle.default,
}
"""Calls whose output may share memory with an input, although their schema does not say so."""

_NEW_VALUES = frozenset(
    operator
    for operator in (*ELEMENTWISE, *RULES)
    if all(output.alias_info is None for output in operator._schema.returns)
) - frozenset(_MAY_SHARE)
"""Calls whose output never shares memory with an input."""


def _reshaped(node: fx.Node) -> _Rewritten:
    return aten.reshape.default, (node.args[0], [*shape(node)])


def _expanded(node: fx.Node) -> _Rewritten:
    return aten.expand.default, (node.args[0], [*shape(node)])


def _converted(node: fx.Node) -> _Rewritten:
    return aten.to.dtype, (node.args[0], node.meta["val"].dtype)


def _split(node: fx.Node) -> _Rewritten:
    given = arguments(node)
    sizes = [part.shape[given["dim"]] for part in node.meta["val"]]
    return aten.split_with_sizes.default, (given["self"], sizes, given["dim"])


_REWRITES: dict[Any, Callable[[fx.Node], _Rewritten]] = {
    aten.reshape_as.default: _reshaped,
    aten.view_as.default: _reshaped,
    aten.unflatten.int: _reshaped,
    aten.squeeze.default: _reshaped,
    aten.expand_as.default: _expanded,
    aten.chunk.default: _split,
    aten.type_as.default: _converted,
}
"""Calls that are written as other calls, now that shapes are known."""

_ALSO_LOWERED = {
    aten.stack.default,  # becomes a concatenation
    aten._assert_tensor_metadata.default,
    *FILL_VALUES,
}
"""Calls without a lowering that are taken all the same."""


def export_program(
    make: Callable[[], nn.Module], arguments: Arguments, several: bool = False
) -> ExportedProgram:
    """Export a model for one image, with calls that change nothing in place.

    Args:
        make: makes the model; it may be called twice.
        arguments: of the model.
        several: whether the model takes images only, and fails for a single one.

    Raises:
        Rot180Error: the model cannot be exported.
    """
    program, uses = _export(make(), arguments, set(), several)
    if opaque := uses.differing():
        program, _ = _export(make(), arguments, opaque, several)
    return program


def _export(
    model: nn.Module,
    arguments: Arguments,
    opaque: set[type[torch.autograd.Function]],
    several: bool,
) -> tuple[ExportedProgram, FunctionUses]:
    args, kwargs = arguments.with_images(arguments.example)
    try:
        with torch.no_grad(), _silence(), record_functions(opaque) as uses:
            if several:
                program = export_for_several(model, arguments.example)
            else:
                program = torch.export.export(model, args, kwargs)
            if not is_plain(program):
                program = program.run_decompositions({})
    except Exception as error:
        raise Rot180Error(explain_export_error(error, model)) from error
    if several:
        set_one_image(program.graph)
    _simplify(program.graph)
    return program, uses


def is_plain(program: ExportedProgram) -> bool:
    """Say whether a program can be lowered without PyTorch's decompositions, which take most time.

    Every call that depends on the inputs has to have a lowering. A value that is changed in place
    has to share its memory with no other.
    """
    inputs = set(program.graph_signature.user_inputs)
    of_the_inputs: set[fx.Node] = set()
    original: dict[fx.Node, fx.Node] = {}  # the first state of a value that is changed in place
    users: dict[fx.Node, list[fx.Node]] = {}  # those of a value in any of its states, so far
    latest: dict[fx.Node, fx.Node] = {}  # the latest state of a value
    for node in program.graph.nodes:
        given = node.all_input_nodes
        sources = [original.get(argument, argument) for argument in given]
        if node.op == "output":
            return all(
                latest.get(source, argument) is argument
                for source, argument in zip(sources, given, strict=True)
            )
        if node.name in inputs or not of_the_inputs.isdisjoint(given):
            of_the_inputs.add(node)
        if node.op == "call_function" and not is_item(node):
            target = node.target
            if not isinstance(target, OpOverload):
                return False
            if target._schema.is_mutable:
                if not sources or node.args[0] is not given[0]:
                    return False
                changed = sources[0]
                earlier = users.get(changed, [])
                if changed.target not in _NEW_VALUES:
                    return False
                if not all(map(_is_harmless, [*earlier, node])):
                    return False
                original[node], latest[changed] = changed, node
            elif node in of_the_inputs and not _is_lowered(node):
                return False
        elif node.op != "placeholder" and not is_item(node):
            return False
        for source in sources:
            users.setdefault(source, []).append(node)
    return False


def _is_lowered(node: fx.Node) -> bool:
    """Say whether there is a lowering for a call; a batch norm in training may have none."""
    if node.target is aten.batch_norm.default:
        given = arguments(node)
        return not (given["training"] and given["running_mean"])
    return any(node.target in known for known in (LOWERINGS, SPLITS, _REWRITES, _ALSO_LOWERED))


def _is_harmless(node: fx.Node) -> bool:
    """Say whether a call returns a new value, or changes one and could return it anew."""
    if node.target in _NEW_VALUES:
        return True
    if _out_of_place(node.target) not in _NEW_VALUES:
        return False
    dtypes = {argument.meta["val"].dtype for argument in node.all_input_nodes}
    return len(dtypes) == 1 and node.meta["val"].is_floating_point()


def _out_of_place(target: Any) -> Any:
    """Return the operator that returns a new value instead of changing its input, or None."""
    name, _, overload = str(target).removeprefix("aten.").rpartition(".")
    if not name.endswith("_"):
        return None
    return getattr(getattr(aten, name.removesuffix("_"), None), overload, None)


def _simplify(graph: fx.Graph) -> None:
    """Rewrite calls so that each has a lowering and returns a new value."""
    done = set()
    for node in graph.nodes:
        done.add(node)
        if isinstance(node.target, OpOverload) and node.target._schema.is_mutable:
            node.target = _out_of_place(node.target)
            node.args[0].replace_all_uses_with(node, lambda user: user not in done)
        elif (rewrite := _REWRITES.get(node.target)) is not None:
            node.target, node.args = rewrite(node)
            node.kwargs = {}


@contextmanager
def _silence() -> Iterator[None]:
    """Keep PyTorch from printing its graphs in addition to the exception."""
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
