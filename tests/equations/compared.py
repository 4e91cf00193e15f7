"""Layers with drawn weights, and the results of their comparison with finite differences."""

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
    for number, w in enumerate(layer.weights.values()):
        w[...] = normal(*w.shape, seed=seed + number)
    return layer


def dense(inputs: int, outputs: int, seed: int) -> Dense:
    layer = Dense(inputs, outputs)
    drawn_anew(layer, seed)
    return layer


def errors(checks: list[GradientCheck]) -> dict[str, float]:
    return {check.name: check.error for check in checks}


def assert_right(checks: list[GradientCheck], *names: str) -> None:
    """Assert that these arrays were compared, that they agree, and that nothing was left out."""
    assert [check.name for check in checks] == list(names)
    for check in checks:
        assert check.error < 1e-7, check
        assert check.entries > 0
        assert check.kinks == 0
