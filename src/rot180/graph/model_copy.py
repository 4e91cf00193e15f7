"""Copies a model for a capture: in evaluation mode, with its own modules and shared parameters.

What runs during a capture must not change the user's model. So its modules are copied, with their
hooks, their plain attributes and the functions that replace their methods, and so are its buffers.
Its parameters are shared, since a capture only reads them.
"""

import copy
import functools
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from types import CellType, FunctionType, MethodType
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from rot180.errors import Rot180Error

_HOOKS = (
    "_forward_hooks",
    "_forward_pre_hooks",
    "_backward_hooks",
    "_backward_pre_hooks",
)


def evaluation_copy(model: nn.Module, shares: bool = True) -> tuple[nn.Module, tuple[str, ...]]:
    """Return a copy of a model in evaluation mode, and what had to be left out of it, in words.

    The copy returns the tensors of the model's output as a list, whatever class held them.

    Args:
        model: the user's model.
        shares: whether the copy shares the model's parameters.

    Raises:
        Rot180Error: a part of the model cannot be copied, and the output might depend on it.
    """
    memo = _memo(model, shares)
    left_out: tuple[str, ...] = ()
    try:
        duplicate = _copy(model, dict(memo))
    except Exception:
        left_out = _leave_out(model, memo)
        try:
            duplicate = _copy(model, memo)
        except Exception as error:
            raise Rot180Error(_cannot_copy("a part of it", error)) from error
    _return_tensors(duplicate)
    return duplicate, left_out


def _copy(model: nn.Module, memo: dict[int, Any]) -> nn.Module:
    hooks_kept = {key: hooks for key, hooks in memo.items() if type(hooks) is OrderedDict}
    duplicate = copy.deepcopy(model, memo).eval()
    for module in list(model.modules()):
        if id(module) in memo:  # the submodules of a TorchScript module are not
            _use_the_copies(module, memo[id(module)], hooks_kept, memo)
    return duplicate


def _leave_out(model: nn.Module, memo: dict[int, Any]) -> tuple[str, ...]:
    """Leave out hooks that only observe, and share attributes, if they cannot be copied."""
    left_out = []
    for path, module in model.named_modules():
        where = f"'{path}'" if path else "the model"
        for name, value in vars(module).items():
            if name in _HOOKS and value:
                memo[id(value)] = kept = OrderedDict[int, Any](value)
                for number, hook in value.items():
                    try:
                        copy.deepcopy(hook, dict(memo))
                    except Exception as error:
                        what = f"the hook {_name_of(hook)} of {where}"
                        if _matters(hook, name):
                            raise Rot180Error(_cannot_copy(what, error)) from error
                        del kept[number]
                        left_out.append(what)
            elif name not in ("_parameters", "_buffers", "_modules", *_HOOKS):
                try:
                    copy.deepcopy(value, dict(memo))
                except Exception:  # a lock, a file, a generator: used as it is
                    memo[id(value)] = value
    return tuple(left_out)


def _use_the_copies(
    module: nn.Module, duplicate: nn.Module, hooks: dict[int, Any], memo: dict[int, Any]
) -> None:
    """Make the functions and hooks of a copied module use the copies of modules and methods."""
    for name, value in vars(module).items():
        if isinstance(value, FunctionType):
            vars(duplicate)[name] = _copied_function(value, memo)
        elif name in _HOOKS and value:
            kept = hooks.get(id(value), value)
            vars(duplicate)[name] = OrderedDict(
                (number, _copied(hook, memo)) for number, hook in value.items() if number in kept
            )


def _cannot_copy(what: str, error: Exception) -> str:
    return (
        f"The model cannot be copied because of {what} ({type(error).__name__}: {error}). Remove "
        "from the model what is not part of the network."
    )


def _memo(model: nn.Module, shares: bool) -> dict[int, Any]:
    """Return the memo of a deep copy: tensors by their ids, which it takes instead of copying."""
    memo: dict[int, Any] = {
        id(parameter): parameter
        if shares
        else nn.Parameter(parameter.detach().clone(), parameter.requires_grad)
        for parameter in model.parameters()
    }
    for module in model.modules():
        for name, value in vars(module).items():
            if name == "_buffers":
                for buffer in value.values():
                    if buffer is not None:
                        memo[id(buffer)] = buffer.detach().clone()
            elif name not in ("_parameters", "_modules"):
                for tensor in _tensors_in(value, set()):
                    if id(tensor) not in memo:
                        memo[id(tensor)] = tensor if tensor.is_leaf else tensor.detach()
    return memo


