"""The explanation says what is true of any small example, in every format."""

import json
import re
import shutil
import subprocess
from io import StringIO
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st
from rich.console import Console

from rot180 import Rot180Error
from rot180.explain.blocks import (
    COLOURS,
    Equation,
    Figure,
    Grid,
    Paragraph,
    Section,
    as_json,
    wrap_terms,
)
from rot180.explain.example import ConvolutionExample, make_example
from rot180.explain.explanation import explain
from rot180.explain.latex import as_latex, formula
from rot180.explain.svg_document import as_svg
from rot180.explain.terminal import show


@st.composite
def options(draw: st.DrawFn) -> dict[str, Any]:
    kernel = (draw(st.integers(1, 3)), draw(st.integers(1, 3)))
    stride = draw(st.integers(1, 2))
    paddings = ["valid", "full", 1, (0, 2)] + (["same"] if stride == 1 else [])
    return {
        "size": (draw(st.integers(kernel[0], 5)), draw(st.integers(kernel[1], 5))),
        "kernel_size": kernel,
        "stride": stride,
        "padding": draw(st.sampled_from(paddings)),
        "operation": draw(st.sampled_from(["correlation", "convolution"])),
        "activation": draw(st.sampled_from(["none", "relu", "sigmoid", "tanh"])),
        "seed": draw(st.integers(0, 999)),
    }


def example_of(options: dict[str, Any]) -> ConvolutionExample:
    try:
        return make_example(**options)
    except Rot180Error:  # all windows lie in the border
        reject()


def grids(sections: list[Section]) -> list[Grid]:
    blocks = [block for section in sections for block in section.blocks]
    figures = [block for block in blocks if isinstance(block, Figure)]
    return [part for figure in figures for part in figure.parts if isinstance(part, Grid)]


def values(sections: list[Section], name: str) -> np.ndarray:
    (grid,) = (grid for grid in grids(sections) if grid.name == name)
    return np.array([[cell.value for cell in row] for row in grid.rows])


def equations(sections: list[Section]) -> list[Equation]:
    blocks = [block for section in sections for block in section.blocks]
    return [block for block in blocks if isinstance(block, Equation)]


def words(sections: list[Section]) -> str:
    blocks = [block for section in sections for block in section.blocks]
    return "\n".join(block.text for block in blocks if isinstance(block, Paragraph))


@pytest.mark.slow
@settings(max_examples=30, deadline=None)
@given(options())
def test_what_it_says_is_true_of_any_example(options: dict[str, Any]) -> None:
    example = example_of(options)
    sections = explain(example)
    for equation in equations(sections):
        assert equation.sum.total == pytest.approx(equation.sum.value, abs=1e-12)
        assert equation.sum.terms
    for said in re.findall(r"largest difference[^.]*? is ([\d.e+-]*\d)", words(sections)):
        assert float(said) < 1e-7
    (checked,) = (
        example for example in grids(sections) if "back-propagation" in example.column_names
    )
    pairs = [(row[1].value, row[2].value) for row in checked.rows if row[3].text != "at a kink"]
    assert np.allclose(*zip(*pairs, strict=True), rtol=1e-7, atol=1e-7)
    assert len(checked.rows) == example.image.size + example.kernel.size + 1
    (both,) = (one for one in grids(sections) if "the other way" in one.column_names)
    for row in both.rows:
        assert float(row[3].text) < 1e-12
        assert float(row[5].text) < 1e-12
    assert [row[1].text for row in both.rows] == ["as it is", "rotated"]
    assert [row[2].text for row in both.rows] == ["rotated", "as it is"]


@pytest.mark.slow
def test_a_kernel_the_wrong_way_round_is_wrong_unless_it_is_symmetric() -> None:
    for kernel, symmetric in (([[1, 2], [3, 4]], False), ([[1, 2], [2, 1]], True)):
        sections = explain(make_example(kernel=kernel))
        (both,) = (grid for grid in grids(sections) if "the other way" in grid.column_names)
        assert all((float(row[4].text) == 0) == symmetric for row in both.rows)
        assert ("one cannot tell" in words(sections)) == symmetric


