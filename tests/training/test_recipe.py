"""A recipe holds values that make sense, and goes to JSON and back."""

from dataclasses import replace

import pytest

from rot180 import Rot180Error
from rot180.training.recipe import PHOTOS, Recipe, recipe_for


@pytest.mark.parametrize(
    ("name", "value"), [("epochs", 0), ("batch", 0), ("rate", -1.0), ("hue", 200.0), ("grey", 2.0)]
)
def test_a_recipe_refuses_values_that_make_no_sense(name: str, value: float) -> None:
    with pytest.raises(Rot180Error, match=f"{name} is {value}; it has to lie between"):
        replace(Recipe(), **{name: value})


def test_each_data_set_has_its_recipe() -> None:
    assert recipe_for("photos") == PHOTOS
    assert recipe_for("cifar10") == Recipe()
    with pytest.raises(Rot180Error, match="not known"):
        Recipe.from_json({"speed": 1})
