"""Models that somebody's own Python makes: a function in a module or a file, by its name.

Such code is run, as it would be by ``python``; that is what its user asked for.
"""

import copy
import importlib
import importlib.util
import inspect
import pkgutil
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from rot180.errors import Rot180Error, suggest
from rot180.files import is_directory, is_file
from rot180.networks.libraries import Found, seeded


def from_code(name: str) -> Found:
    """Make the model that ``package.module:callable`` or ``path/to/file.py:callable`` names.

    The callable (a function or a class) takes no arguments and returns the model; it may be a
    model itself. A copy of the model is taken, so that nobody else's is changed. Random numbers
    are drawn from seed 0 meanwhile. Modules are found in the present directory, too, and those
    that a file imports in the file's.

    Raises:
        Rot180Error: the module, the file or the callable does not exist, raises, needs arguments,
            or makes something else than a torch.nn.Module.
    """
    place, colon, attribute = name.rpartition(":")
    if not colon:
        place, attribute = attribute, ""
    is_file = place.endswith(".py") or "/" in place or "\\" in place
    directory = Path(place).parent if is_file else Path()
    with _importable(directory), seeded():
        module = _run_file(Path(place)) if is_file else _imported(place)
        return Found(_made(module, place, attribute))


def _made(module: ModuleType, place: str, attribute: str) -> nn.Module:
    """Take the model out of the module."""
    offered = _offered(module)
    if not attribute:
        raise Rot180Error(
            f"'{place}' does not say which function makes the model: write {place}:NAME. It has: "
            f"{suggest(offered)}."
        )
    if not hasattr(module, attribute):
        raise Rot180Error(f"{place} has no '{attribute}'. It has: {suggest(offered, attribute)}.")
    found = getattr(module, attribute)
    try:
        if not isinstance(found, nn.Module) and not callable(found):
            raise Rot180Error(
                f"'{attribute}' in {place} is neither a function nor a torch.nn.Module, but "
                f"{type(found).__name__}. It has: {suggest(offered, attribute)}."
            )
        if not isinstance(found, nn.Module):
            _check_arguments(found, f"{place}:{attribute}")
            found = found()
        if isinstance(found, nn.Module):
            return copy.deepcopy(found)
    except Rot180Error:
        raise
    except (Exception, SystemExit) as error:
        raise Rot180Error(
            f"{place}:{attribute} makes no model: {_stopped(error, module.__file__)}."
        ) from error
    raise Rot180Error(f"{place}:{attribute} returns {type(found).__name__}, not a torch.nn.Module.")


def _check_arguments(found: Any, name: str) -> None:
    try:
        signature = inspect.signature(found)
    except (TypeError, ValueError):  # what is written in C does not always tell
        return
    try:
        signature.bind()
    except TypeError as error:
        raise Rot180Error(
            f"{name} cannot be called without arguments ({error}). Write a function that takes "
            "none and returns the model."
        ) from error


def _run_file(path: Path) -> ModuleType:
    if not is_file(path):
        near = []
        if is_directory(path.parent):
            near = sorted(str(one) for one in path.parent.glob("*.py"))
        there = f" Beside it: {suggest(near, str(path))}." if near else ""
        raise Rot180Error(f"There is no file {path}, which would make the model.{there}")
    name = f"_rot180_model_{path.stem}"
    specification = importlib.util.spec_from_file_location(name, path.resolve())
    if specification is None or specification.loader is None:
        raise Rot180Error(f"{path} is no file of Python: its name has to end in .py.")
    module = importlib.util.module_from_spec(specification)
    sys.modules[name] = module  # torch.export and dataclasses look a class up in its module
    try:
        specification.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise Rot180Error(f"{path} cannot be run: {_stopped(error, module.__file__)}.") from error
    return module


def _imported(name: str) -> ModuleType:
    if not all(part.isidentifier() for part in name.split(".")):
        raise Rot180Error(
            f"'{name}' is no name of a Python module: write package.module:callable, or a file's "
            "as path/to/file.py:callable."
        )
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise Rot180Error(
                f"The module {name} cannot be imported: it needs {error.name}, which is not "
                "installed."
            ) from error
        parent, _, last = error.name.rpartition(".")
        there = suggest(_modules(parent), last)
        raise Rot180Error(
            f"There is no module {error.name}"
            + (f" ({parent} has: {there})." if there and parent else ".")
            + " A file is named by its path, as path/to/file.py:callable."
        ) from error
    except (Exception, SystemExit) as error:
        raise Rot180Error(f"The module {name} cannot be imported: {_stopped(error)}.") from error


def _modules(parent: str) -> list[str]:
    """Return the names of the modules in a package."""
    paths = getattr(sys.modules.get(parent), "__path__", [])
    return [one.name for one in pkgutil.iter_modules(paths)]


def _offered(module: ModuleType) -> list[str]:
    """Return what in a module could make a model: its own functions first, then other callables."""
    found = {
        name: value
        for name, value in vars(module).items()
        if not name.startswith("_") and (isinstance(value, nn.Module) or callable(value))
    }
    own = [
        name
        for name, value in found.items()
        if isinstance(value, nn.Module) or getattr(value, "__module__", None) == module.__name__
    ]
    return own + [name for name in found if name not in own]


def _stopped(error: BaseException, file: str | None = None) -> str:
    """Say how and, within a file, where code stopped."""
    first = str(error).strip().split("\n")[0].rstrip(".")
    lines = [
        one.lineno for one in traceback.extract_tb(error.__traceback__) if one.filename == file
    ]
    line = error.lineno if isinstance(error, SyntaxError) else lines[-1] if lines else None
    where = f" at line {line}" if line and "line" not in first else ""
    return f"it stopped{where} with {type(error).__name__}{f' ({first})' if first else ''}"


@contextmanager
def _importable(directory: Path) -> Iterator[None]:
    """Look for modules in a directory first, as Python does beside a script."""
    place = str(directory.resolve())
    added = place not in sys.path
    if added:
        sys.path.insert(0, place)
    try:
        yield
    finally:
        if added and place in sys.path:
            sys.path.remove(place)
