"""The equations stand alone: they need NumPy and the standard library, and nothing else."""

import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import rot180.equations

PACKAGE = "rot180.equations."

SCRIPT = """
import sys
import numpy.random  # and what NumPy itself brings
before = set(sys.modules)
import rot180.equations
print(*sorted(set(sys.modules) - before))
"""


def loaded() -> set[str]:
    """Return the modules that the equations add to NumPy's, in a new Python process."""
    run = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    return set(run.stdout.split())


@pytest.mark.slow
def test_the_equations_load_numpy_and_the_standard_library_only() -> None:
    names = loaded()
    assert {"rot180.equations", "rot180.equations.network"} <= names
    allowed = sys.stdlib_module_names | {"numpy", "rot180"}
    assert {name.partition(".")[0] for name in names} <= allowed


@pytest.mark.slow
def test_of_rot180_the_equations_load_only_the_exception_and_how_it_is_printed() -> None:
    own = {name for name in loaded() if name.partition(".")[0] == "rot180"}
    others = {name for name in own if not f"{name}.".startswith("rot180.equations.")}
    assert others == {"rot180", "rot180.errors", "rot180.visible"}


def imported(path: Path) -> set[str]:
    """Return the modules of the equations that a file imports, at any level."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    return {name.removeprefix(PACKAGE) for name in names if name.startswith(PACKAGE)}


def test_the_modules_of_the_equations_import_each_other_without_a_circle() -> None:
    folder = Path(rot180.equations.__file__).parent
    files = {
        ".".join(path.relative_to(folder).with_suffix("").parts): path
        for path in folder.rglob("*.py")
        if path.name != "__init__.py"
    }
    needs = {name: imported(path) & files.keys() for name, path in files.items()}
    assert needs["network"]
    order = list(TopologicalSorter(needs).static_order())  # raises CycleError if there is a circle
    assert order.index("network") < order.index("fast.parallel") < order.index("training")
    plain = {name for name in files if not name.startswith("fast.")}
    assert {name for name in plain if any("fast." in one for one in needs[name])} == {"training"}
