"""The equations stand alone: they need NumPy and the standard library, and nothing else."""

import subprocess
import sys

import pytest

SCRIPT = """
import sys
import numpy.random  # and what NumPy itself brings
before = set(sys.modules)
import rot180.equations
print(*sorted(set(sys.modules) - before))
"""


def loaded() -> set[str]:
    """Return the modules that the equations add to NumPy's, in a Python of its own."""
    run = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    return set(run.stdout.split())


@pytest.mark.slow
def test_the_equations_load_numpy_and_the_standard_library_only() -> None:
    names = loaded()
    assert {"rot180.equations", "rot180.equations.network"} <= names
    allowed = sys.stdlib_module_names | {"numpy", "rot180"}
    assert {name.partition(".")[0] for name in names} <= allowed


@pytest.mark.slow
def test_of_rot180_the_equations_load_only_its_one_exception_and_how_it_is_printed() -> None:
    own = {name for name in loaded() if name.partition(".")[0] == "rot180"}
    others = {name for name in own if not f"{name}.".startswith("rot180.equations.")}
    assert others == {"rot180", "rot180.errors", "rot180.visible"}
