"""The five steps give the gradients of the cost, and refuse what does not match."""

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from rot180 import Rot180Error
from rot180.equations import (
    SGD,
    Adam,
    AveragePool,
    Convolution,
    DataParallel,
    Dense,
    Dropout,
    Flatten,
    Layer,
    MaxPool,
    Network,
    Quadratic,
    ReLU,
    Sigmoid,
    SoftmaxCrossEntropy,
    Tanh,
    fit,
)
from rot180.equations.padding import check_count
from tests.equations.cases import Array, bordered, classes, normal, relative, tensor
from tests.models import TwoConvolutions, seeded

seeds = st.integers(0, 99)


def two_convolutions(
    model: nn.Module, operation: str = "correlation", smoothing: float = 0.0
) -> Network:
    """Return the network of ``tests.models.TwoConvolutions`` with the weights of a model."""
    layers = {
        "conv1": Convolution(3, 6, 5, padding=2, operation=operation),
        "relu1": ReLU(),
        "pool1": MaxPool(2),
        "conv2": Convolution(6, 8, 3, padding=1, operation=operation),
        "relu2": ReLU(),
        "pool2": MaxPool(2),
        "flatten": Flatten(),
        "head": Dense(8 * 9, 5),
    }
    net = Network(layers, SoftmaxCrossEntropy(smoothing))
    net.load(as_equations({k: v.detach() for k, v in model.named_parameters()}, operation))
    return net


def as_equations(tensors: dict[str, Tensor], operation: str) -> dict[str, Array]:
    """Return PyTorch's tensors by the names of the equations, with kernels rotated to convolve."""
    arrays = {}
    for name, values in tensors.items():
        turned = values.flip(-2, -1) if operation == "convolution" and values.ndim == 4 else values
        layer, _, kind = name.rpartition(".")
        arrays[f"{layer}.{kind[0]}"] = turned.numpy()
    return arrays


# The five steps.


@pytest.mark.slow
@pytest.mark.parametrize("operation", ["correlation", "convolution"])
@settings(max_examples=12, deadline=None)
@given(n=st.integers(1, 6), seed=seeds, smoothing=st.sampled_from([0.0, 0.1]))
def test_the_five_steps_as_autograd(operation: str, n: int, seed: int, smoothing: float) -> None:
    model = seeded(TwoConvolutions, seed=seed)
    net = two_convolutions(model, operation, smoothing)
    outputs = {}

    def keep(module: nn.Module, _: object, out: Tensor) -> None:
        out.retain_grad()
        outputs[module] = out

    for module in model.children():
        module.register_forward_hook(keep)
    for again in range(2):  # the second batch uses the same workspaces
        x, labels = normal(n + again, 3, 12, 12, seed=seed + again), classes(5, n + again, seed)
        scores = model(torch.from_numpy(x))
        expected = F.cross_entropy(
            scores, torch.from_numpy(labels), reduction="none", label_smoothing=smoothing
        )
        model.zero_grad()
        expected.mean().backward()
        costs, gradients = net.five_steps(x, labels)
        assert relative(costs, expected.detach().numpy()) < 1e-10
        for name, module in model.named_children():
            assert relative(net.a[name], outputs[module].detach().numpy()) < 1e-10
            assert relative(net.delta[name], outputs[module].grad.numpy()) < 1e-10
        by_name = {name: parameter.grad for name, parameter in model.named_parameters()}
        of_model = as_equations(by_name, operation)
        assert gradients.keys() == of_model.keys() == net.weights.keys()
        for name, gradient in of_model.items():
            assert relative(gradients[name], gradient) < 1e-10


def varied(seed: int) -> Network:
    """Return a network with strides, groups, uneven borders, all activations and both poolings."""
    rng = np.random.default_rng(seed)
    layers = {
        "stem": Convolution(2, 4, (5, 3), (2, 1), ((0, 3), (1, 0)), rng=rng),
        "tanh": Tanh(),
        "average": AveragePool((1, 2)),
        "narrow": Convolution(4, 6, (2, 4), 1, "same", 2, "convolution", rng),
        "sigmoid": Sigmoid(),
        "max": MaxPool(3, 2, 1),
        "flatten": Flatten(),
        "hidden": Dense(6 * 3 * 2, 7, rng),
        "relu": ReLU(),
        "head": Dense(7, 3, rng),
    }
    for layer in layers.values():
        if layer.weights:
            layer.weights["b"][...] = rng.standard_normal(layer.weights["b"].shape)
    return Network(layers, Quadratic())


