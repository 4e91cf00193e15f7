"""What the docstrings show is run: every example of every module, in a directory of its own."""

import ast
import doctest
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

SOURCE = Path(__file__).parents[2] / "src" / "rot180"
_WITH_EXAMPLES = [one for one in SOURCE.rglob("*.py") if ">>> " in one.read_text(encoding="utf-8")]


def examples(path: Path) -> Iterator[doctest.DocTest]:
    """Give the examples of a module; from its source, since wrappers may hide its functions."""
    parser = doctest.DocTestParser()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            continue
        text = ast.get_docstring(node, clean=False) or ""
        if ">>> " in text:
            name, line = getattr(node, "name", path.stem), getattr(node, "lineno", 0)
            yield parser.get_doctest(text, {}, name, str(path), line)


@pytest.mark.parametrize("path", sorted(_WITH_EXAMPLES), ids=lambda one: one.stem)
def test_examples_give_what_they_show(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found = list(examples(path))
    assert found, f"{path} has examples outside of docstrings"
    told: list[str] = []
    for one in found:
        doctest.DocTestRunner(optionflags=doctest.FAIL_FAST).run(one, out=told.append)
    assert not told, "".join(told)
