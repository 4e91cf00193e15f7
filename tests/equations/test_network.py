"""The five steps give the gradients of the cost, and following them downhill learns."""

import itertools
from collections.abc import Callable

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
    Dense,
    Dropout,
    Flatten,
    MaxPool,
    Network,
    Optimizer,
    Orthogonal,
    Quadratic,
    ReLU,
    Sigmoid,
    SoftmaxCrossEntropy,
    Tanh,
    Team,
    softmax,
)
from rot180.equations.optimizers import orthogonalised
from rot180.networks import optimizer as of_pytorch
from tests.equations.cases import Array, bordered, by_autograd, normal, relative, tensor
from tests.models import TwoConvolutions, seeded

seeds = st.integers(0, 99)


def classes(count: int, n: int, seed: int = 0) -> Array:
    """Draw class numbers."""
    return np.random.default_rng(seed).integers(0, count, n)


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
    """Name PyTorch's tensors as the equations do, and turn kernels that are to be convolved."""
    found = {}
    for name, one in tensors.items():
        turned = one.flip(-2, -1) if operation == "convolution" and one.ndim == 4 else one
        layer, _, kind = name.rpartition(".")
        found[f"{layer}.{kind[0]}"] = turned.numpy()
    return found


# The five steps.


@pytest.mark.parametrize("operation", ["correlation", "convolution"])
@settings(max_examples=25, deadline=None)
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
    for again in range(2):  # the buffers are those of the first time
        x, labels = normal(n + again, 3, 12, 12, seed=seed + again), classes(5, n + again, seed)
        scores = model(torch.from_numpy(x))
        wanted = F.cross_entropy(
            scores, torch.from_numpy(labels), reduction="none", label_smoothing=smoothing
        )
        model.zero_grad()
        wanted.mean().backward()
        costs, gradients = net.five_steps(x, labels)
        assert relative(costs, wanted.detach().numpy()) < 1e-10
        for name, module in model.named_children():
            assert relative(net.a[name], outputs[module].detach().numpy()) < 1e-10
            assert relative(net.delta[name], outputs[module].grad.numpy()) < 1e-10
        by_name = {name: one.grad for name, one in model.named_parameters()}
        of_model = as_equations(by_name, operation)
        assert gradients.keys() == of_model.keys() == net.weights.keys()
        for name, one in of_model.items():
            assert relative(gradients[name], one) < 1e-10


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


@settings(max_examples=25, deadline=None)
@given(n=st.integers(1, 5), seed=seeds)
def test_a_network_of_other_layers_as_autograd(n: int, seed: int) -> None:
    net = varied(seed)
    x, y = normal(n, 2, 11, 10, seed=seed + 1), normal(n, 3, seed=seed + 2)
    w = {name: tensor(one) for name, one in net.weights.items()}
    a = bordered(torch.from_numpy(x), ((0, 3), (1, 0)))
    a = F.avg_pool2d(torch.tanh(F.conv2d(a, w["stem.w"], w["stem.b"], (2, 1))), (1, 2))
    a = bordered(a, ((1, 0), (2, 1)))  # the odd ones at the top and left: the kernel is turned
    a = F.conv2d(a, w["narrow.w"].flip(-2, -1), w["narrow.b"], groups=2)
    a = F.max_pool2d(torch.sigmoid(a), 3, 2, 1).flatten(1)
    a = F.linear(F.relu(F.linear(a, w["hidden.w"], w["hidden.b"])), w["head.w"], w["head.b"])
    wanted = 0.5 * ((a - torch.from_numpy(y)) ** 2).sum(1)
    wanted.mean().backward()
    costs, gradients = net.five_steps(x, y)
    assert relative(costs, wanted.detach().numpy()) < 1e-10
    assert gradients.keys() == w.keys()
    for name, one in w.items():
        assert relative(gradients[name], one.grad.numpy()) < 1e-10


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
    assert all(np.array_equal(one, gradients[name]) for name, one in net.gradient().items())