@settings(max_examples=12, deadline=None)
@given(n=st.integers(1, 5), seed=seeds)
def test_a_network_of_other_layers_as_autograd(n: int, seed: int) -> None:
    net = varied(seed)
    x, y = normal(n, 2, 11, 10, seed=seed + 1), normal(n, 3, seed=seed + 2)
    w = {name: tensor(array) for name, array in net.weights.items()}
    a = bordered(torch.from_numpy(x), ((0, 3), (1, 0)))
    a = F.avg_pool2d(torch.tanh(F.conv2d(a, w["stem.w"], w["stem.b"], (2, 1))), (1, 2))
    a = bordered(a, ((1, 0), (2, 1)))  # odd padding at the top and left: the kernel is rotated
    a = F.conv2d(a, w["narrow.w"].flip(-2, -1), w["narrow.b"], groups=2)
    a = F.max_pool2d(torch.sigmoid(a), 3, 2, 1).flatten(1)
    a = F.linear(F.relu(F.linear(a, w["hidden.w"], w["hidden.b"])), w["head.w"], w["head.b"])
    expected = 0.5 * ((a - torch.from_numpy(y)) ** 2).sum(1)
    expected.mean().backward()
    costs, gradients = net.five_steps(x, y)
    assert relative(costs, expected.detach().numpy()) < 1e-10
    assert gradients.keys() == w.keys()
    for name, parameter in w.items():
        assert relative(gradients[name], parameter.grad.numpy()) < 1e-10


def test_the_five_steps_one_by_one() -> None:
    net, x, y = varied(0), normal(4, 2, 11, 10), normal(4, 3)
    net.input(x)
    assert not net.a
    assert not net.delta
    out = net.feed_forward()
    assert list(net.a) == list(net.layers)
    assert net.a["head"] is out
    costs = net.output_error(y)
    assert list(net.delta) == ["head"]
    net.back_propagate()
    assert net.delta.keys() == net.layers.keys()
    at_once, gradients = varied(0).five_steps(x, y)
    assert np.array_equal(costs, at_once)
    assert all(
        np.array_equal(gradient, gradients[name]) for name, gradient in net.gradient().items()
    )


def test_the_mean_may_be_over_more_images_than_the_batch_has() -> None:
    net, x, y = varied(0), normal(6, 2, 11, 10), normal(6, 3)
    whole = {name: gradient.copy() for name, gradient in net.five_steps(x, y)[1].items()}
    total = {name: np.zeros_like(gradient) for name, gradient in whole.items()}
    for part in (slice(0, 4), slice(4, 6)):
        for name, gradient in net.five_steps(x[part], y[part], images=6)[1].items():
            total[name] += gradient
    assert all(relative(total[name], gradient) < 1e-12 for name, gradient in whole.items())


def test_the_output_error_of_softmax_and_cross_entropy_is_a_minus_y() -> None:
    net = two_convolutions(seeded(TwoConvolutions))
    labels = np.array([4, 0, 2])
    net.input(normal(3, 3, 12, 12))
    z = net.feed_forward().copy()
    net.output_error(labels)
    y = np.array([[0, 0, 0, 0, 1], [1, 0, 0, 0, 0], [0, 0, 1, 0, 0]])
    a = np.exp(z) / np.exp(z).sum(1, keepdims=True)
    assert relative(net.delta["head"], (a - y) / 3) < 1e-14


# What does not fit.


