"""Types are checked in every function, and in each that is made anew within another."""

from collections.abc import Callable

import jaxtyping
import numpy as np
import pytest
from jaxtyping import Float, jaxtyped

import tests

Rows = Float[np.ndarray, "n 3"]


def adds(what: float) -> Callable[[Rows, int], Rows]:
    @jaxtyped(typechecker=tests.checked)
    def added(x: Rows, columns: int) -> Rows:
        return (x + what)[:, :columns]

    return added


@pytest.mark.parametrize("what", [1.0, 2.0])
def test_a_function_within_a_function_is_checked_each_time_it_is_made(what: float) -> None:
    made, x = adds(what), np.zeros((2, 3))
    assert np.array_equal(made(x, 3), np.full((2, 3), what))
    with pytest.raises(jaxtyping.TypeCheckError, match="parameters"):
        made(np.zeros((2, 4)), 3)
    with pytest.raises(jaxtyping.TypeCheckError, match="parameters"):
        made(x, "three")
    with pytest.raises(jaxtyping.TypeCheckError, match="return value"):
        made(x, 2)


def test_functions_of_one_name_and_other_types_are_checked_by_their_own() -> None:
    made = []
    for kind in (int, str):

        @jaxtyped(typechecker=tests.checked)
        def same(x: kind) -> kind:
            return x

        made.append(same)
    assert made[0](3) == 3
    assert made[1]("three") == "three"
    for one, wrong in zip(made, ("three", 3), strict=True):
        with pytest.raises(jaxtyping.TypeCheckError):
            one(wrong)
    with pytest.raises(jaxtyping.TypeCheckError):
        made[1](None)


def test_the_package_is_checked() -> None:
    from rot180.projection.imaging import signed_to_rgb

    with pytest.raises(jaxtyping.TypeCheckError):
        signed_to_rgb("no picture")