def test_the_mean_may_be_over_more_images_than_a_part_has() -> None:
    net, x, y = varied(0), normal(6, 2, 11, 10), normal(6, 3)
    whole = {name: one.copy() for name, one in net.five_steps(x, y)[1].items()}
    total = {name: np.zeros_like(one) for name, one in whole.items()}
    for part in (slice(0, 4), slice(4, 6)):
        for name, one in net.five_steps(x[part], y[part], images=6)[1].items():
            total[name] += one
    assert all(relative(total[name], one) < 1e-12 for name, one in whole.items())


# Costs.


@settings(max_examples=40, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 6), st.integers(2, 7)),
    smoothing=st.sampled_from([0.0, 0.1, 0.5]),
    scale=st.sampled_from([1.0, 1e3]),
    seed=seeds,
)
def test_softmax_and_cross_entropy_as_pytorch(shape, smoothing, scale, seed) -> None:
    n, count = shape
    z, labels = scale * normal(n, count, seed=seed), classes(count, n, seed)
    shares = softmax(normal(n, count, seed=seed + 1))
    cost = SoftmaxCrossEntropy(smoothing)
    for given_, y in ((labels, torch.from_numpy(labels)), (shares, torch.from_numpy(shares))):

        def function(z: Tensor, y: Tensor = y) -> Tensor:
            return F.cross_entropy(z, y, reduction="none", label_smoothing=smoothing)

        wanted, delta, of_z = by_autograd(function, z)
        target = cost.target(given_, z)
        assert relative(cost.of(z, target), wanted, least=1.0) < 1e-10
        assert relative(cost.error(z, target) * delta[:, None], of_z, least=1.0) < 1e-10


@settings(max_examples=20, deadline=None)
@given(shape=st.tuples(st.integers(1, 6), st.integers(1, 7)), seed=seeds)
def test_the_quadratic_cost_is_half_the_squared_distance(shape, seed) -> None:
    a, y = normal(*shape, seed=seed), normal(*shape, seed=seed + 1)
    cost = Quadratic()
    wanted, delta, of_a = by_autograd(lambda x: 0.5 * (x - torch.from_numpy(y)).square().sum(1), a)
    assert relative(cost.of(a, cost.target(y, a)), wanted) < 1e-10
    assert relative(cost.error(a, y) * delta[:, None], of_a) < 1e-10


def test_the_output_error_of_softmax_and_cross_entropy_is_a_minus_y() -> None:
    net = two_convolutions(seeded(TwoConvolutions))
    labels = np.array([4, 0, 2])
    net.input(normal(3, 3, 12, 12))
    z = net.feed_forward().copy()
    net.output_error(labels)
    y = np.array([[0, 0, 0, 0, 1], [1, 0, 0, 0, 0], [0, 0, 1, 0, 0]])
    a = np.exp(z) / np.exp(z).sum(1, keepdims=True)
    assert relative(net.delta["head"], (a - y) / 3) < 1e-14


def test_a_softmax_adds_to_one_and_does_not_overflow() -> None:
    z = np.array([[1e4, -1e4, 0], [710, 711, 712], [-1e300, 0, -1e300], [5, 5, 5]])
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        a = softmax(z)
        costs = SoftmaxCrossEntropy().of(z, np.eye(3)[[1, 2, 1, 0]])
    assert np.allclose(a.sum(1), 1, rtol=1e-14)
    assert np.allclose(a[[0, 2, 3]], [[1, 0, 0], [0, 1, 0], [1 / 3] * 3], rtol=1e-14)
    assert np.allclose(costs[[0, 2, 3]], [2e4, 0, np.log(3)], rtol=1e-14)