def small() -> Network:
    """Return a network with 6 inputs and 5 classes."""
    rng = np.random.default_rng(0)
    return Network({"below": Dense(6, 4, rng), "relu": ReLU(), "head": Dense(4, 5, rng)})


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ([0, 1, 5], r"Label 5 of image 2 is no class: there are 5, .* from 0 to 4 \(1 such"),
        ([-1, 1, 9], r"Label -1 of image 0 is no class: .* \(2 such labels in all\)"),
        ([0, 1], "3 images and 2 labels"),
        ([0, 1, 2, 3], "3 images and 4 labels"),
        (np.zeros((3, 4)), r"output is of shape \(3, 5\), but its target is of shape \(3, 4\)"),
        (np.zeros((2, 5)), r"\(3, 5\), .* \(2, 5\); give the same shape, or one class number"),
        ([0.0, 1.0, 2.0], r"\(3, 5\), .* of shape \(3,\); give .* or one class number"),
    ],
)
def test_labels_that_do_not_fit(labels: object, words: str) -> None:
    for net in (small(), Network(small().layers, Quadratic())):
        with pytest.raises(Rot180Error, match=words):
            net.five_steps(normal(3, 6), labels)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: fit(small(), normal(3, 6), np.zeros(2, int)), "3 images and 2 labels"),
        (lambda: fit(small(), normal(3, 6), np.zeros(4, int)), "3 images and 4 labels"),
        (lambda: fit(small(), normal(0, 6), np.zeros(0, int)), r"one image at least; .* \(0, 6\)"),
        (lambda: fit(small(), normal(2, 6), np.zeros(2, int), epochs=0), "epochs .* 1, not 0"),
        (lambda: fit(small(), normal(2, 6), np.zeros(2, int), batch=0), "batch .* 1, not 0"),
        (lambda: fit(small(), normal(2, 6), np.array([0, 5])), "Label 5 of image 1 is no class"),
        (lambda: fit(small(), normal(2, 6), np.array([0, 1]), threads=0), "threads .* 1, not 0"),
        (lambda: DataParallel(small(), micro_batch=0), "micro-batch .* 1, not 0"),
        (
            lambda: DataParallel(small()).five_steps(normal(0, 6), np.zeros(0, int)),
            r"one image at least; this one is .* \(0, 6\)",
        ),
        (lambda: Flatten().forward(normal(0, 2, 3, 4)), r"one image at least; .* \(0, 2, 3, 4\)"),
        (lambda: DataParallel(small(), seed=-1), "The seed is a number from 0 up, not -1"),
        (lambda: Dropout(seed=-1), "The seed is a number from 0 up, not -1"),
        (lambda: small().scores(normal(2, 6), batch=0), "number of images in a batch .* 1, not 0"),
        (lambda: check_count(1.5, "epochs"), "^The number of epochs has to be a whole .*, not 1.5"),
        (lambda: Dense(0, 2), "^The number of inputs has to be at least 1, not 0"),
        (lambda: Network([]), "one layer at least"),
        (lambda: SoftmaxCrossEntropy(1.0), "between 0 and 1, not at 1.0"),
        (lambda: SGD(-0.5), "The learning rate .* not -0.5"),
        (lambda: Adam(float("nan")), "The learning rate .* not nan"),
        (lambda: SGD(0.1, nesterov=True), "nesterov .* momentum, which is 0 here: give one"),
        (lambda: SGD(momentum=1.0), "momentum .* not at 1.0"),
        (lambda: small().accuracy(normal(3, 6), np.zeros(2, int)), "3 images and 2 labels"),
        (lambda: small().scores(normal(2, 5)), r"'below'.* takes \(images, 6\) .* \(2, 5\)"),
        (
            lambda: Network([Convolution(1, 2, 3)]).five_steps(normal(2, 1, 5, 5), [0, 1]),
            r"outputs of shape \(images, classes\), not \(2, 2, 3, 3\): put a Flatten",
        ),
    ],
)
def test_what_does_not_match_is_refused_with_its_values(
    call: Callable[[], object], words: str
) -> None:
    with pytest.raises(Rot180Error, match=words):
        call()


def test_weights_that_are_not_those_of_the_network_are_refused() -> None:
    net = small()
    before = {name: w.copy() for name, w in net.weights.items()}
    wrong = {**before, "head.w": np.zeros((4, 5))}
    with pytest.raises(Rot180Error, match=r"'head.w' are \(4, 5\); in this network .* \(5, 4\)"):
        net.load(wrong)
    with pytest.raises(Rot180Error, match=r"'other.w' are \(1,\); in this network .* missing"):
        net.load({**before, "other.w": np.zeros(1)})
    with pytest.raises(Rot180Error, match=r"'head.b' are missing; .* It has head.b,"):
        net.load({name: w for name, w in before.items() if name != "head.b"})
    assert all(np.array_equal(net.weights[name], w) for name, w in before.items())


@pytest.mark.parametrize(
    ("weights", "value"),
    [
        ("conv1.b", np.nan),
        ("conv2.w", np.nan),
        ("conv2.w", -np.inf),
        ("conv2.b", np.inf),
        ("head.w", np.inf),
    ],
)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_cost_that_is_not_finite_names_the_first_weights(weights: str, value: float) -> None:
    net = two_convolutions(seeded(TwoConvolutions))
    net.weights[weights][1] = value
    words = rf"not finite\. .*: the weights '{weights}', entry \[1.* = {value} "
    for call in (net.five_steps, partial(fit, net)):
        with pytest.raises(Rot180Error, match=words):
            call(normal(3, 3, 12, 12), np.array([0, 1, 2]))


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_cost_that_is_not_finite_names_the_first_output(threads: int) -> None:
    net = two_convolutions(seeded(TwoConvolutions))
    for name in ("conv1.w", "conv2.w"):
        net.weights[name][...] *= 1e200
    with pytest.raises(Rot180Error, match=r"the output of 'conv2', entry .* learning rate"):
        fit(net, normal(20, 3, 12, 12), classes(5, 20), threads=threads)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_cost_that_is_not_finite_names_the_images(value: float) -> None:
    net, x = two_convolutions(seeded(TwoConvolutions)), normal(3, 3, 12, 12)
    x[1, 2, 3, 4] = x[2, 0, 0, 0] = value
    words = rf"the images, entry \[1, 2, 3, 4\] = {value} \(2 of 1296\)"
    with pytest.raises(Rot180Error, match=words):
        net.five_steps(x, np.array([0, 1, 2]))
    with pytest.raises(Rot180Error, match=r"Image 1 .* not finite \(2 do\)"):
        fit(net, x, np.array([0, 1, 2]))


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_scores_that_are_too_large_for_the_cost_are_named_too() -> None:
    net = Network([Dense(1, 2)])
    net.weights["dense1.w"][...] = [[1e308], [-1e308]]
    with pytest.raises(Rot180Error, match=r"not finite although all .* too large for it"):
        net.five_steps(np.ones((1, 1)), [1])