def _tensors_in(value: Any, seen: set[int]) -> Iterator[Tensor]:
    """Yield the tensors in containers, objects and hooks."""
    if id(value) in seen or isinstance(value, nn.Module | type | str | int | float):
        return
    seen.add(id(value))
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        for item in list(value.values()):
            yield from _tensors_in(item, seen)
    elif isinstance(value, list | tuple | set):
        for item in list(value):
            yield from _tensors_in(item, seen)
    elif isinstance(value, MethodType):
        yield from _tensors_in(vars(value.__self__) if _has_vars(value.__self__) else None, seen)
    elif isinstance(value, functools.partial):
        yield from _tensors_in((value.func, *value.args, *value.keywords.values()), seen)
    elif isinstance(value, FunctionType):
        for cell in value.__closure__ or ():
            yield from _tensors_in(_content(cell), seen)
    elif _has_vars(value):
        yield from _tensors_in(vars(value), seen)


def _has_vars(value: Any) -> bool:
    return hasattr(value, "__dict__") and not isinstance(value, nn.Module | type)


def _content(cell: CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not assigned yet
        return None


def _copied(value: Any, memo: dict[int, Any]) -> Any:
    """Return a copy of a hook: a function, a bound method, or an object."""
    if isinstance(value, FunctionType):
        return _copied_function(value, memo)
    if isinstance(value, functools.partial):
        return functools.partial(
            _copied(value.func, memo),
            *copy.deepcopy(value.args, memo),
            **copy.deepcopy(value.keywords, memo),
        )
    return copy.deepcopy(value, memo)


def _copied_function(function: FunctionType, memo: dict[int, Any]) -> Callable[..., Any]:
    """Return a copy of a function that uses the copies of modules and their methods.

    The function may have them in its closure, as defaults, or, in a notebook, as globals.
    """

    def copied(value: Any) -> Any:
        if isinstance(value, MethodType) and isinstance(value.__self__, nn.Module):
            return MethodType(value.__func__, memo_of(value.__self__))
        return memo_of(value) if isinstance(value, nn.Module) else value

    def memo_of(module: nn.Module) -> nn.Module:
        return copy.deepcopy(module, memo)

    cells = []
    for cell in function.__closure__ or ():
        content = _content(cell)
        if isinstance(content, FunctionType) and content is not function:
            content = _copied_function(content, memo)
        cells.append(CellType(copied(content)))
    names = set(function.__code__.co_names) & set(function.__globals__)
    used = {name: function.__globals__[name] for name in names}
    changed = {
        name: copied(value)
        for name, value in used.items()
        if isinstance(value, nn.Module | MethodType)
    }
    if not cells and not changed and not function.__defaults__:
        return function
    new = FunctionType(
        function.__code__,
        {**function.__globals__, **changed} if changed else function.__globals__,
        function.__name__,
        tuple(map(copied, function.__defaults__)) if function.__defaults__ else None,
        tuple(cells),
    )
    new.__kwdefaults__ = function.__kwdefaults__
    return functools.update_wrapper(new, function)


def _name_of(hook: Any) -> str:
    return str(getattr(hook, "__qualname__", type(hook).__name__))


def _matters(hook: Any, kind: str) -> bool:
    """Say whether a hook may change what the model computes.

    Hooks of the backward pass do not. A hook that is a bound method counts as an observer, such as
    an object that collects activations.
    """
    return not kind.startswith("_backward") and not isinstance(hook, MethodType | functools.partial)


def _return_tensors(duplicate: nn.Module) -> None:
    """Make a model return the tensors of its output as a list."""
    forward = duplicate.forward

    @functools.wraps(forward)
    def flat(*args: Any, **kwargs: Any) -> list[Tensor]:
        return list(tensors_of(forward(*args, **kwargs)))

    duplicate.forward = flat


def tensors_of(output: Any) -> Iterator[Tensor]:
    """Yield the tensors of a model's output, in order, from containers and plain objects."""
    for leaf in tree_leaves(output):
        if isinstance(leaf, Tensor):
            yield leaf
        elif is_dataclass(leaf) and not isinstance(leaf, type):
            yield from tensors_of([getattr(leaf, field.name) for field in fields(leaf)])
        elif _has_vars(leaf) and not callable(leaf):
            yield from tensors_of(list(vars(leaf).values()))


@contextmanager
def preserved_buffers(model: nn.Module) -> Iterator[None]:
    """Restore the buffers of a model that something inside changed all the same.

    Args:
        model: the user's model.
    """
    before = [(buffer, buffer._version, buffer.detach().clone()) for buffer in model.buffers()]
    try:
        yield
    finally:
        for buffer, version, values in before:
            if buffer._version != version:
                with torch.no_grad():
                    buffer.copy_(values)