def test_class_numbers_are_the_same_as_ones_in_the_places_of_the_classes() -> None:
    z, labels = normal(5, 4), np.array([3, 0, 1, 1, 2], np.uint8)
    for cost in (Quadratic(), SoftmaxCrossEntropy(), SoftmaxCrossEntropy(0.2)):
        target = cost.target(labels, z)
        assert np.array_equal(target, cost.target(np.eye(4)[labels], z))
        assert np.allclose(target.sum(1), 1, rtol=1e-14)
        assert np.array_equal(target, cost.target([3, 0, 1, 1, 2], z))


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
        (np.zeros((3, 4)), r"output is of shape \(3, 5\), what it should be of shape \(3, 4\)"),
        (np.zeros((2, 5)), r"\(3, 5\), .* \(2, 5\); give the same shape, or one class number"),
        ([0.0, 1.0, 2.0], r"\(3, 5\), .* of shape \(3,\); give .* or one class number an image"),
    ],
)
def test_labels_that_do_not_fit(labels: object, words: str) -> None:
    for net in (small(), Network(small().layers, Quadratic())):
        with pytest.raises(Rot180Error, match=words):
            net.five_steps(normal(3, 6), labels)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (
            lambda: small().fit(normal(3, 6), np.zeros(2, int)),
            "3 images and 2 labels to learn from",
        ),
        (
            lambda: small().fit(normal(3, 6), np.zeros(4, int)),
            "3 images and 4 labels to learn from",
        ),
        (
            lambda: small().fit(normal(0, 6), np.zeros(0, int)),
            "0 images and 0 labels to learn from",
        ),
        (
            lambda: small().fit(normal(2, 6), np.zeros(2, int), epochs=0),
            "0 epochs in batches of 32",
        ),
        (lambda: small().fit(normal(2, 6), np.zeros(2, int), batch=0), "1 epochs in batches of 0"),
        (lambda: small().fit(normal(2, 6), np.array([0, 5])), "Label 5 of image . is no class"),
        (
            lambda: small().fit(normal(2, 6), np.array([0, 1]), threads=0),
            "0 threads and parts of 8",
        ),
        (lambda: Team(small(), part=0), "1 threads and parts of 0 images: both are at least 1"),
        (lambda: Network([]), "one layer at least"),
        (lambda: SoftmaxCrossEntropy(1.0), "between 0 and 1, not at 1.0"),
        (lambda: SGD(0.0), "learning rate has to be positive, not 0.0"),
        (lambda: Adam(-1.0), "learning rate has to be positive, not -1.0"),
    ],
)
def test_what_does_not_fit_is_said_with_its_values(call: Callable[[], object], words: str) -> None:
    with pytest.raises(Rot180Error, match=words):
        call()


def test_weights_that_are_not_those_of_the_network_are_refused() -> None:
    net = small()
    before = {name: one.copy() for name, one in net.weights.items()}
    wrong = {**before, "head.w": np.zeros((4, 5))}
    with pytest.raises(Rot180Error, match=r"'head.w' are \(4, 5\); in this network .* \(5, 4\)"):
        net.load(wrong)
    with pytest.raises(Rot180Error, match=r"'other.w' are \(1,\); in this network .* missing"):
        net.load({**before, "other.w": np.zeros(1)})
    with pytest.raises(Rot180Error, match=r"'head.b' are missing; .* It has head.b,"):
        net.load({name: one for name, one in before.items() if name != "head.b"})
    assert all(np.array_equal(net.weights[name], one) for name, one in before.items())