def test_shares_that_do_not_sum_to_one_are_refused() -> None:
    y = np.array([[0.5, 0.5, 0, 0, 0], [1, 1, 0, 0, 0]])
    with pytest.raises(Rot180Error, match="have to sum to 1; those of image 1 sum to 2"):
        small().five_steps(normal(2, 6), y)
    Network(small().layers, Quadratic()).five_steps(normal(2, 6), y)


def test_a_layer_with_two_positions_is_refused() -> None:
    relu = ReLU()
    layers = {"a": Dense(6, 4), "one": relu, "b": Dense(4, 4), "other": relu}
    with pytest.raises(Rot180Error, match="'one' and 'other' are the same layer"):
        Network(layers)


def test_an_error_of_another_shape_is_refused() -> None:
    layers = (Convolution(2, 3, 3), MaxPool(2), AveragePool(2), ReLU(), Flatten(), Dropout())
    for layer in layers:
        out = layer.forward(normal(2, 2, 6, 6))
        with pytest.raises(Rot180Error, match=r"error is of shape \(3, .* of shape \(2, "):
            layer.backward(np.zeros((3, *out.shape[1:])))
    with pytest.raises(Rot180Error, match=r"error is of shape \(3, 2, 3, 3\), .* of shape \(2, "):
        layers[1].repeat(np.zeros((3, 2, 3, 3)))


@pytest.mark.parametrize("layer", [MaxPool(2), AveragePool(2), ReLU(), Flatten(), Dropout()])
def test_an_error_before_the_first_forward_pass_is_refused(layer: Layer) -> None:
    with pytest.raises(Rot180Error, match=r"\(1, 1, 2, 2\), .* \(0,\)\. Go forward first"):
        layer.backward(np.zeros((1, 1, 2, 2)))


def test_whole_numbers_are_taken_as_floating_ones() -> None:
    rng = np.random.default_rng(0)
    x, labels = rng.integers(0, 255, (5, 3, 12, 12), np.uint8), classes(5, 5)
    actual, expected = (two_convolutions(seeded(TwoConvolutions)) for _ in range(2))
    _, gradients = expected.five_steps(x.astype(np.float64), labels)
    for name, gradient in actual.five_steps(x, labels)[1].items():
        assert np.array_equal(gradient, gradients[name])
    assert np.array_equal(actual.scores(x), expected.scores(x.astype(np.float64)))


# The network around them.


def test_layers_without_names_are_called_by_their_kind_and_number() -> None:
    net = Network([Convolution(1, 2, 3), ReLU(), Flatten(), Dense(8, 2)])
    assert list(net.layers) == ["convolution1", "relu2", "flatten3", "dense4"]
    assert list(net.weights) == ["convolution1.w", "convolution1.b", "dense4.w", "dense4.b"]


def test_loaded_weights_are_copied_into_the_arrays_that_the_network_has() -> None:
    net = small()
    kept = net.weights
    others = {name: normal(*w.shape, seed=5) for name, w in kept.items()}
    net.load(others)
    assert all(net.weights[name] is w for name, w in kept.items())
    assert all(np.array_equal(kept[name], w) for name, w in others.items())
    x = normal(2, 6)
    before = net.scores(x)
    others["head.b"] += 1
    assert np.array_equal(net.scores(x), before)
    kept["head.b"][...] += 1
    assert relative(net.scores(x), before + 1) < 1e-14


@settings(max_examples=10, deadline=None)
@given(n=st.integers(1, 9), batch=st.integers(1, 10))
def test_scores_do_not_depend_on_the_size_of_batches(n: int, batch: int) -> None:
    net, x = varied(3), normal(n, 2, 11, 10)
    net.input(x)
    assert relative(net.scores(x, batch), varied(3).scores(x, 64)) < 1e-12


def test_a_replica_has_the_same_weights_and_other_activations() -> None:
    net = small()
    replica = net.replica()
    assert all(replica.weights[name] is w for name, w in net.weights.items())
    out = net.five_steps(normal(3, 6), [0, 1, 2])[0].copy()
    a = {name: a.copy() for name, a in net.a.items()}
    replica.five_steps(normal(3, 6, seed=1), [0, 1, 2])
    assert all(np.array_equal(net.a[name], a) for name, a in a.items())
    assert np.array_equal(net.five_steps(normal(3, 6), [0, 1, 2])[0], out)