def test_an_example_that_can_be_done_by_hand() -> None:
    example = make_example(image=[[1, 2, 3], [4, 5, 6], [7, 8, 9]], kernel=[[1, 0], [0, -2]])
    sections = explain(example)
    z = [[1 - 10 + 1, 2 - 12 + 1], [4 - 16 + 1, 5 - 18 + 1]]
    assert values(sections, "z").tolist() == z
    d = values(sections, "delta")
    assert np.array_equal(d, np.array(z) - values(sections, "y"))
    assert values(sections, "dC/da")[1, 1] == -2 * d[0, 0] + d[1, 1]
    assert values(sections, "dC/dw")[0, 1] == 2 * d[0, 0] + 3 * d[0, 1] + 5 * d[1, 0] + 6 * d[1, 1]
    assert values(sections, "rot180(w)").tolist() == [[-2, 0], [0, 1]]
    (met,) = (grid for grid in grids(sections) if grid.name == "the weights that take a[1,1]")
    symbols = [[cell.text for cell in row] for row in met.rows]
    assert symbols == [["w[1,1]", "w[1,0]"], ["w[0,1]", "w[0,0]"]]
    assert "They are the kernel, rotated by 180 degrees." in words(sections)


def test_a_convolution_turns_its_kernel_forward_and_not_back() -> None:
    sections = explain(make_example(operation="convolution"))
    (met,) = (grid for grid in grids(sections) if grid.name.startswith("the weights that take"))
    assert [cell.text for cell in met.rows[0]] == ["w[0,0]", "w[0,1]"]
    assert "They are the kernel as it is." in words(sections)


def test_the_seed_decides_what_is_drawn() -> None:
    first, again, other = (make_example(seed=seed) for seed in (3, 3, 4))
    assert np.array_equal(first.image, again.image)
    assert np.array_equal(first.target, again.target)
    assert not np.array_equal(first.image, other.image)
    assert len(np.unique(np.abs(first.kernel))) == first.kernel.size  # all weights are distinct


def test_a_target_and_a_bias_of_ones_own_are_taken() -> None:
    example = make_example(image=[[1, 2], [3, 4]], kernel=[[2]], target=[[0, 1], [2, 3]], bias=-1)
    sections = explain(example)
    assert values(sections, "z").tolist() == [[1, 3], [5, 7]]
    assert values(sections, "delta").tolist() == [[1, 2], [3, 4]]
    kept = make_example(image=[[1, 2], [3, 4]], kernel=[[2]], activation="relu", bias=-20)
    assert kept.bias == -20  # also where no unit fires


@pytest.mark.slow
@settings(max_examples=10, deadline=None)
@given(options())
def test_every_format_holds_the_whole_explanation(options: dict[str, Any]) -> None:
    sections = explain(example_of(options))
    data = json.loads(as_json(sections, "T"))
    assert [section["title"] for section in data["sections"]] == [s.title for s in sections]
    sums = [b for s in data["sections"] for b in s["blocks"] if "products" in b]
    assert len(sums) == len(equations(sections))
    picture = ElementTree.fromstring(as_svg(sections, "T <&>"))
    shown = "".join(picture.itertext())
    written = as_latex(sections, "T")
    for section in sections:
        assert section.title in shown
        assert section.title in written
    assert written.count("{") == written.count("}")
    assert len(re.findall(r"\\begin", written)) == len(re.findall(r"\\end", written))
    width, height = (float(picture.attrib[side]) for side in ("width", "height"))
    for element in picture.iter():
        if "x" in element.attrib:
            assert 0 <= float(element.attrib["x"]) <= width
            assert 0 <= float(element.attrib["y"]) <= height


@pytest.mark.parametrize("width", [50, 100])
def test_a_terminal_of_any_width_shows_all_text(width: int) -> None:
    console = Console(file=StringIO(), width=width, highlight=False)
    sections = explain(make_example())
    show(sections, console)
    printed = console.file.getvalue()
    assert max(map(len, printed.splitlines())) <= max(width, 100)
    for word in words(sections).replace("`", "").split():
        assert word in printed
    assert ("too wide for" in printed) == (width == 50)