@pytest.mark.parametrize(
    ("weights", "value", "first"),
    [
        ("conv1.b", np.nan, "conv1"),
        ("conv2.w", np.nan, "conv2"),
        ("conv2.b", np.inf, "conv2"),
        ("conv2.w", -np.inf, "conv2"),
        ("head.b", np.inf, "head"),
    ],
)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_cost_that_is_not_finite_names_the_first_layer(weights, value, first) -> None:
    net = two_convolutions(seeded(TwoConvolutions))
    net.weights[weights][1] = value
    with pytest.raises(
        Rot180Error, match=rf"not finite. .*: the output of '{first}', entry \[0, 1"
    ):
        net.five_steps(normal(3, 3, 12, 12), np.array([0, 1, 2]))
    with pytest.raises(Rot180Error, match=rf"the output of '{first}', .* Lower the learning rate"):
        net.fit(normal(3, 3, 12, 12), np.array([0, 1, 2]), threads=2)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_cost_that_is_not_finite_names_the_images(value: float) -> None:
    net, x = two_convolutions(seeded(TwoConvolutions)), normal(3, 3, 12, 12)
    x[1, 2, 3, 4] = x[2, 0, 0, 0] = value
    words = rf"the images, entry \[1, 2, 3, 4\] = {value} \(2 of 1296\). Look at the data"
    with pytest.raises(Rot180Error, match=words):
        net.five_steps(x, np.array([0, 1, 2]))


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_scores_that_are_too_large_for_the_cost_are_named_too() -> None:
    net = Network([Dense(1, 2)])
    net.weights["dense1.w"][...] = [[1e308], [-1e308]]
    with pytest.raises(Rot180Error, match="although all activations are: they are too large"):
        net.five_steps(np.ones((1, 1)), [1])


# The network around them.


def test_layers_without_names_are_called_by_their_kind_and_number() -> None:
    net = Network([Convolution(1, 2, 3), ReLU(), Flatten(), Dense(8, 2)])
    assert list(net.layers) == ["convolution1", "relu2", "flatten3", "dense4"]
    assert list(net.weights) == ["convolution1.w", "convolution1.b", "dense4.w", "dense4.b"]


def test_loaded_weights_are_copied_into_the_arrays_that_the_network_has() -> None:
    net = small()
    kept = net.weights
    others = {name: normal(*one.shape, seed=5) for name, one in kept.items()}
    net.load(others)
    assert all(net.weights[name] is one for name, one in kept.items())
    assert all(np.array_equal(kept[name], one) for name, one in others.items())
    x = normal(2, 6)
    before = net.scores(x)
    others["head.b"] += 1
    assert np.array_equal(net.scores(x), before)
    kept["head.b"] += 1
    assert relative(net.scores(x), before + 1) < 1e-14


@settings(max_examples=15, deadline=None)
@given(n=st.integers(1, 9), part=st.integers(1, 10))
def test_scores_do_not_depend_on_the_parts(n: int, part: int) -> None:
    net, x = varied(3), normal(n, 2, 11, 10)
    net.input(x)
    assert relative(net.scores(x, part), varied(3).scores(x, 64)) < 1e-12


def test_nothing_is_dropped_once_it_is_trained() -> None:
    net, x = dropping(), normal(20, 6)
    net.training(True)
    assert not np.array_equal(net.five_steps(x, classes(3, 20))[0], 0)
    assert np.array_equal(net.scores(x), net.scores(x))
    kept = Network({name: one for name, one in net.layers.items() if name != "dropout"})
    assert np.array_equal(net.scores(x), kept.scores(x))
    net.fit(x, classes(3, 20))
    assert np.array_equal(net.scores(x), kept.scores(x))
    labels = kept.scores(x).argmax(1)
    labels[:5] = (labels[:5] + 1) % 3
    assert net.accuracy(x, labels) == 0.75


def test_a_twin_network_has_the_same_weights_and_other_activations() -> None:
    net = small()
    twin = net.twin()
    assert all(twin.weights[name] is one for name, one in net.weights.items())
    out = net.five_steps(normal(3, 6), [0, 1, 2])[0].copy()
    a = {name: one.copy() for name, one in net.a.items()}
    twin.five_steps(normal(3, 6, seed=1), [0, 1, 2])
    assert all(np.array_equal(net.a[name], one) for name, one in a.items())
    assert np.array_equal(net.five_steps(normal(3, 6), [0, 1, 2])[0], out)


