"""The pages of the reference leave out nothing that is public."""

import importlib
import inspect
from pathlib import Path

import pytest

import rot180
from rot180 import equations
from rot180.cli import app
from rot180.equations import convolution

PAGES = Path(__file__).parents[2] / "docs" / "reference"
PYTHON, EQUATIONS = (
    (PAGES / f"{name}.md").read_text(encoding="utf-8") for name in ("python", "equations")
)


@pytest.mark.parametrize("name", rot180.__all__)
def test_the_python_interface_is_on_its_page(name: str) -> None:
    assert f":: rot180.{name}\n" in PYTHON


@pytest.mark.parametrize("name", equations.__all__)
def test_the_equations_are_on_their_page(name: str) -> None:
    assert f":: rot180.equations.{name}\n" in EQUATIONS


def test_all_convolutions_are_on_the_page() -> None:
    for name, function in inspect.getmembers(convolution, inspect.isfunction):
        own = function.__module__ == convolution.__name__
        if own and not name.startswith("check_") and name not in equations.__all__:
            assert f":: rot180.equations.convolution.{name}\n" in EQUATIONS


def test_all_commands_are_on_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(PAGES.parent / "_ext"))
    commands = importlib.import_module("commands").commands()
    for one in app.registered_commands:
        name = one.callback.__name__  # type: ignore[union-attr]
        assert f"## rot180 {name}\n" in commands
    assert "`--on-bad-image" in commands