@pytest.mark.slow
@pytest.mark.parametrize(("size", "counts"), [((2, 2), [5]), ((3, 3), [4, 4, 2]), ((1, 1), [2])])
def test_every_format_breaks_a_sum_at_the_same_products(size, counts) -> None:
    sections = explain(make_example(size=(4, 4), kernel_size=size))
    (z,) = (equation.sum for equation in equations(sections) if equation.sum.name == "z")
    lines = wrap_terms(z)
    assert [len(line) for line in lines] == counts
    assert [product for line in lines for product in line] == z.products()
    console = Console(file=StringIO(), width=200, highlight=False)
    show(sections, console)
    printed, picture = console.file.getvalue(), "".join(as_svg(sections, "T").splitlines())
    written = as_latex(sections, "T")
    for line in lines:
        for form in (0, 1):
            terms = [product[form] for product in line]
            shown = r"\s*\+\s*".join(map(re.escape, terms))
            assert re.search(rf"[=+] +{shown}(?: +\+)? *\n", printed)
            assert all(f">{term}</text>" in picture for term in terms)
            assert f" {' + '.join(map(formula, terms))} \\\\\n" in written


def test_every_format_has_the_same_colours() -> None:
    sections = explain(make_example(size=(4, 4), kernel_size=(3, 3)))
    picture, written = as_svg(sections, "T"), as_latex(sections, "T")
    for number, colour in enumerate(COLOURS):
        assert f'fill="#{colour}"' in picture
        assert rf"\definecolor{{weight{number}}}{{HTML}}{{{colour}}}" in written
        assert rf"\cellcolor{{weight{number}!35}}" in written


def test_formulas_become_latex() -> None:
    assert formula("w[0,1]*a[1,2]") == r"w_{0,1} \cdot a_{1,2}"
    assert formula("0.5*(-1.2)") == r"0.5 \cdot (-1.2)"
    assert formula("dC/dw = delta * rot180(a)") == (
        r"\partial C/\partial w = \delta \ast \operatorname{rot180}(a)"
    )
    assert formula("C = |z - y|^2 / 2") == r"C = \lVert z - y \rVert^2 / 2"
    assert formula("3e-07") == r"3\cdot 10^{-7}"


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="there is no pdflatex here")
@pytest.mark.parametrize("stride", [1, 2])
def test_the_document_compiles(tmp_path: Path, stride: int) -> None:
    example = make_example(
        size=(5, 5), kernel_size=(3, 3), stride=stride, padding=1, activation="tanh"
    )
    (tmp_path / "x.tex").write_text(as_latex(explain(example), "T"), encoding="utf-8")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "x.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:]
    assert "Overfull" not in done.stdout


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"kernel_size": (4, 2)}, "4x2 does not fit into the image, which is 3x3"),
        ({"operation": "corr"}, "no operation 'corr'"),
        ({"activation": "gelu"}, "no activation 'gelu'"),
        ({"image": [[1, 2], [3]]}, "rows of one length"),
        ({"image": [[1, float("nan")]]}, "finite numbers"),
        ({"kernel": [1, 2]}, r"shape \(2,\)"),
        ({"target": [[1, 2, 3]]}, "target is 1x3, but the output .* is 2x2"),
        ({"target": [[1, 2], [3]]}, "target is no grid"),
        ({"bias": float("inf")}, "bias has to be a finite number"),
        ({"padding": "big"}, "no padding 'big'"),
        ({"stride": 0}, "stride"),
        ({"size": (0, 3)}, "does not fit"),
        ({"size": (1, 1), "kernel_size": (1, 1), "stride": 2, "padding": 1}, "covers a pixel"),
        ({"kernel_size": (99999, 99999)}, "99999x99999 does not fit into the image"),
        ({"size": (99999, 99999), "kernel_size": (99999, 99999)}, "too many to be explained"),
        ({"size": (99999, 99999)}, "too many to be explained"),
        ({"kernel_size": (99999, 99999), "padding": 49999}, "too much to be explained"),
        ({"size": (300, 300), "kernel_size": (300, 300)}, "too much to be explained"),
        ({"padding": 10**9, "stride": 10**9}, "too much to be explained"),
        ({"padding": 10**400}, "below 2 to the power of 63"),
        ({"stride": 10**400}, "below 2 to the power of 63"),
        ({"seed": 10**5000}, "below 2 to the power of 63"),
    ],
)
def test_what_cannot_be_explained_is_refused(given, said: str) -> None:
    with pytest.raises(Rot180Error, match=said):
        make_example(**given)
