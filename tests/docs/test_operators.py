"""The page of operators names all that is in the table, and says of each what the library says."""

import importlib

import pytest

from rot180.graph.lowerings import TABLE
from rot180.graph.lowerings.layout import SPLITS
from rot180.graph.lowerings.spatial import FIRST_OF_SEVERAL

pytestmark = pytest.mark.slow

operators = importlib.import_module("operators")


@pytest.fixture(scope="module")
def lines():
    return operators.lines()


def test_every_operator_of_the_table_is_on_the_page(lines) -> None:
    listed = {one.target for one in lines if one.backward_kind.name != "not listed"}
    assert {str(one) for one in (*TABLE, *SPLITS)} <= listed
    assert {str(one) for one in FIRST_OF_SEVERAL} <= {str(one) for one in TABLE}
    text = operators.page(lines)
    for target in listed:
        assert f"| `{target.removesuffix('.default')}` |" in text


@pytest.mark.parametrize(
    ("call", "way", "local"),
    [
        ("F.relu(x)", "rectifier", True),
        ("x * torch.sigmoid(x)", "rectifier", True),
        ("x.clamp(-1, 1)", "by derivative", True),
        ("F.max_pool2d(x, 3, stride=2, padding=1)", "maximum", True),
        ("x.flatten(1)", "linear", False),
        ("x.detach()", "stopped", True),
        ("torch.sin(x)", "by derivative", True),
        ("torch.where(x > 0, x, 0.1 * x)", "rectifier", True),
        ("torch.special.i0(x)", "not listed", False),
    ],
)
def test_lines_say_what_is_known_of_these(lines, call: str, way: str, local: bool) -> None:
    found = [one for one in lines if one.call == call]
    assert found
    assert {(one.backward_kind.name, one.local) for one in found} == {(way, local)}
