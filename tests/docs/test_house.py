"""The drawing of the packages. That imports keep to their order is checked by import-linter."""

from pathlib import Path

import house
import pytest


def test_every_package_and_module_has_its_place() -> None:
    here = {one.stem for one in house.SOURCE.glob("*.py")}
    here |= {one.parent.name for one in house.SOURCE.glob("*/__init__.py")}
    places = {"__init__", *house.ROOMS, *house.GROUND, *house.BESIDE}
    assert here == places


@pytest.mark.slow
def test_the_package_itself_is_used_for_its_version_only() -> None:
    users = {one for one, other in house.imports() if other == "__init__"}
    for one in users - {"__main__"}:
        path = house.SOURCE / f"{one}.py"
        path = path if path.exists() else house.SOURCE / one / "__init__.py"
        assert "from rot180 import " in path.read_text()
        for line in path.read_text().splitlines():
            if line.strip().startswith("from rot180 import "):
                names = line.partition(" import ")[2].replace(",", " ").split()
                modules = {*house.ROOMS, *house.GROUND, *house.BESIDE}
                assert set(names) <= {"__version__"} | modules, f"{one}: {line}"


@pytest.mark.slow
def test_the_drawing_has_an_arrow_for_every_pair() -> None:
    drawn = str(house.drawing())
    assert drawn.count("<polygon") == len(house.between_rooms())
    assert all(f">{name}<" in drawn for name in house.ROOMS)


def test_imports_are_found_wherever_they_stand(tmp_path: Path) -> None:
    (tmp_path / "graph").mkdir()
    (tmp_path / "graph" / "__init__.py").write_text("")
    (tmp_path / "errors.py").write_text("")
    (tmp_path / "graph" / "one.py").write_text(
        "from typing import TYPE_CHECKING\n"
        "from rot180.errors import Rot180Error\n"
        "import rot180.graph\n"
        "if TYPE_CHECKING:\n    from rot180.graph import two\n"
        "def later():\n    from rot180.graph import two\n"
    )
    (tmp_path / "graph" / "two.py").write_text("import numpy\n")
    assert house.imports(tmp_path) == {
        ("graph/one", "errors"),
        ("graph/one", "graph"),
        ("graph/one", "graph/two"),
    }
