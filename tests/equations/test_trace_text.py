"""A trace reads like a calculation by hand, and refuses numbers that do not exist."""

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rot180 import Rot180Error
from rot180.equations import (
    AveragePool,
    Convolution,
    Dense,
    Flatten,
    MaxPool,
    Network,
    Quadratic,
    ReLU,
    SoftmaxCrossEntropy,
)
from rot180.equations.trace import Trace
from tests.equations.traced import IMAGES, WEIGHTED, everything, places, traced, within

# As it is written.


def small(operation: str, *more: tuple[str, Any]) -> Trace:
    """Return a network of two 2x2 kernels over a 3x3 image, with whole numbers."""
    network = Network(
        {
            "conv1": Convolution(1, 1, 2, operation=operation),
            **dict(more),
            "conv2": Convolution(1, 1, 2, operation=operation),
            "flatten": Flatten(),
        },
        Quadratic(),
    )
    weights = {"conv1.w": [[1, -1], [2, 0]], "conv2.w": [[1, 0], [-2, 3]]}
    biases = {"conv1.b": [1], "conv2.b": [-20]}
    network.load({name: np.array([[value]]) for name, value in weights.items()} | biases)
    return Trace(network, np.arange(1.0, 10.0).reshape(1, 1, 3, 3), [[5.0]])


def test_a_small_example_reads_like_a_calculation_by_hand() -> None:
    trace = small("correlation")
    assert trace.a["conv1"].tolist() == [[[[8, 10], [14, 16]]]]
    assert trace.a["conv2"].tolist() == [[[[8]]]]
    assert str(trace.z("conv1", (0, 0, 0, 0))) == (
        "conv1.z[0,0,0,0] = conv1.w[0,0,0,0]*x[0,0,0,0] + conv1.w[0,0,0,1]*x[0,0,0,1]"
        " + conv1.w[0,0,1,0]*x[0,0,1,0] + conv1.w[0,0,1,1]*x[0,0,1,1] + conv1.b[0]\n"
        "                 = 1*1 + (-1)*2 + 2*4 + 0*5 + 1\n"
        "                 = 8"
    )
    assert trace.z("conv2", (0, 0, 0, 0)).symbols() == (
        "conv2.w[0,0,0,0]*conv1.a[0,0,0,0] + conv2.w[0,0,0,1]*conv1.a[0,0,0,1]"
        " + conv2.w[0,0,1,0]*conv1.a[0,0,1,0] + conv2.w[0,0,1,1]*conv1.a[0,0,1,1] + conv2.b[0]"
    )
    assert trace.z("conv2", (0, 0, 0, 0)).numbers() == "1*8 + 0*10 + (-2)*14 + 3*16 + (-20)"
    assert str(trace.delta("conv2", (0, 0, 0, 0))) == (
        "conv2.delta[0,0,0,0] = 1/n*a[0,0] + 1/n*-y[0,0]\n"
        "                     = 1*8 + 1*(-5)\n"
        "                     = 3"
    )
    assert str(trace.delta("conv1", (0, 0, 1, 1))) == (
        "conv1.delta[0,0,1,1] = conv2.w[0,0,1,1]*conv2.delta[0,0,0,0]\n"
        "                     = 3*3\n"
        "                     = 9"
    )
    assert trace.delta("conv1", (0, 0, 1, 0)).numbers() == "(-2)*3"
    assert str(trace.weight_gradient("conv1", (0, 0, 0, 1))) == (
        "dC/dconv1.w[0,0,0,1] = conv1.delta[0,0,0,0]*x[0,0,0,1] + conv1.delta[0,0,0,1]*x[0,0,0,2]"
        " + conv1.delta[0,0,1,0]*x[0,0,1,1] + conv1.delta[0,0,1,1]*x[0,0,1,2]\n"
        "                     = 3*2 + 0*3 + (-6)*5 + 9*6\n"
        "                     = 30"
    )
    assert str(trace.bias_gradient("conv1", (0,))) == (
        "dC/dconv1.b[0] = conv1.delta[0,0,0,0] + conv1.delta[0,0,0,1] + conv1.delta[0,0,1,0]"
        " + conv1.delta[0,0,1,1]\n"
        "               = 3 + 0 + (-6) + 9\n"
        "               = 6"
    )
    assert str(trace.projection("conv1", 0, (0, 0, 0, 0))) == (
        "projection[0,0,0,0] = conv1.w[0,0,0,0]*conv1.signal[0,0,0,0]\n"
        "                    = 1*8\n"
        "                    = 8"
    )


