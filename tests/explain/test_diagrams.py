"""The drawings show the connections and numbers of the equations."""

from collections import Counter
from xml.etree import ElementTree

import numpy as np
import pytest

from rot180.equations import connections
from rot180.equations.convolution import correlation
from rot180.explain.blocks import COLOURS, Figure, Paragraph, grid
from rot180.explain.diagrams import (
    draw_connections,
    draw_forward_and_backward,
    draw_matrix,
    draw_perceptron,
    draw_sliding,
)
from rot180.explain.svg import Drawing
from rot180.explain.svg_document import draw_blocks

SVG = "{http://www.w3.org/2000/svg}"


def parsed(drawing: Drawing) -> ElementTree.Element:
    """Return the elements of a drawing, which are the same in a file and in a page."""
    inline, alone = drawing._repr_html_(), str(drawing)
    assert "prefers-color-scheme" in alone
    assert "prefers-color-scheme" not in inline  # a page has its own colour scheme
    inside, standalone = ElementTree.fromstring(inline), ElementTree.fromstring(alone)
    assert [x.attrib for x in inside.iter()] == [x.attrib for x in standalone.iter()]
    return inside


def words(drawing: Drawing) -> list[str]:
    return ["".join(element.itertext()) for element in parsed(drawing).iter(f"{SVG}text")]


def lines(drawing: Drawing) -> list[ElementTree.Element]:
    return list(parsed(drawing).iter(f"{SVG}line"))


def test_a_perceptron_has_all_connections_and_counts_those_of_one_neuron() -> None:
    drawing = draw_perceptron((3, 4, 2), chosen=(1, 2), names=("x", "hidden", "y"))
    assert len(lines(drawing)) == 3 * 4 + 4 * 2
    labels = words(drawing)
    assert [label for label in labels if label.isdecimal()] == ["1", "2"]
    assert {"x", "hidden", "y", "δ1", "δ2"} <= set(labels)
    assert sum(line.attrib["stroke-width"] == "3" for line in lines(drawing)) == 2


@pytest.mark.parametrize("padding", ["valid", "same", "full"])
def test_connections_have_the_colours_of_their_weights(padding: str) -> None:
    layer = connections((1, 1, 6), (1, 1, 1, 3), padding=padding)
    kept = layer.weight[layer.weight >= 0]
    assert len(lines(draw_connections(layer, "all"))) == layer.weight.size
    assert len(lines(draw_connections(layer, "cut"))) == len(kept)
    drawn = Counter(line.attrib["stroke"] for line in lines(draw_connections(layer, "shared")))
    assert drawn == Counter(f"#{COLOURS[weight]}" for weight in kept.tolist())


def test_the_connections_of_an_input_are_named_after_their_weights() -> None:
    layer = connections((1, 1, 5), (1, 1, 1, 3))
    names = [label for label in words(draw_connections(layer, source=2)) if label.startswith("w")]
    assert names == ["w[2]", "w[1]", "w[0]"]
    names = [label for label in words(draw_connections(layer, target=1)) if label.startswith("w")]
    assert names == ["w[0]", "w[1]", "w[2]"]


def test_a_matrix_shows_each_weight_where_it_stands() -> None:
    layer = connections((1, 4, 4), (1, 1, 3, 3))
    names = [label for label in words(draw_matrix(layer, column=5)) if label.startswith("w")]
    assert names == [f"w[{k // 3},{k % 3}]" for k in layer.weight[layer.weight >= 0]]
    large = connections((1, 8, 8), (1, 1, 3, 3))
    boxes = list(parsed(draw_matrix(large, row=3)).iter(f"{SVG}rect"))
    assert len(boxes) == large.weight.size + 1
    assert sum(box.attrib["fill"] != "none" for box in boxes) == (large.weight >= 0).sum()


def test_a_sliding_kernel_stands_over_the_numbers_that_it_sums() -> None:
    a, w = np.arange(12.0).reshape(3, 4), np.array([[1.0, -2], [0, 3]])
    z = correlation(a[None, None], w[None, None], padding=1)[0, 0]
    drawing = draw_sliding(a, w, z, [(0, 0), (2, 3)], padding=1, names=("map", "sum"))
    labels = words(drawing)
    assert labels.count("map") == labels.count("sum") == 2
    assert f"{z[2, 3]:g}" in labels
    coloured = [
        box.attrib["fill"]
        for box in parsed(drawing).iter(f"{SVG}rect")
        if box.attrib["fill"] != "none"
    ]
    assert coloured == [f"#{COLOURS[k]}" for k in range(4)] * 2


def test_a_result_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match=r"not of the shape \(3, 3\)"):
        draw_sliding(np.zeros((4, 4)), np.zeros((3, 3)), np.zeros((3, 3)), [(0, 0)])


def test_everything_lies_within_the_drawing() -> None:
    layer = connections((1, 4, 4), (1, 1, 3, 3))
    blocks = (Paragraph("So `z = w * a` is."), Figure([grid("a", np.eye(3)), "beside"]))
    for drawing in (
        draw_perceptron((2, 5)),
        draw_connections(connections((1, 1, 7), (1, 1, 1, 2))),
        draw_matrix(layer),
        draw_forward_and_backward(),
        draw_blocks(*blocks, title="T <&>"),
    ):
        whole = parsed(drawing)
        for element in whole.iter():
            for x, y in (("x", "y"), ("cx", "cy"), ("x1", "y1"), ("x2", "y2")):
                if x in element.attrib:
                    assert 0 <= float(element.attrib[x]) <= drawing.width
                    assert 0 <= float(element.attrib[y]) <= drawing.height
        title = whole.find(f"{SVG}title")
        assert title is not None
        assert title.text == drawing.title
