"""Models that the user's own Python code builds, named by a module or a file and a function.

Such code is run, as ``python`` would run it; that is what its user asked for.
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
from rot180.models.zoo import ModelSpec, fixed_seed


def load_user_code(name: str) -> ModelSpec:
    """Build the model that ``package.module:callable`` or ``path/to/file.py:callable`` names.

    The callable (a function or a class) takes no arguments and returns the model; it may be a
    model itself. The model is copied, so that changes do not affect the user's object. Random
    numbers are drawn from seed 0. Modules are also looked up in the current directory, and those
    that a file imports in the directory of the file.

    Raises:
        Rot180Error: the module, the file or the callable does not exist, raises, needs arguments,
            or returns something else than a torch.nn.Module.
    """
    source, colon, attribute = name.rpartition(":")
    if not colon:
        source, attribute = attribute, ""
    from_file = source.endswith(".py") or "/" in source or "\\" in source
    directory = Path(source).parent if from_file else Path()
    with _importable(directory), fixed_seed():
        module = _run_file(Path(source)) if from_file else _import_module(source)
        return ModelSpec(_build(module, source, attribute))


def _build(module: ModuleType, source: str, attribute: str) -> nn.Module:
    """Return the model that an attribute of the module is or returns."""
    candidates = _candidates(module)
    if not attribute:
        raise Rot180Error(
            f"'{source}' does not say which function makes the model: write {source}:NAME. It "
            f"has: {suggest(candidates)}."
        )
    if not hasattr(module, attribute):
        raise Rot180Error(
            f"{source} has no '{attribute}'. It has: {suggest(candidates, attribute)}."
        )
    model = getattr(module, attribute)
    try:
        if not isinstance(model, nn.Module) and not callable(model):
            raise Rot180Error(
                f"'{attribute}' in {source} is neither a function nor a torch.nn.Module, but "
                f"{type(model).__name__}. It has: {suggest(candidates, attribute)}."
            )
        if not isinstance(model, nn.Module):
            _check_arguments(model, f"{source}:{attribute}")
            model = model()
        if isinstance(model, nn.Module):
            return copy.deepcopy(model)
    except Rot180Error:
        raise
    except (Exception, SystemExit) as error:  # the user's code may raise anything
        raise Rot180Error(
            f"{source}:{attribute} makes no model: {_describe_failure(error, module.__file__)}."
        ) from error
    raise Rot180Error(
        f"{source}:{attribute} returns {type(model).__name__}, not a torch.nn.Module."
    )


def _check_arguments(function: Any, name: str) -> None:
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # functions in C do not always have a signature
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
        siblings = []
        if is_directory(path.parent):
            siblings = sorted(str(sibling) for sibling in path.parent.glob("*.py"))
        hint = f" Beside it: {suggest(siblings, str(path))}." if siblings else ""
        raise Rot180Error(f"There is no file {path}, which would make the model.{hint}")
    name = f"_rot180_model_{path.stem}"
    specification = importlib.util.spec_from_file_location(name, path.resolve())
    if specification is None or specification.loader is None:
        raise Rot180Error(f"{path} is no file of Python: its name has to end in .py.")
    module = importlib.util.module_from_spec(specification)
    sys.modules[name] = module  # torch.export and dataclasses look a class up in its module
    try:
        specification.loader.exec_module(module)
    except (Exception, SystemExit) as error:  # as above
        del sys.modules[name]
        raise Rot180Error(
            f"{path} cannot be run: {_describe_failure(error, module.__file__)}."
        ) from error
    return module


def _import_module(name: str) -> ModuleType:
    if not all(part.isidentifier() for part in name.split(".")):
        raise Rot180Error(
            f"'{name}' is no name of a Python module: write package.module:callable, or "
            "path/to/file.py:callable for a file."
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
        siblings = suggest(_submodules(parent), last)
        raise Rot180Error(
            f"There is no module {error.name}"
            + (f" ({parent} has: {siblings})." if siblings and parent else ".")
            + " A file is named by its path, as path/to/file.py:callable."
        ) from error
    except (Exception, SystemExit) as error:  # as above
        raise Rot180Error(
            f"The module {name} cannot be imported: {_describe_failure(error)}."
        ) from error


def _submodules(package: str) -> list[str]:
    """Return the names of the modules in a package."""
    paths = getattr(sys.modules.get(package), "__path__", [])
    return [module.name for module in pkgutil.iter_modules(paths)]


def _candidates(module: ModuleType) -> list[str]:
    """Return the names in a module that could make a model, those defined in it first."""
    public = {
        name: value
        for name, value in vars(module).items()
        if not name.startswith("_") and (isinstance(value, nn.Module) or callable(value))
    }
    own = [
        name
        for name, value in public.items()
        if isinstance(value, nn.Module) or getattr(value, "__module__", None) == module.__name__
    ]
    return own + [name for name in public if name not in own]


def _describe_failure(error: BaseException, file: str | None = None) -> str:
    """Return how code failed and, if ``file`` is given, at which of its lines."""
    first = str(error).strip().split("\n")[0].rstrip(".")
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if frame.filename == file]
    line = error.lineno if isinstance(error, SyntaxError) else lines[-1] if lines else None
    position = f" at line {line}" if line and "line" not in first else ""
    return f"it stopped{position} with {type(error).__name__}{f' ({first})' if first else ''}"


@contextmanager
def _importable(directory: Path) -> Iterator[None]:
    """Search a directory for modules first, as Python does for the directory of a script."""
    path = str(directory.resolve())
    added = path not in sys.path
    if added:
        sys.path.insert(0, path)
    try:
        yield
    finally:
        if added and path in sys.path:
            sys.path.remove(path)