def test_in_a_convolution_the_other_corner_of_the_kernel_meets_the_pixel() -> None:
    trace = small("convolution")
    assert trace.a["conv1"].tolist() == [[[[6, 8], [12, 14]]]]
    taken = trace.z("conv1", (0, 0, 0, 0))
    assert taken.symbols() == (
        "conv1.w[0,0,1,1]*x[0,0,0,0] + conv1.w[0,0,1,0]*x[0,0,0,1]"
        " + conv1.w[0,0,0,1]*x[0,0,1,0] + conv1.w[0,0,0,0]*x[0,0,1,1] + conv1.b[0]"
    )
    assert taken.numbers() == "0*1 + 2*2 + (-1)*4 + 1*5 + 1"
    assert taken.value == 6
    assert "conv2.w[0,0,0,0]*conv2.delta[0,0,0,0]" in str(trace.delta("conv1", (0, 0, 1, 1)))
    assert "conv2.w[0,0,1,1]*conv2.delta[0,0,0,0]" in str(trace.delta("conv1", (0, 0, 0, 0)))


def test_images_in_whole_numbers_and_a_target_of_zero_read_as_well() -> None:
    network = Network({"flatten": Flatten(), "head": Dense(4, 2)}, Quadratic())
    network.load({"head.w": [[1, 2, 0, -1], [0, 0, 0, 0]], "head.b": [-3, 1]})
    trace = Trace(network, np.arange(4).reshape(1, 1, 2, 2), [0])
    assert trace.z("head", (0, 0)).numbers() == "1*0 + 2*1 + 0*2 + (-1)*3 + (-3)"
    assert trace.delta("head", (0, 0)).numbers() == "1*(-4) + 1*(-1)"
    assert trace.delta("head", (0, 1)).numbers() == "1*1 + 1*0"


def test_what_lies_between_two_weights_stands_before_them() -> None:
    trace = small("correlation", ("relu1", ReLU()))
    assert trace.delta("conv1", (0, 0, 1, 0)).symbols() == (
        "relu1.slope[0,0,1,0]*conv2.w[0,0,1,0]*conv2.delta[0,0,0,0]"
    )
    assert trace.delta("conv1", (0, 0, 1, 0)).numbers() == "1*(-2)*3"
    mean = small("correlation", ("mean1", AveragePool((1, 2), 1, ((0, 0), (0, 1)))))
    assert mean.delta("conv1", (0, 0, 0, 1)).symbols() == (
        "1/2*conv2.w[0,0,0,0]*conv2.delta[0,0,0,0] + 1/2*conv2.w[0,0,0,1]*conv2.delta[0,0,0,0]"
    )
    largest = small("correlation", ("pool1", MaxPool(2, 1, ((0, 1), (0, 1)))))
    assert largest.delta("conv1", (0, 0, 0, 0)).terms == ()
    assert str(largest.delta("conv1", (0, 0, 0, 0))).splitlines() == [
        "conv1.delta[0,0,0,0] = 0",
        "                     = 0",
        "                     = 0",
    ]
    assert len(largest.delta("conv1", (0, 0, 1, 1)).terms) == 4  # four windows, one maximum


@pytest.mark.slow
@settings(max_examples=30, deadline=None)
@given(layer=st.sampled_from(WEIGHTED), place=places)
def test_numbers_in_text_have_the_symbols_of_the_factors_and_brackets_where_negative(
    layer, place
) -> None:
    trace, network, _ = traced("quadratic")
    taken = trace.z(layer, within(network.a[layer], place))
    head, numbers, value = str(taken).splitlines()
    assert {line.index(" = ") for line in (head, numbers, value)} == {head.index(" = ")}
    terms = head.split(" = ")[1].split(" + ")
    assert terms == ["*".join(factor.symbol for factor in term) for term in taken.terms]
    for text, term in zip(numbers.split(" = ")[1].split(" + "), taken.terms, strict=True):
        for number, factor in zip(text.split("*"), term, strict=True):
            assert re.fullmatch(r"\(-[^()]+\)|[^-()][^()]*", number)
            assert float(number.strip("()")) == pytest.approx(factor.value, rel=1e-3)
    assert float(value.split(" = ")[1]) == pytest.approx(taken.value, rel=1e-5)