# Training.


OPTIMIZERS: dict[str, Callable[[], Optimizer]] = {
    "descent": lambda: SGD(0.5),
    "momentum": lambda: SGD(0.1, momentum=0.9),
    "nesterov": lambda: SGD(0.1, momentum=0.9, nesterov=True),
    "adam": lambda: Adam(0.03),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("last", [Sigmoid, Tanh])
def test_exclusive_or_is_learned(name: str, last: type[Sigmoid] | type[Tanh]) -> None:
    rng = np.random.default_rng(1)
    net = Network([Dense(2, 8, rng), Tanh(), Dense(8, 1, rng), last()], Quadratic())
    x, y = np.array([[0.0, 0], [0, 1], [1, 0], [1, 1]]), np.array([[0.0], [1], [1], [0]])
    rounds = 300 if last is Tanh else 1500
    history = net.fit(x, y, epochs=rounds, batch=4, optimizer=OPTIMIZERS[name]())
    assert np.abs(net.scores(x) - y).max() < 0.2
    assert history[-1]["cost"] < history[0]["cost"] / 10


def stripes(n: int, seed: int) -> tuple[Array, Array]:
    """Draw noisy stripes, upright (class 0) or level (class 1), of any phase."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, n)
    wave = np.sin(np.arange(8) * 1.5 + rng.uniform(0, 6, (n, 1)))
    level = np.broadcast_to(wave[:, :, None], (n, 8, 8))
    pattern = np.where(labels[:, None, None] == 0, level.transpose(0, 2, 1), level)
    return (pattern + rng.normal(0, 0.3, pattern.shape))[:, None], labels


def striped(seed: int = 0) -> Network:
    """Return a network that can tell stripes."""
    rng = np.random.default_rng(seed)
    return Network(
        {
            "conv": Convolution(1, 4, 3, rng=rng),
            "relu": ReLU(),
            "pool": MaxPool(2),
            "flatten": Flatten(),
            "head": Dense(4 * 9, 2, rng),
        }
    )


@pytest.mark.parametrize("name", [*OPTIMIZERS, "default"])
def test_stripes_are_learned_with_a_convolution(name: str) -> None:
    net, (x, labels), told = striped(), stripes(640, 0), []
    optimizer = {**OPTIMIZERS, "default": lambda: None}[name]()
    history = net.fit(
        x, labels, epochs=4, batch=16, optimizer=optimizer, told=lambda *values: told.append(values)
    )
    assert net.accuracy(*stripes(200, 1)) > 0.95
    assert [tuple(one.values()) for one in history] == told
    assert [list(one) for one in history] == [["epoch", "cost", "accuracy"]] * 4
    assert [one["epoch"] for one in history] == [1, 2, 3, 4]
    assert history[-1]["cost"] < history[0]["cost"]
    assert 0.95 < history[-1]["accuracy"] <= 1


def test_the_history_is_that_of_the_images_as_they_were_met() -> None:
    net, (x, labels) = striped(), stripes(50, 0)
    costs, _ = striped().five_steps(x, labels)
    right = (striped().scores(x).argmax(1) == labels).mean()
    (found,) = net.fit(x, labels, batch=16, optimizer=SGD(1e-300))  # nothing moves
    assert found["cost"] == pytest.approx(costs.mean(), rel=1e-12)
    assert found["accuracy"] == right


def test_one_step_goes_downhill_by_the_rate_times_the_gradient() -> None:
    net, (x, labels) = striped(), stripes(30, 0)
    _, gradients = striped().five_steps(x, labels)
    net.fit(x, labels, batch=30, optimizer=SGD(0.25))
    for name, one in striped().weights.items():
        assert relative(net.weights[name], one - 0.25 * gradients[name]) < 1e-12


def dropping(seed: int = 0) -> Network:
    """Return a network with 6 inputs and 3 classes that drops."""
    rng = np.random.default_rng(seed)
    layers = {"hidden": Dense(6, 20, rng), "tanh": Tanh(), "dropout": Dropout(0.4)}
    return Network({**layers, "head": Dense(20, 3, rng)})


def test_the_seed_decides() -> None:
    x, labels = normal(40, 6), classes(3, 40)
    found = []
    for seed, threads in ((1, 1), (1, 1), (2, 1), (1, 3), (1, 3)):
        net = dropping()
        net.fit(x, labels, epochs=3, batch=16, seed=seed, threads=threads)
        found.append(net.weights)
    for name in found[0]:
        assert np.array_equal(found[0][name], found[1][name])
        assert np.array_equal(found[3][name], found[4][name])  # whichever thread came first
        assert relative(found[3][name], found[0][name]) < 1e-10
        assert relative(found[2][name], found[0][name]) > 1e-3


# The team.


def flat(arrays: dict[str, Array]) -> Array:
    """Return all numbers in one row, in the order of the names."""
    return np.concatenate([arrays[name].ravel() for name in sorted(arrays)])


@settings(max_examples=40, deadline=None)
@given(
    batches=st.lists(st.integers(1, 30), min_size=1, max_size=3),
    threads=st.integers(1, 4),
    part=st.integers(1, 31),
    seed=seeds,
)
def test_a_team_finds_what_one_finds_alone(batches, threads: int, part: int, seed: int) -> None:
    alone, together = striped(seed), striped(seed)
    with Team(together, threads, part) as team:
        for number, n in enumerate(batches):
            x, labels = stripes(n, seed + number)
            costs, gradients = alone.five_steps(x, labels)
            found = team.five_steps(x, labels)
            assert relative(flat(found.gradients), flat(gradients)) < 1e-12
            assert found.cost == pytest.approx(costs.mean(), rel=1e-12)
            assert (found.images, found.right) == (n, (alone.a["head"].argmax(1) == labels).sum())
            for one in alone.weights, together.weights:  # a team sees what becomes of the weights
                one["conv.w"] *= 1.5
                one["head.b"] += 0.25


@settings(max_examples=20, deadline=None)
@given(threads=st.integers(2, 4), part=st.integers(1, 12), seed=seeds)
def test_what_is_dropped_does_not_depend_on_the_number_of_threads(threads, part, seed) -> None:
    x, labels = normal(30, 6, seed=seed), classes(3, 30, seed)
    with (
        Team(dropping(), 1, part, seed) as one,
        Team(dropping(), threads, part, seed) as many,
        Team(dropping(), 1, part, seed + 1) as other,
    ):
        steps = []
        for _ in range(3):
            wanted, found, apart = (
                flat(team.five_steps(x, labels).gradients) for team in (one, many, other)
            )
            assert relative(found, wanted) < 1e-12
            assert relative(apart, wanted) > 1e-3
            steps.append(wanted)
    for first, second in itertools.pairwise(steps):
        assert relative(first, second) > 1e-3  # drawn anew in each step


def test_parts_of_a_batch_do_not_drop_the_same() -> None:
    net = Network({"dropout": Dropout(0.5), "head": Dense(50, 2)})
    net.weights["head.w"][...] = 0
    x, labels = np.ones((2, 50)), np.array([0, 0])
    with Team(net, part=1) as team:
        found = team.five_steps(x, labels).gradients["head.w"]
    # To each weight an image adds nothing or its error, which is 1/2 here; its sign is the class's.
    assert np.array_equal(np.unique(found.round(12)), [-1, -0.5, 0, 0.5, 1])


# Steps downhill.


SHAPES = {"dense.w": (4, 3), "conv.w": (5, 3, 2, 2), "conv.b": (5,)}


def both(
    optimizer: Optimizer,
    of_torch: Callable[[dict[str, Tensor]], torch.optim.Optimizer],
    shapes: dict[str, tuple[int, ...]] = SHAPES,
) -> None:
    """Take five steps with either and compare the weights after each."""
    weights = {name: normal(*shape, seed=n) for n, (name, shape) in enumerate(shapes.items())}
    kept = dict(weights)
    tensors = {name: tensor(one) for name, one in weights.items()}
    other = of_torch(tensors)
    for step in range(5):
        gradients = {name: normal(*one, seed=100 + step) for name, one in shapes.items()}
        before = {name: one.copy() for name, one in gradients.items()}
        if step == 3:  # the rate may change on the way
            optimizer.rate *= 0.3
            for group in other.param_groups:
                group["lr"] *= 0.3
        for name, one in tensors.items():
            one.grad = torch.from_numpy(gradients[name].copy())
        optimizer.step(weights, gradients)
        other.step()
        for name, one in tensors.items():
            assert weights[name] is kept[name]
            assert relative(weights[name], one.detach().numpy()) < 1e-10
            assert np.array_equal(gradients[name], before[name])


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_descent_as_pytorch_with_no_decay_of_biases(momentum, nesterov, decay) -> None:
    nesterov = nesterov and momentum > 0

    def of_torch(tensors: dict[str, Tensor]) -> torch.optim.Optimizer:
        groups = [
            {"params": [one], "weight_decay": decay if one.ndim > 1 else 0.0}
            for one in tensors.values()
        ]
        return torch.optim.SGD(groups, lr=0.1, momentum=momentum, nesterov=nesterov)

    both(SGD(0.1, momentum, nesterov, decay), of_torch)


@pytest.mark.parametrize("settings_", [(0.001, 0.9, 0.999, 1e-8), (0.1, 0.5, 0.7, 1e-3)])
def test_adam_as_pytorch(settings_: tuple[float, float, float, float]) -> None:
    rate, beta1, beta2, epsilon = settings_
    both(
        Adam(*settings_),
        lambda tensors: torch.optim.Adam(tensors.values(), rate, (beta1, beta2), epsilon),
    )


@pytest.mark.parametrize("momentum", [0.95, 0.5])
def test_orthogonal_steps_as_those_of_the_pytorch_engine(momentum: float) -> None:
    both(
        Orthogonal(0.02, momentum),
        lambda tensors: of_pytorch.Orthogonal(tensors.values(), 0.02, momentum),
        {"wide": (4, 3, 3, 2), "tall": (9, 1, 2, 2), "matrix": (5, 5)},
    )


@pytest.mark.parametrize("shape", [(32, 75), (75, 32), (5, 5), (1, 9)])
def test_orthogonalised_matrices_have_singular_values_near_one(shape: tuple[int, int]) -> None:
    matrix = normal(*shape)
    found = orthogonalised(matrix)
    wanted = of_pytorch.orthogonalised(torch.from_numpy(matrix)).numpy()
    assert relative(found, wanted) < 1e-10
    values = np.linalg.svd(found, compute_uv=False)
    assert values.min() > 0.5
    assert values.max() < 1.3


@pytest.mark.parametrize("make", [lambda: SGD(0.1, 0.9), Adam, Orthogonal])
def test_all_that_is_remembered_is_in_the_state(make: Callable[[], Optimizer]) -> None:
    whole, first = make(), make()
    weights = {name: normal(*shape) for name, shape in SHAPES.items()}
    again = {name: one.copy() for name, one in weights.items()}
    gradients = [
        {name: normal(*shape, seed=step) for name, shape in SHAPES.items()} for step in range(4)
    ]
    for one in gradients:
        whole.step(weights, one)
    for one in gradients[:2]:
        first.step(again, one)
    assert all(key.rpartition("/")[0] in SHAPES for key in first.state)
    second = make()
    second.state = {key: one.copy() for key, one in first.state.items()}
    for one in gradients[2:]:
        second.step(again, one)
    assert all(np.array_equal(weights[name], one) for name, one in again.items())
