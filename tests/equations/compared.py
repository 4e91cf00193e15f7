"""Layers with drawn weights, and what is made of their comparison with finite differences."""

from hypothesis import strategies as st

from rot180.equations import Dense, Layer
from rot180.equations.gradcheck import GradientCheck
from tests.equations.cases import normal

seeds = st.integers(0, 999)
shapes = st.one_of(
    st.tuples(st.integers(1, 4), st.integers(1, 9)),
    st.tuples(*(st.integers(1, 3) for _ in range(4))),
)


def drawn_anew(layer: Layer, seed: int) -> Layer:
    for number, one in enumerate(layer.weights.values()):
        one[...] = normal(*one.shape, seed=seed + number)
    return layer


def dense(inputs: int, outputs: int, seed: int) -> Dense:
    made = Dense(inputs, outputs)
    drawn_anew(made, seed)
    return made


def errors(checks: list[GradientCheck]) -> dict[str, float]:
    return {one.name: one.error for one in checks}


def assert_right(checks: list[GradientCheck], *names: str) -> None:
    """Assert that all these were compared, agree, and that nothing was left out."""
    assert [one.name for one in checks] == list(names)
    for one in checks:
        assert one.error < 1e-7, one
        assert one.entries > 0
        assert one.kinks == 0