# What there is not.


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda t: t.z("conv9", (0, 0, 0, 0)), "no layer 'conv9' with weights. There are: conv"),
        (lambda t: t.z("relu1", (0, 0, 0, 0)), "no layer 'relu1' with weights. There are: .*conv1"),
        (lambda t: t.weight_gradient("pool1", (0,)), "no layer 'pool1' with weights"),
        (lambda t: t.bias_gradient("flatten", (0,)), "no layer 'flatten' with weights"),
        (lambda t: t.delta("conv9", (0, 0, 0, 0)), "no layer 'conv9': conv"),
        (lambda t: t.z("conv1", (0, 4, 0, 0)), r"conv1.z has no entry \[0, 4, .*\(2, 4, 8, 5\)"),
        (lambda t: t.z("conv1", (0, 0, 0)), r"no entry \[0, 0, 0\]: .* shape \(2, 4, 8, 5\)"),
        (lambda t: t.z("dense2", (2, 0)), r"dense2.z has no entry \[2, 0\].* \(2, 3\)"),
        (lambda t: t.delta("relu1", (0, 0, -1, 0)), r"relu1.delta .* 0, -1, 0\].*\(2, 4, 8, 5\)"),
        (lambda t: t.weight_gradient("conv2", (0, 2, 0, 0)), r"conv2.w has no .*\(6, 2, 2, 3\)"),
        (lambda t: t.bias_gradient("conv2", (6,)), r"conv2.b has no entry \[6\]: .* \(6,\)"),
        (lambda t: t.projection("conv1", 0, (0, 2, 0, 0)), r"no entry .*shape \(2, 2, 9, 8\)"),
        (lambda t: t.projection("conv1", 0, (0, 0, 9, 0)), r"no entry .*shape \(2, 2, 9, 8\)"),
        (
            lambda t: t.projection("conv1", 0, (0, 0, 9, 0)),
            r"^projection has no entry \[0, 0, 9, 0\]",
        ),
        (
            lambda t: t.projection("conv2", 0, (0, 0, 9, 0), "conv1"),
            r"^conv1\.signal has no entry \[0, 0, 9, 0\]: it is of shape \(2, 4, 8, 5\)",
        ),
        (lambda t: t.projection("conv9", 0, (0, 0, 0, 0)), "no layer 'conv9'"),
        (lambda t: t.projection("conv1", 4, (0, 0, 0, 0)), r"no feature 4 .*\(2, 4, 8, 5\)"),
        (lambda t: t.projection("dense1", 0, (0, 0, 0, 0)), "no feature 0 in 'dense1'"),
        (lambda t: t.projection("conv1", 0, (0, 0, 0, 0), position=(8, 0)), "no position"),
        (lambda t: t.projection("conv1", 0, (0, 0, 0, 0), "conv2"), "pass 'conv2' .*: conv1, ''"),
        (lambda t: t.projection("conv1", 0, (0, 0, 0, 0), method="m"), "no method 'm'"),
        (lambda t: t.projection("conv1", 0, (0, 0, 0, 0), unpool="u"), "no unpooling 'u'"),
    ],
)
def test_an_unknown_name_is_refused_with_the_names_that_exist(
    call: Callable[[Trace], object], words: str
) -> None:
    with pytest.raises(Rot180Error, match=words):
        call(traced("softmax")[0])


def test_without_labels_there_are_no_errors() -> None:
    trace = Trace(everything(SoftmaxCrossEntropy()), IMAGES)
    for call in (
        lambda: trace.delta("conv1", (0, 0, 0, 0)),
        lambda: trace.weight_gradient("conv1", (0, 0, 0, 0)),
        lambda: trace.bias_gradient("conv1", (0,)),
    ):
        with pytest.raises(Rot180Error, match="no errors without labels: give labels to Trace"):
            call()
